"""What most commands begin with: the settings, the use case, and who is asking."""

import getpass
from dataclasses import dataclass

from pipeline import settings as settings_module
from pipeline import usecase as usecase_module
from pipeline.lineage import Origin
from pipeline.settings import Settings
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class Context:
    """One call of the command line on one use case."""

    settings: Settings
    usecase: UseCase
    origin: Origin


def person() -> str:
    """Returns who is logged in on this machine: commands act in this name and take no other."""
    return getpass.getuser()


def settings() -> Settings:
    """Returns the settings in force."""
    return settings_module.from_environment()


def context(name: str) -> Context:
    """Returns the context for a use case. Raises BadInput where there is none of this name or its YAML is wrong."""
    found = settings()
    return Context(found, usecase_module.find(found, name), Origin("cli", person()))
