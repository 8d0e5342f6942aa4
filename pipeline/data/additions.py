"""What a commit writes into the catalog, some rows a statement."""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol
from uuid import UUID

from psycopg.types.json import Jsonb

from pipeline import database
from pipeline.data.candidates import Candidates
from pipeline.data.catalog import DatasetKind, Place
from pipeline.data.documents import Document
from pipeline.data.membership import Change, Members, counts
from pipeline.data.uses import Described
from pipeline.database import Connection
from pipeline.steps import Version

_BATCH = 2_000  # rows a statement: bounds the memory that one JSON parameter takes


class NewVersion(Protocol):
    """A version to be written down."""

    @property
    def members(self) -> Members: ...

    @property
    def change(self) -> Change: ...

    @property
    def changed(self) -> bool: ...

    @property
    def number(self) -> int: ...

    @property
    def digest(self) -> str: ...

    @property
    def sources(self) -> Sequence[Described]: ...

    @property
    def rows(self) -> Mapping[str, int]: ...


def assignments(connection: Connection, use_case: str, fresh: Mapping[str, str]) -> None:
    """Fixes the splits of groups that were never seen before."""
    parameters = {"groups": list(fresh), "splits": list(fresh.values())}
    database.execute(connection, "data", "insert_assignments", use_case=use_case, **parameters)


def examples(connection: Connection, use_case: str, rows: Iterator[dict[str, Any]]) -> None:
    """Writes rows of both splits to train on and of the test split, each where it belongs."""
    for trained, locked in _ahead(_halves(rows)):
        if trained:
            database.execute(connection, "data", "insert_examples", use_case=use_case, rows=trained)
        if locked:
            database.execute(connection, "data", "insert_locked_examples", use_case=use_case, rows=locked)


def _halves(rows: Iterator[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yields rows as JSON, some at a time: those outside and those of the test split; empty where there is none."""
    while batch := list(islice(rows, _BATCH)):
        test = [row for row in batch if row["split"] == "test"]
        others = [row for row in batch if row["split"] != "test"]
        yield (json.dumps(others) if others else ""), (json.dumps(test) if test else "")


def _ahead(values: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yields what an iterator does, which works at the next while the database takes this one."""
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, values, None)
        while (value := coming.result()) is not None:
            coming = worker.submit(next, values, None)
            yield value


def generated(connection: Connection, use_case: str, rows: Candidates, labels: Mapping[str, str]) -> None:
    """Writes down what wrote the rows that are taken, where that is not what is known of them."""
    known = {row["digest"] for row in database.fetch(connection, "data", "generated_digests", use_case=use_case)}
    described = (
        {
            "digest": digest,
            "made_by": None if by is None else by.by,
            "prompt_digest": None if by is None else by.prompt_digest,
            "made_on": None if by is None else by.written_on,
            "checked_by": None if by is None else by.checked_by,
        }
        for digest, by in ((digest, rows.generated.get(place)) for place, digest in enumerate(rows.digests))
        if digest in labels and (by is not None or digest in known)
    )
    for batch in _batches(described):
        database.execute(connection, "data", "insert_generated", use_case=use_case, rows=batch)


def documents(connection: Connection, use_case: str, versions: Mapping[str, Document]) -> None:
    """Writes the document versions that the catalog does not have, by their digests."""
    described = (
        {
            "document_key": row.key,
            "digest": version,
            "text_digest": row.text_digest,
            "title": row.title,
            "body": row.text,
            "tenant": row.tenant,
            "classification": row.classification,
            "groups": list(row.groups),
            "owner": row.owner,
            "source": row.source,
            "status": row.status,
            "fresh_until": row.fresh_until,
            "retain_until": row.retain_until,
            "subject": row.subject,
            "uses": list(row.uses),
        }
        for version, row in versions.items()
    )
    for batch in _batches(described):
        database.execute(connection, "data", "insert_documents", use_case=use_case, rows=batch)
        database.execute(connection, "data", "insert_document_versions", use_case=use_case, rows=batch)


def places(connection: Connection, use_case: str, places: Mapping[str, Place]) -> None:
    """Writes down where documents were read."""
    described = ({"document_key": key, "source": place.source, "file": place.file} for key, place in places.items())
    for batch in _batches(described):
        database.execute(connection, "data", "insert_places", use_case=use_case, rows=batch)


def version(
    connection: Connection, use_case: str, kind: DatasetKind, run: UUID | None, new: NewVersion, artifact: Version
) -> None:
    """Writes a version down, if there is a new one: its number, what it was taken from, and the intervals of what
    changed."""
    if not new.changed:
        return
    database.execute(connection, "data", "insert_dataset", use_case=use_case, kind=kind)
    database.execute(
        connection,
        "data",
        "insert_dataset_version",
        use_case=use_case,
        kind=kind,
        version=new.number,
        run=None if run is None else str(run),
        digest=new.digest,
        artifact=artifact.version_id,
        counts=Jsonb({"rows": len(new.members), "by_label": counts(new.members.values())}),
    )
    described = [
        {
            "source": source.source,
            "digest": source.digest,
            "uses": list(source.uses),
            "description": source.description,
            "rows": new.rows.get(source.source, 0),
        }
        for source in new.sources
    ]
    removed, added = new.change.removed, new.change.added
    where = {"use_case": use_case, "version": new.number}
    database.execute(connection, "data", "insert_version_sources", kind=kind, sources=Jsonb(described), **where)
    database.execute(connection, "data", f"remove_{kind}", **where, digests=list(removed))
    labels = {"splits": list(added.values())} if kind == "examples" else {}
    database.execute(connection, "data", f"add_{kind}", **where, digests=list(added), **labels)


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[Jsonb]:
    while batch := list(islice(rows, _BATCH)):
        yield Jsonb(batch)
