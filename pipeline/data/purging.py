"""Files that may not stand any more: private snapshots that hold an erased row, and whatever is purged."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline import database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.data import sources
from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.database import Connection
from pipeline.errors import NightshiftError

log = logging.getLogger(__name__)

Row = Example | Document
Holds = Callable[[Row], bool]


@dataclass(frozen=True)
class Snapshot:
    """A private snapshot that stands."""

    version_id: int
    digest: str


def snapshots_with(connection: Connection, store: ArtifactStore, use_case: str, holds: Holds) -> list[Snapshot]:
    """Returns the private snapshots of a use case that have a row which `holds` says yes to. One that cannot be read
    counts: nobody can say what is in it."""
    matching = []
    for row in database.fetch(connection, "erasure", "snapshots", use_case=use_case):
        version = steps.version(connection, row["version_id"])
        # Its name says which rows it has: `examples.fetched`, `documents.accepted`.
        read = sources.read_examples if row["name"].startswith("examples") else sources.read_documents
        try:
            hit = any(map(holds, read(store, version)))
        except (NightshiftError, ValueError, LookupError, TypeError) as error:
            log.warning("snapshot %s cannot be read (%s): it goes, too", row["digest"][:12], type(error).__name__)
            hit = True
        if hit:
            matching.append(Snapshot(row["version_id"], row["digest"]))
    return matching


def remove_files(connection: Connection, store: ArtifactStore) -> list[str]:
    """Removes from the store what the lineage says is purged, also what an earlier removal left by half. Returns the
    digests of what was still there."""
    purged = database.fetch(connection, "maintenance", "purged_artifacts")
    return [row["digest"] for row in purged if store.delete(row["kind"], row["digest"])]
