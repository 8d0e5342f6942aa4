"""How commands answer: one JSON object on stdout with --json, a readable form without; exit codes by meaning."""

import functools
import inspect
import json
import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.errors import NightshiftError
from pipeline.records import plain

Answer = Mapping[str, Any]
_LINE = 60  # characters; a longer list is one entry a line
_CELL = 24  # characters; a longer cell of a table is folded
_JSON = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]


def waiting(doing: str) -> AbstractContextManager[object]:
    """Returns a context that shows on standard error what is going on, where a person is looking on."""
    return Console(stderr=True).status(f"{doing} …") if sys.stderr.isatty() else nullcontext()


def command(
    app: typer.Typer,
    name: str | None = None,
    *,
    ok: Callable[[Answer], bool] = lambda _: True,
    view: Callable[[Answer], Answer] = lambda answer: answer,
) -> Any:
    """Returns a decorator that makes a function a command.

    The function returns its answer: a record, or a mapping of plain values. Where `ok` of it is false, the exit code is
    1. `view` makes of it what a person is shown; --json gets the answer as it is.
    """

    def decorate(function: Callable[..., object]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, as_json: bool = False, **options: Any) -> None:
            try:
                answer: Answer = plain(function(*arguments, **options))
            except NightshiftError as error:
                if as_json:
                    print_json({"error": {"what": error.what, **_details(error)}})
                print(f"nightshift: {error}", file=sys.stderr)  # noqa: T201
                raise typer.Exit(error.exit_code) from None
            if as_json:
                print_json(answer)
            else:
                show(view(answer))
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


FAULT = 70  # EX_SOFTWARE of sysexits.h: a fault of this product, and no answer


def run(app: typer.Typer) -> None:
    """Runs the app with logs on stderr and exits. A pipe that its reader closed is no error; whatever this product did
    not expect ends with 70, which no answer ends with, and a report in a file."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("pipeline").setLevel(logging.INFO)  # how far the work is; of libraries only what they warn of
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        report = _report(error)
        print(  # noqa: T201
            f"nightshift: a fault of Nightshift itself: {type(error).__name__}\n  report: {report}\n"
            "  next: nothing half-done was kept; send the report to whoever maintains this installation",
            file=sys.stderr,
        )
        sys.exit(FAULT)


def _report(error: BaseException) -> Path:
    """Returns the file that says where the fault lies: versions, the command's name and the frames. No message and no
    argument is in it: they may quote a row, or a secret."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    chain = [type(error).__name__]
    cause = error.__cause__ or error.__context__
    while cause is not None and len(chain) < 10:
        chain.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    words = [word for word in sys.argv[1:3] if word.isidentifier()]
    lines = [
        f"nightshift {version('nightshift')}, Python {sys.version.split()[0]}",
        f"command: {' '.join(words)}",
        f"error: {' <- '.join(chain)}",
        *frames,
    ]
    with tempfile.NamedTemporaryFile("w", prefix="nightshift-fault-", suffix=".txt", delete=False) as file:
        file.write("\n".join(lines) + "\n")
    return Path(file.name)


def _details(error: NightshiftError) -> dict[str, str | list[str] | None]:
    """Returns what an error says of itself. A next step stands in it only where there is one."""
    details = {
        name: list(map(str, value)) if isinstance(value, list | tuple) else None if value is None else str(value)
        for name, value in error.details.items()
    }
    return {name: value for name, value in details.items() if value is not None or name != "next"}


def print_json(value: Any) -> None:
    """Prints one JSON object on stdout."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=2) + "\n")


def show(answer: Answer) -> None:
    """Prints an answer for a person: scalars as lines, mappings indented, lists of records as tables where they fit.

    Digests are cut to the twelve characters that every command takes; --json gives them whole.
    """
    console = Console(highlight=False, soft_wrap=True)
    for key, value in answer.items():
        _print(console, key, value, 0)


def _print(console: Console, key: str, value: Any, depth: int) -> None:
    margin = "  " * depth
    if isinstance(value, Mapping) and "version_id" not in value and _nested(value):
        console.print(f"{margin}{key}:", markup=False)
        for inner_key, inner in value.items():
            _print(console, str(inner_key), inner, depth + 1)
    elif isinstance(value, list | tuple) and value and all(isinstance(row, Mapping) for row in value):
        console.print(f"{margin}{key}:", markup=False)
        if not _fits(value, console.width):
            for place, row in enumerate(value, 1):
                _print(console, str(place), {**row}, depth + 1)
        else:
            console.print(_table(list(value)), soft_wrap=False)
    elif _long(value):
        console.print(f"{margin}{key}:", markup=False)
        for entry in value:
            console.print(f"{margin}  {_short(entry)}", markup=False)
    else:
        console.print(f"{margin}{key}: {_short(value)}", markup=False)


def _nested(value: Mapping[str, Any]) -> bool:
    return len(value) > 4 or any(isinstance(inner, Mapping | list | tuple) for inner in value.values())


def _fits(records: Sequence[Mapping[str, Any]], width: int) -> bool:
    """Returns whether records can be read as a table this wide: plain cells, and room for each column."""
    if any(isinstance(inner, Mapping) or _long(inner) for row in records for inner in row.values()):
        return False
    columns = {key: max(len(key), *(len(_short(row.get(key))) for row in records)) for row in records for key in row}
    return sum(min(needed, _CELL) + 3 for needed in columns.values()) <= width


def _long(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(_short(value)) > _LINE


def _table(records: list[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(key for row in records for key in row))
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(str(column), overflow="fold")
    for row in records:
        table.add_row(*[Text(_short(row.get(column))) for column in columns])
    return table


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        if {"version_id", "kind", "digest"} <= value.keys():
            return f"{value['kind']} {_short(value['digest'])} (version {value['version_id']})"
        return ", ".join(f"{key} {_short(inner)}" for key, inner in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value)) or "-"
    text = re.sub(r"^([0-9a-f]{12})[0-9a-f]{52}$", r"\1", str(value))
    return re.sub(r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)\.\d+(\+00:00)?$", r"\1 \2", text)
