"""Builds an index generation aside: loads staging tables, makes their indexes, and attaches them in the transaction
that marks success. A build that is stopped leaves a generation "building", which the next build drops."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pipeline import database, steps
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.errors import NotAvailable
from pipeline.records import load
from pipeline.retrieval import access, loading
from pipeline.retrieval.chunking import Chunk
from pipeline.retrieval.loading import Document, Right
from pipeline.retrieval.records import BuildFacts, Built, Manifest, Planned
from pipeline.search.embedder import Embedder
from pipeline.steps import Attempt, Output, Result, Step, Version

_BLOCK = 2000  # rows of one COPY, whose embeddings are fetched at a time
_COLUMNS: Mapping[str, str] = {
    "generation_id": "int4",
    "tenant": "text",
    "chunk_id": "int8",
    "document_key": "text",
    "document_version_id": "int8",
    "ordinal": "int4",
    "acl_id": "int4",
    "status": "int2",
    # COPY's binary form of a timestamptz is an int8 of microseconds since 2000. Python's has no infinity.
    "expires_at": "int8",
    "text_digest": "text",
    "body": "text",
    "embedding": "halfvec",
}
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_INFINITY = 2**63 - 1


def build(context: Context, planned: Planned) -> Built:
    """Returns the generation and its artifact.

    A generation of this content that still stands is adopted, and where the plan says `unchanged` that is the live one;
    `reuse` can thus only ask that an earlier run's answer is not taken. Raises NotAvailable where a chunk has no
    embedding.
    """
    name, corpus = context.usecase.name, planned.corpus
    embedder, chunker = Embedder(context.settings.device), loading.chunker_of(context.usecase)
    text_search = context.usecase.retrieval.text_search
    with database.connect(context.settings, "pipeline") as connection:
        standing = _standing(connection, name, planned.generation)

    def work(attempt: Attempt) -> Result:
        connection = attempt.connection
        database.execute(connection, "retrieval", "lock_build", use_case=name)
        drop_unfinished(connection, name)
        entries = loading.chunked(loading.documents(connection, corpus.version_id), chunker, embedder.count)
        manifest = loading.manifest(entries, chunker, embedder.digest, text_search)
        stored = attempt.store.put(loading.KIND, loading.files(manifest))
        adopted = _standing(connection, name, stored.digest)
        generation = adopted or _load(connection, name, entries, manifest)

        def attach(connection: Connection, versions: Mapping[str, Version]) -> None:
            if adopted:
                database.call(connection, "rag.adopt", generation, corpus.version_id)
            else:
                version = versions["generation"].version_id
                database.call(connection, "rag.attach", generation, stored.digest, version, corpus.version_id)

        facts = BuildFacts(generation, bool(adopted), sum(len(entry.chunks) for entry in entries))
        return Result({"generation": Output.of(stored, loading.NAME, private=False)}, facts, attach)

    spec = Step(
        name,
        "retrieval.build",
        "pipeline",
        ("pipeline.retrieval.building",),
        params={"chunker": chunker.identity(), "embedder": embedder.digest, "text_search": text_search},
        inputs={"corpus": corpus, "plan": planned.plan},
        # An earlier run answers only while its partition stands.
        reuse=context.reuse if standing else "never",
    )
    outcome = steps.run(context.settings, context.origin, spec, work)
    facts = load(BuildFacts, outcome.facts)
    # A run that is answered by an earlier one names the generation of then: the content may stand as another by now.
    if outcome.reused and standing:
        facts = replace(facts, generation=standing)
    facts = replace(facts, adopted=outcome.reused or facts.adopted)
    return Built(**vars(facts), run=outcome.run_id, reused=outcome.reused, version=outcome.outputs["generation"])


def drop_unfinished(connection: Connection, use_case: str) -> list[int]:
    """Returns the numbers of the generations dropped: those whose build began and did not end. The caller holds the
    build lock of the use case, so none of them is being built."""
    rows = database.fetch(connection, "retrieval", "unfinished_generations", use_case=use_case)
    for row in rows:
        database.call(connection, "rag.drop_version", row["generation_id"])
    return [row["generation_id"] for row in rows]


def _standing(connection: Connection, use_case: str, digest: str) -> int | None:
    row = database.fetch_one(connection, "retrieval", "standing_generation", use_case=use_case, digest=digest)
    return None if row is None else int(row["generation_id"])


def _load(connection: Connection, use_case: str, entries: Sequence[loading.Chunked], manifest: Manifest) -> int:
    """Returns the number of a generation whose staging tables hold the chunks, indexed."""
    acl = access.acl_ids(connection, use_case, [entry.document.right for entry in entries])
    tenants = sorted({entry.document.right.tenant for entry in entries if entry.chunks})
    generation, staging = _staging(connection, use_case, manifest, tenants)
    number = 0
    for tenant in tenants:
        # By right: what one caller may see stands together.
        chunks = [
            (entry.document, chunk)
            for entry in sorted(entries, key=lambda entry: (acl[entry.document.right], entry.document.key))
            if entry.document.right.tenant == tenant
            for chunk in entry.chunks
        ]
        with connection.transaction():
            for start in range(0, len(chunks), _BLOCK):
                block = chunks[start : start + _BLOCK]
                vectors = _embeddings(connection, manifest.embedder, [chunk.digest for _, chunk in block])
                _copy(connection, staging[tenant], _rows(generation, number + start, block, acl, vectors))
        number += len(chunks)
    database.call(connection, "rag.seal_version", generation)
    return generation


def _staging(
    connection: Connection, use_case: str, manifest: Manifest, tenants: Sequence[str]
) -> tuple[int, dict[str, str]]:
    """Returns the number of a new generation and its staging table of each tenant."""
    rows = database.call(
        connection,
        "rag.create_version",
        use_case,
        manifest.embedder,
        Jsonb(dict(manifest.chunker)),
        list(tenants),
        manifest.text_search,
    )
    return rows[0]["generation_id"], {row["tenant"]: row["staging"] for row in rows if row["tenant"] is not None}


def _rows(
    generation: int,
    number: int,
    chunks: Sequence[tuple[Document, Chunk]],
    acl: Mapping[Right, int],
    vectors: Mapping[str, Any],
) -> Iterator[tuple[Any, ...]]:
    """Yields the chunks' rows in the order of _COLUMNS, the first as chunk `number`."""
    for place, (document, chunk) in enumerate(chunks, start=number):
        yield (
            generation,
            document.right.tenant,
            place,
            document.key,
            document.version_id,
            chunk.ordinal,
            acl[document.right],
            1,
            _microseconds(document.expires),
            chunk.digest,
            chunk.text,
            vectors[chunk.digest],
        )


def _embeddings(connection: Connection, embedder: str, digests: Sequence[str]) -> dict[str, Any]:
    rows = database.fetch(connection, "retrieval", "cached_embeddings", embedder=embedder, digests=list(digests))
    vectors = {row["text_digest"]: row["embedding"] for row in rows}
    if missing := len(set(digests) - vectors.keys()):
        raise NotAvailable(
            f"{missing} chunks have no embedding",
            where="rag.embedding_cache",
            next_step="run the plan and its embed batches again",
        )
    return vectors


def _copy(connection: Connection, table: str, rows: Iterator[tuple[Any, ...]]) -> None:
    """Loads rows into one staging table, in COPY's binary form."""
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(_COLUMNS.values()))
        for row in rows:
            copy.write_row(row)


def _microseconds(day: date | None) -> int:
    if day is None:
        return _INFINITY
    return int((datetime.combine(day, time(), UTC) - _EPOCH).total_seconds()) * 1_000_000
