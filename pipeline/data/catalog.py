"""The catalog's rows as they stand now."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pipeline import database
from pipeline.data.candidates import Candidates
from pipeline.data.documents import metadata_digest
from pipeline.data.records import CommitFacts, VersionFacts
from pipeline.data.splits import Split
from pipeline.database import Connection
from pipeline.records import load
from pipeline.usecase import USES, narrowed

DatasetKind = Literal["examples", "documents"]
Waived = frozenset[tuple[str, str]]  # rules, and the digests of what a person has accepted in spite of them
KINDS: tuple[DatasetKind, ...] = ("examples", "documents")


@dataclass(frozen=True)
class Standing:
    """The newest version of a dataset: 0 and None before the first."""

    version: int
    digest: str | None
    sources: Mapping[str, str] = field(default_factory=dict)  # what it was taken from: digests of the descriptions


@dataclass(frozen=True)
class Current:
    """The version of a document that the current corpus holds."""

    digest: str
    content_digest: str  # of text and metadata alone; differs from `digest` where the document came back
    status: str
    tenant: str
    classification: str
    groups: tuple[str, ...]
    fresh_until: str | None
    first_seen_at: datetime
    erased: bool = False
    uses: tuple[str, ...] = USES


@dataclass(frozen=True)
class Place:
    """Where a document was read last."""

    source: str
    file: str


@dataclass(frozen=True)
class Seen:
    """A document version that the catalog has."""

    withdrawn: bool  # a withdrawal came after it was first seen
    withdrawals: int  # of its document, in all


def standing(connection: Connection, use_case: str, kind: DatasetKind) -> Standing:
    """Returns the newest version of a dataset."""
    row = database.fetch_one(connection, "data", "standing", use_case=use_case, kind=kind)
    if row is None:
        return Standing(0, None)
    which = {"use_case": use_case, "kind": kind, "version": row["version"]}
    sources = database.fetch(connection, "data", "version_sources", **which)
    return Standing(row["version"], row["digest"], {each["source"]: each["digest"] for each in sources})


def members(connection: Connection, use_case: str, kind: DatasetKind, version: int) -> dict[str, str]:
    """Returns the members of a version; none for a version that does not exist."""
    # As two arrays: a row each would take a minute for a million of them, and more memory than their text.
    row = database.fetch_one(connection, "data", f"members_of_{kind}", use_case=use_case, version=version)
    return {} if row is None else dict(zip(row["digests"] or (), row["labels"] or (), strict=True))


def documents(connection: Connection, use_case: str) -> dict[str, Current]:
    """Returns the documents of the current corpus by id."""
    rows = database.fetch(connection, "data", "current_documents", use_case=use_case)
    return {row["document_key"]: _current(row) for row in rows}


def last_documents(connection: Connection, use_case: str, standing: Mapping[str, Current]) -> dict[str, Current]:
    """Returns the newest version of each document that was ever committed, by id; `standing` are the documents of the
    current corpus."""
    rows = database.fetch(connection, "data", "last_documents", use_case=use_case)
    return {**standing, **{row["document_key"]: _current(row) for row in rows}}


def _current(row: Mapping[str, Any]) -> Current:
    return Current(
        row["digest"],
        metadata_digest(row),
        row["status"],
        row["tenant"],
        row["classification"],
        tuple(row["groups"]),
        None if row["fresh_until"] is None else str(row["fresh_until"]),
        row["first_seen_at"],
        row.get("erased", False),
        narrowed(row["uses"], USES),
    )


def erased_examples(connection: Connection, use_case: str) -> set[str]:
    """Returns the digests of the examples that were erased."""
    return {row["digest"] for row in database.fetch(connection, "erasure", "erased_examples", use_case=use_case)}


def places(connection: Connection, use_case: str) -> dict[str, Place]:
    """Returns where each document was read last, by id."""
    rows = database.fetch(connection, "data", "places", use_case=use_case)
    return {row["document_key"]: Place(row["source"], row["file"]) for row in rows}


def accepted(connection: Connection, use_case: str) -> dict[str, datetime]:
    """Returns the digests of what a person has accepted, of findings that waited, and when."""
    rows = database.fetch(connection, "data", "accepted", use_case=use_case)
    return {row["digest"]: row["decided_at"] for row in rows}


def waivers(connection: Connection, use_case: str) -> Waived:
    """Returns the rows that a person has accepted in spite of a rule, as (rule, digest), as of today."""
    rows = database.fetch(connection, "data", "waivers", use_case=use_case)
    return frozenset((row["rule"], row["digest"]) for row in rows)


def confirmed(connection: Connection, use_case: str) -> Waived:
    """Returns what a person has confirmed to stay out, as (rule, digest)."""
    rows = database.fetch(connection, "data", "confirmed", use_case=use_case)
    return frozenset((row["rule"], row["digest"]) for row in rows)


def assignments(connection: Connection, use_case: str, groups: Collection[str]) -> dict[str, Split]:
    """Returns the splits of those groups that have one."""
    row = database.fetch_one(connection, "data", "assignments", use_case=use_case, groups=list(groups))
    return {} if row is None else dict(zip(row["groups"] or (), row["splits"] or (), strict=True))


def seen(connection: Connection, use_case: str, versions: Mapping[str, str]) -> dict[str, Seen]:
    """Returns what is known of those document versions (id to digest) that the catalog has."""
    rows = database.fetch(
        connection, "data", "seen", use_case=use_case, keys=list(versions), digests=list(versions.values())
    )
    return {row["document_key"]: Seen(row["withdrawn"], row["withdrawals"]) for row in rows}


def new_rows(connection: Connection, use_case: str, rows: Candidates, labels: Mapping[str, str]) -> list[int]:
    """Returns the places of the rows that are taken and that the catalog does not have as they stand now: their text,
    and the source that they come from."""
    row = database.fetch_one(connection, "data", "kept_examples", use_case=use_case)
    kept = {} if row is None else dict(zip(row["digests"] or (), row["sources"] or (), strict=True))
    return [
        place
        for place, (digest, source) in enumerate(zip(rows.digests, rows.sources, strict=True))
        if digest in labels and kept.get(digest) != source
    ]


def original_facts(connection: Connection, run_id: UUID, facts: CommitFacts) -> CommitFacts:
    """Returns a commit's facts as its first run had them, where this run repeats one that ended before anybody saw what
    it returned: the version that it made is new to whoever asks, though by now it stands."""
    earlier = [
        load(CommitFacts, row["facts"]) for row in database.fetch(connection, "data", "earlier_facts", run=str(run_id))
    ]
    return replace(
        facts,
        dataset=_original(facts.dataset, [each.dataset for each in earlier]),
        corpus=_original(facts.corpus, [each.corpus for each in earlier]),
    )


def _original(now: VersionFacts, earlier: Sequence[VersionFacts]) -> VersionFacts:
    return next((one for one in reversed(earlier) if one.changed and one.version == now.version), now)
