"""One training, before it runs: what is trained, by what, in which passes, and where its checkpoints stand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.models import Device
from pipeline.training.records import Plan, RowCounts, Split
from pipeline.usecase import Price, Recipe


@dataclass(frozen=True)
class Passes:
    """How the rows of an optimizer step are passed through the model."""

    rows: int  # in one pass
    accumulation: int  # passes to a step

    def smaller(self) -> "Passes | None":
        """Returns the same step in passes of half the rows or fewer; None where a pass is of one."""
        whole = self.rows * self.accumulation
        rows = next((size for size in range(self.rows // 2, 0, -1) if whole % size == 0), None)
        return None if rows is None else Passes(rows, whole // rows)


@dataclass(frozen=True)
class Job:
    """One training: what is trained, by what, and where its checkpoints stand."""

    what: str  # "SFT", "DPO": as it is called in the log
    recipe: Recipe
    device: Device
    rows: Mapping[Split, RowCounts]
    root: Path  # of the checkpoints
    every: int  # steps between two evaluations
    build: Callable[[Passes], Any]  # the trainer, on the model as it is before the first step
    validated: bool
    plan: Plan | None = None
    price: Price | None = None
