"""Named queries. They stand in sql/queries/*.sql, in psql's own form, so that each can be pasted into psql as it is.

A query begins with a line `-- name --`, followed by comment lines that say what it answers. A parameter is written
`:'name'`, psql's quoted variable, and is sent to the server as a bound parameter, never as text.
"""

import re
from dataclasses import dataclass
from functools import cache

from pipeline.errors import BadInput, nearest
from pipeline.settings import ROOT

QUERIES = ROOT / "sql" / "queries"
_HEADER = re.compile(r"^-- ([a-z][a-z0-9_]*) --$", re.MULTILINE)
_PARAMETER = re.compile(r":'([a-z_]+)'")


@dataclass(frozen=True)
class Query:
    """One named query."""

    name: str
    about: str  # the comment below its header
    text: str  # as it stands in the file
    parameters: tuple[str, ...]  # in order of first use

    @property
    def bound(self) -> str:
        """Returns the query with psycopg's placeholders."""
        return _PARAMETER.sub(r"%(\1)s", self.text.replace("%", "%%"))


def parse(source: str) -> dict[str, Query]:
    """Returns the queries of a file's text by name, in their order."""
    pieces = _HEADER.split(source)[1:]
    queries = {}
    for name, body in zip(pieces[::2], pieces[1::2], strict=True):
        lines = body.strip().splitlines()
        about = [line for line in lines if line.startswith("--")]
        text = "\n".join(line for line in lines if not line.startswith("--")).strip().rstrip(";")
        parameters = tuple(dict.fromkeys(_PARAMETER.findall(text)))
        queries[name] = Query(name, " ".join(line.lstrip("- ") for line in about), text, parameters)
    return queries


@cache
def load(file: str) -> dict[str, Query]:
    """Returns the queries of sql/queries/`file`.sql by name."""
    return parse((QUERIES / f"{file}.sql").read_text())


def query(file: str, name: str) -> str:
    """Returns one query's text with psycopg's placeholders.

    Raises BadInput where the file has no such query.
    """
    queries = load(file)
    if name not in queries:
        raise BadInput("unknown query", where=f"sql/queries/{file}.sql", found=name, allowed=nearest(name, queries))
    return queries[name].bound
