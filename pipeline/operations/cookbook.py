"""The SQL cookbook: the questions that users ask, each a named query in sql/queries/cookbook.sql, run as `reader`."""

from collections.abc import Mapping
from typing import Any

import psycopg

from pipeline import database, sql, usecase
from pipeline.database import Connection
from pipeline.errors import BadInput, nearest
from pipeline.records import plain
from pipeline.settings import Settings

_FILE = "cookbook"
_PLACE = "sql/queries/cookbook.sql"


def names() -> dict[str, dict[str, Any]]:
    """Returns what can be asked: name to {about, parameters}."""
    return {
        name: {"about": query.about, "parameters": list(query.parameters)} for name, query in sql.load(_FILE).items()
    }


def run(settings: Settings, name: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns the rows of a cookbook query as plain values, read by a login that sees views and no text.

    Raises BadInput for an unknown query, for a parameter that is missing or unknown, and for a value that the query
    cannot read, such as a date that is none.
    """
    known = sql.load(_FILE)
    if name not in known:
        raise BadInput("unknown query", where=_PLACE, found=name, allowed=nearest(name, known))
    wanted = known[name].parameters
    if unknown := sorted(params.keys() - set(wanted)):
        raise BadInput(
            "the query has no such parameter",
            where=f"{_PLACE}: {name}",
            found=", ".join(unknown),
            allowed=nearest(unknown[0], wanted) or "none",
        )
    if missing := [parameter for parameter in wanted if parameter not in params]:
        raise BadInput(
            "the query lacks a parameter",
            where=f"{_PLACE}: {name}",
            allowed=", ".join(missing),
            next_step=" ".join(f"--param {parameter}=…" for parameter in missing),
        )
    with database.connect(settings, "reader") as connection:
        _known_use_case(settings, connection, name, params)
        try:
            rows = database.fetch(connection, _FILE, name, **params)
        except psycopg.DataError as error:
            raise BadInput(
                "a parameter has no valid value", where=f"{_PLACE}: {name}", found=error.diag.message_primary
            ) from None
    return [{column: plain(value) for column, value in row.items()} for row in rows]


def _known_use_case(settings: Settings, connection: Connection, query: str, params: Mapping[str, str]) -> None:
    """Raises BadInput for a use case that has neither a YAML nor a run: no rows would look like an answer."""
    if "use_case" not in params:
        return
    rows = database.fetch(connection, "graph", "use_cases")
    known = {row["use_case"] for row in rows} | {path.parent.name for path in usecase.files(settings)}
    if params["use_case"] not in known:
        raise BadInput(
            "unknown use case",
            where=f"{_PLACE}: {query}, parameter use_case",
            found=params["use_case"],
            allowed=nearest(params["use_case"], known) or "none yet",
        )
