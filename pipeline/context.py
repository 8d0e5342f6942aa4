"""The context of a stage's work: for which use case, on which installation, and who asked for it."""

from dataclasses import dataclass

from pipeline.settings import Settings
from pipeline.steps import Origin, Reuse
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class Context:
    """What every stage is called with."""

    settings: Settings
    usecase: UseCase
    origin: Origin  # who asked, and where it runs
    reuse: Reuse = "auto"  # whether an earlier run may answer
