"""Commands about base models: model list, pull and check."""

from typing import Annotated

import typer

from pipeline.cli.context import settings
from pipeline.cli.output import command


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the app."""
    model = typer.Typer(no_args_is_help=True, help="Base models: what there is, get one, check one.")
    app.add_typer(model, name="model")
    command(model, "list")(model_list)
    command(model, "pull")(model_pull)
    command(model, "check")(model_check)


def model_list() -> object:
    """Show the base models that are here or can be pulled by name."""
    from pipeline import catalogue

    return {"models": catalogue.listed(settings())}


def model_pull(
    what: Annotated[
        str, typer.Argument(metavar="NAME", help="A name of `model list`, a file *.gguf, or a Hugging Face id.")
    ],
    name: Annotated[str | None, typer.Option(help="What it is called here; for a file or an id.")] = None,
    revision: Annotated[str | None, typer.Option(help="The commit hash; for a Hugging Face id.")] = None,
) -> object:
    """Bring a base model into the home folder, as bfloat16 safetensors, with its origin and hashes on record."""
    from pipeline import catalogue

    return catalogue.pull(settings(), what, name=name, revision=revision)


def model_check(
    what: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or its folder.")],
) -> object:
    """Say what preflight would say of a base model, and what it takes."""
    from pipeline import catalogue

    return catalogue.check(settings(), what)
