"""What most commands begin with: the settings, and the context of work on a use case."""

from pipeline import settings as settings_module
from pipeline import usecase
from pipeline.context import Context
from pipeline.login import identity
from pipeline.settings import Settings
from pipeline.steps import Origin


def settings() -> Settings:
    """Returns the settings in force."""
    return settings_module.from_environment()


def context_of(name: str, fresh: bool = False) -> Context:
    """Returns the context of a command's work on a use case, for who is logged in, else the system's user, who is no
    person. `fresh`: no earlier run may answer. Raises BadInput where there is no such use case or its YAML is wrong."""
    in_force = settings()
    origin = Origin("cli", identity.current(in_force).name)
    return Context(in_force, usecase.find(in_force, name), origin, "never" if fresh else "auto")


def person(context: Context, what: str) -> str:
    """Returns who is logged in, for what a person answers for. Raises Refused where nobody is."""
    return identity.require(context.settings, what).name
