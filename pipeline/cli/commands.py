"""All commands. Each imports its stage when it is called, so that `nightshift --help` costs no second."""

import typer

from pipeline.cli import installation, people, records, stages

app = typer.Typer(
    name="nightshift",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Retrains, re-indexes, evaluates and documents a language-model assistant every night.",
)
stages.register(app)
people.register(app)
records.register(app)
installation.register(app)
