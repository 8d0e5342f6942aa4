"""Findings: what checks and commits have to say of rows, by file, line and rule. Never the text of a row."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from psycopg.types.json import Jsonb

from pipeline import database
from pipeline.data.rules import Severity
from pipeline.database import Connection

_BATCH = 10_000  # findings a statement


@dataclass(frozen=True)
class Finding:
    """One thing to know about a row, a document or a source."""

    file: str
    line: int | None
    rule: str
    severity: Severity
    detail: str
    digest: str | None  # of a row that could be read, or of what a person is to accept


def record(connection: Connection, use_case: str, run_id: UUID, findings: Iterable[Finding]) -> None:
    """Writes a run's findings. A second attempt of the run that finds the same writes nothing twice."""
    rows = (finding.__dict__ for finding in findings)
    while batch := list(islice(rows, _BATCH)):
        parameters = {"use_case": use_case, "run": str(run_id), "findings": Jsonb(batch)}
        database.execute(connection, "data", "insert_findings", **parameters)


@dataclass(frozen=True)
class RecordedFinding:
    """A finding, by its number."""

    finding: int
    file: str
    line: int | None
    rule: str
    severity: Severity
    detail: str


def of_runs(connection: Connection, runs: Iterable[UUID]) -> list[RecordedFinding]:
    """Returns what these runs rejected or set aside until a person accepts it."""
    rows = database.fetch(connection, "data", "findings_of_runs", runs=sorted(map(str, runs)))
    return [RecordedFinding(**row) for row in rows]
