"""Files that may not stand any more: private snapshots that hold an erased row, and whatever is purged."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.data import ledgers, snapshots
from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.database import Connection
from pipeline.errors import NightshiftError
from pipeline.steps import Version

log = logging.getLogger(__name__)

Row = Example | Document
Holds = Callable[[Row], bool]


@dataclass(frozen=True)
class Snapshot:
    """A private snapshot that stands."""

    version_id: int
    digest: str


def snapshots_with(
    connection: Connection, store: ArtifactStore, use_case: str, holds: Holds, digests: Collection[str]
) -> list[Snapshot]:
    """Returns the private snapshots of a use case that have a row which `holds` says yes to, or of which the ledger has
    one of the digests: personal data that were taken out of a row stand in its snapshot still. A ledger goes with its
    snapshot. One that cannot be read counts: nobody can say what is in it."""
    standing = {row["version_id"]: row for row in database.fetch(connection, "erasure", "snapshots", use_case=use_case)}
    matching = set()
    with TemporaryDirectory(prefix="nightshift-") as scratch:
        for version_id, row in standing.items():
            version = steps.version(connection, version_id)
            try:
                hit = _has(store, version, holds, digests, Path(scratch))
            except (NightshiftError, ValueError, LookupError, TypeError) as error:
                log.warning("snapshot %s cannot be read (%s): it goes, too", row["digest"][:12], type(error).__name__)
                hit = True
            if hit:
                matching.add(version_id)
    for pair in database.fetch(connection, "erasure", "ledgers", use_case=use_case):
        if not matching.isdisjoint(pair.values()):
            matching |= {*pair.values()}
    return [Snapshot(version_id, row["digest"]) for version_id, row in standing.items() if version_id in matching]


def files_with(connection: Connection, store: ArtifactStore, use_case: str, holds: Holds) -> set[str]:
    """Returns the files of examples of which the last fetch had such a row."""
    standing = [
        steps.version(connection, row["version_id"])
        for row in database.fetch(connection, "erasure", "snapshots", use_case=use_case)
    ]
    fetched = [version for version in standing if version.name == "examples.fetched"]
    if not fetched:
        return set()
    with TemporaryDirectory(prefix="nightshift-") as scratch:
        newest = max(fetched, key=lambda version: version.version_id)
        return {row.file for row in snapshots.read_examples(store, newest, Path(scratch)) if holds(row)}


def _has(store: ArtifactStore, version: Version, holds: Holds, digests: Collection[str], scratch: Path) -> bool:
    """Returns whether a snapshot has such a row. Its name says which rows it has."""
    if version.name == ledgers.NAME:
        ledger = ledgers.read(store, version, scratch)
        return not {digest.hex() for digest in ledger.rows["digest"].to_pylist() if digest is not None}.isdisjoint(
            digests
        )
    if version.name.startswith("examples"):
        return any(map(holds, snapshots.read_examples(store, version, scratch)))
    return any(map(holds, snapshots.read_documents(store, version)))


def remove_files(connection: Connection, store: ArtifactStore) -> list[str]:
    """Removes from the store what the lineage says is purged, also what an earlier removal left by half. Returns the
    digests of what was still there."""
    purged = database.fetch(connection, "maintenance", "purged_artifacts")
    return [row["digest"] for row in purged if store.delete(row["kind"], row["digest"])]
