"""The certificate of an erasure: what was purged, what must be trained again, what is kept and why. Digests and counts
alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from pipeline import checkpoints, database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import catalog, purging, tombstones
from pipeline.data.card import environment
from pipeline.database import Connection
from pipeline.errors import Refused
from pipeline.records import write
from pipeline.settings import Settings
from pipeline.steps import Attempt, Output, Result, Step, Version
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class RowsGone:
    """The rows of one kind and split."""

    kind: str
    split: str | None  # of examples
    digests: Sequence[str]


@dataclass(frozen=True)
class Redacted:
    """A dataset version that holds erased rows: its digest verifies still, and nothing is trained on it."""

    dataset: str
    version: int
    digest: str
    erased: int


@dataclass(frozen=True)
class Flagged:
    """A model that was trained on erased rows."""

    name: str
    digest: str
    erased_rows: int
    live: bool
    purged: bool


@dataclass(frozen=True)
class Certificate:
    """What an erasure came to, as it is stored. Neither a text nor the name of a person is in it."""

    FORMAT: ClassVar[int] = 1

    erasure: int
    use_case: str
    kind: str
    basis: str
    reason: str
    requested_by: str
    requested_at: str
    approved_by: str | None  # None where the document's own date decided
    approved_at: str | None
    erased_at: str
    counts: Mapping[str, int]  # rows of the database whose text went
    rows: Sequence[RowsGone]
    snapshots: Sequence[str]  # digests of private files that held a row, and are gone
    tables: Sequence[str]  # written anew, so that no page keeps what was deleted
    redacted: Sequence[Redacted]
    to_retrain: Sequence[Flagged]
    log_until: str  # the write-ahead log before this position holds the text until the server recycles it
    backups_until: str  # from when on no backup holds it, by the retention that usecase.yaml states
    checkpoints: int = 0  # unfinished trainings whose checkpoints were removed: they may have learned from the rows

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the value: there is no older format."""
        return value


@dataclass(frozen=True)
class Certified:
    """A stored certificate."""

    erasure: int
    certificate: Version
    where: str  # the folder of certificate.md and certificate.json
    snapshots: int  # that went
    to_retrain: int  # models that stand, and were trained on erased rows


def certify(context: Context, erasure: int) -> Certified:
    """Returns the certificate, after the files are gone and the tables are written anew.

    It may be asked for again: then it says how things stand by now. Raises Refused where the erasure was not carried
    out.
    """
    spec = Step(
        context.usecase.name,
        "data.certify",
        "pipeline",
        ("pipeline.data.certificate",),
        params={"erasure": erasure, "backup_days": context.usecase.retention.backup_days},
        reuse="never",
    )
    outcome = steps.run(
        context.settings,
        context.origin,
        spec,
        lambda attempt: _certify(context.settings, attempt, context.usecase, erasure),
    )
    version = outcome.outputs["certificate"]
    where = ArtifactStore(context.settings.artifacts).uri(version.kind, version.digest)
    return Certified(erasure, version, where, **outcome.facts)


def _certify(settings: Settings, attempt: Attempt, usecase: UseCase, erasure: int) -> Result:
    connection = attempt.connection
    if database.fetch_one(connection, "erasure", "carried_out", erasure=erasure, use_case=usecase.name) is None:
        raise Refused(f"erasure {erasure} of {usecase.name} has not been carried out")
    purge(settings, attempt.connection, attempt.store, usecase.name)
    unfinished = checkpoints.purge(settings, usecase.name)
    tables = [row["rewrite_erased"] for row in database.call(connection, "catalog.rewrite_erased", erasure)]
    connection.execute("checkpoint")
    content = _content(connection, usecase, erasure, tables, unfinished)
    files: Mapping[str, bytes | Path] = {"certificate.json": write(content), "certificate.md": render(content).encode()}
    stored = attempt.store.put("certificate", files)
    standing = sum(not each.purged for each in content.to_retrain)
    facts = {"snapshots": len(content.snapshots), "to_retrain": standing}
    return Result({"certificate": Output.of(stored, "erasure", private=False, meta={"erasure": erasure})}, facts)


def purge(settings: Settings, connection: Connection, store: ArtifactStore, use_case: str) -> int:
    """Returns how many private snapshots held a row that was erased, and are gone: from the lineage, then from the
    store. Whoever is stopped between the two is made up for by the next call."""
    erased = tombstones.read(settings, connection, use_case)
    digests = catalog.erased_examples(connection, use_case)
    held = purging.snapshots_with(connection, store, use_case, erased.holds, digests)
    if held:
        versions = [each.version_id for each in held]
        database.call(connection, "lineage.purge_snapshots", use_case, versions)
    purging.remove_files(connection, store)
    return len(held)


def _content(
    connection: Connection, usecase: UseCase, erasure: int, tables: Sequence[str], unfinished: int
) -> Certificate:
    name = usecase.name
    (row,) = database.fetch(connection, "erasure", "erasure", erasure=erasure, use_case=name)
    (log,) = database.fetch(connection, "erasure", "log_position")
    gone: dict[tuple[str, str | None], list[str]] = {}
    for each in database.fetch(connection, "erasure", "erased_rows", erasure=erasure):
        gone.setdefault((each["kind"], each["split"]), []).append(each["digest"])
    purged = database.fetch(connection, "erasure", "purged_snapshots", use_case=name, erasure=erasure)
    return Certificate(
        erasure,
        name,
        row["kind"],
        row["basis"],
        row["reason"],
        row["requested_by"],
        row["requested_at"].isoformat(),
        row["person"],
        row["answered_at"] and row["answered_at"].isoformat(),
        row["erased_at"].isoformat(),
        row["counts"],
        [RowsGone(kind, split, digests) for (kind, split), digests in gone.items()],
        [each["digest"] for each in purged],
        tables,
        [
            Redacted(each["kind"], each["version"], each["digest"], each["erased"])
            for each in database.fetch(connection, "erasure", "redacted_versions", use_case=name)
        ],
        [Flagged(**each) for each in database.fetch(connection, "erasure", "to_retrain", use_case=name)],
        log["position"],
        (log["at"] + timedelta(days=usecase.retention.backup_days)).date().isoformat(),
        unfinished,
    )


def render(content: Certificate) -> str:
    """Returns the certificate as Markdown."""
    return environment().get_template("certificate.md.j2").render(vars(content))
