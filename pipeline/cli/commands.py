"""All commands. Each imports its stage when it is called, so that `nightshift --help` costs no second."""

from importlib.metadata import version
from typing import Annotated

import typer

from pipeline.cli import base_models, datasets, erasing, history, installation, people, stages

app = typer.Typer(
    name="nightshift",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Retrains, re-indexes, evaluates and documents a language-model assistant every night.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"nightshift {version('nightshift')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Retrains, re-indexes, evaluates and documents a language-model assistant every night."""


datasets.register(app)
stages.register(app)
erasing.register(app)
people.register(app)
history.register(app)
base_models.register(app)
installation.register(app)
