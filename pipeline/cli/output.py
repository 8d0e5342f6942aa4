"""How commands answer: one JSON object on stdout with --json, a readable form without; exit codes by meaning."""

import functools
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.errors import NightshiftError

Answer = Mapping[str, Any]
_JSON = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]


def command(app: typer.Typer, name: str | None = None, *, ok: Callable[[Answer], bool] = lambda _: True) -> Any:
    """Returns a decorator that makes a function a command.

    The function returns its answer as plain values. Where `ok` of it is false, the exit code is 1.
    """

    def decorate(function: Callable[..., Answer]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, as_json: bool = False, **options: Any) -> None:
            try:
                answer = function(*arguments, **options)
            except NightshiftError as error:
                if as_json:
                    print_json({"error": {"what": error.what, **_plain(error.details)}})
                print(f"nightshift: {error}", file=sys.stderr)  # noqa: T201
                raise typer.Exit(error.exit_code) from None
            print_json(answer) if as_json else show(answer)
            if not ok(answer):
                raise typer.Exit(1)

        signature = inspect.signature(function)
        flag = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_JSON)
        wrapped.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*signature.parameters.values(), flag], return_annotation=None
        )
        wrapped.__annotations__ = {**function.__annotations__, "as_json": _JSON, "return": None}
        app.command(name)(wrapped)
        return wrapped

    return decorate


def run(app: typer.Typer) -> None:
    """Runs the app with logs on stderr and exits. A pipe that its reader closed is no error."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def print_json(value: Any) -> None:
    """Prints one JSON object on stdout."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, indent=2) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None or key != "next"}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def show(answer: Answer) -> None:
    """Prints an answer for a person: scalars as lines, lists of records as tables."""
    console = Console(highlight=False)
    for key, value in answer.items():
        records = isinstance(value, list | tuple) and value and all(isinstance(row, Mapping) for row in value)
        if records:
            _table(console, key, list(value))
        elif isinstance(value, Mapping) and any(isinstance(inner, Mapping | list) for inner in value.values()):
            console.print(f"[bold]{key}[/bold]")
            for inner_key, inner in value.items():
                console.print(f"  {inner_key}: {_short(inner)}", markup=False)
        else:
            console.print(f"{key}: {_short(value)}", markup=False)


def _table(console: Console, title: str, records: list[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in records for key in row))
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in records:
        table.add_row(*[_short(row.get(column)) for column in columns])
    console.print(table)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(_plain(value), ensure_ascii=False)
    return str(value)
