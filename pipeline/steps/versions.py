"""Artifact versions and attempts, as the lineage has them."""

import uuid

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import NotAvailable
from pipeline.steps.records import Version


def outputs_of(connection: Connection, run_id: uuid.UUID | str) -> dict[str, Version]:
    """Returns a run's outputs by role."""
    rows = database.fetch(connection, "lineage", "run_outputs", run=str(run_id))
    return {row["role"]: Version(row["version_id"], row["kind"], row["name"], row["digest"]) for row in rows}


def latest(connection: Connection, use_case: str, kind: str, name: str) -> Version | None:
    """Returns the newest standing version of an artifact, or None."""
    row = database.fetch_one(connection, "lineage", "latest_version", use_case=use_case, kind=kind, name=name)
    return None if row is None else Version(row["version_id"], kind, name, row["digest"])


def version(connection: Connection, version_id: int) -> Version:
    """Returns the version with this id, which must exist."""
    row = database.fetch_one(connection, "lineage", "version_by_id", version_id=version_id)
    if row is None:
        raise NotAvailable(f"there is no artifact version {version_id}")
    return Version(row["version_id"], row["kind"], row["name"], row["digest"])


def failed_attempts(connection: Connection, dag_id: str, dag_run_id: str, task_id: str, map_index: int) -> int:
    """Returns how many attempts at the runs of one task failed by themselves: not interrupted, lost or superseded."""
    row = database.fetch_one(
        connection, "lineage", "failed_attempts", dag=dag_id, dag_run=dag_run_id, task=task_id, map_index=map_index
    )
    assert row is not None
    return int(row["failures"])
