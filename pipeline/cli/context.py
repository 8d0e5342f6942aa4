"""What most commands begin with: the settings, the use case, and who is asking."""

from dataclasses import dataclass

from pipeline import settings as settings_module
from pipeline import usecase as usecase_module
from pipeline.login import identity
from pipeline.settings import Settings
from pipeline.steps import Origin
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class Context:
    """One call of the command line on one use case."""

    settings: Settings
    usecase: UseCase

    @property
    def origin(self) -> Origin:
        """Returns who asked for what a command does: who is logged in, else the system's user, who is no person."""
        return Origin("cli", identity.current(self.settings).name)

    def person(self, what: str) -> str:
        """Returns who is logged in, for what a person answers for. Raises Refused where nobody is."""
        return identity.require(self.settings, what).name


def settings() -> Settings:
    """Returns the settings in force."""
    return settings_module.from_environment()


def context(name: str) -> Context:
    """Returns the context for a use case. Raises BadInput where there is none of this name or its YAML is wrong."""
    found = settings()
    return Context(found, usecase_module.find(found, name))
