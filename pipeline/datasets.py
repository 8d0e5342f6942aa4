"""Which dataset version is the newest: what training pins, and what a use case without suites is evaluated on."""

from dataclasses import dataclass

from pipeline import database, steps
from pipeline.database import Connection
from pipeline.steps import Version


@dataclass(frozen=True)
class DatasetVersion:
    """A version of a use case's examples."""

    number: int  # counts from 1 in each use case
    artifact: Version


def newest(connection: Connection, use_case: str) -> DatasetVersion | None:
    """Returns the newest dataset version of a use case, or None where nothing was committed yet."""
    row = database.fetch_one(connection, "datasets", "newest", use_case=use_case)
    if row is None:
        return None
    return DatasetVersion(row["version"], steps.version(connection, row["artifact_version_id"]))
