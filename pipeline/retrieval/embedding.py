"""Embeds what has no embedding yet, one batch of the plan at a time."""

from collections.abc import Mapping, Sequence

from pipeline import database, steps
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.records import load
from pipeline.retrieval import loading, planning
from pipeline.retrieval.records import Embedded, EmbedFacts, Planned
from pipeline.search.embedder import Embedder
from pipeline.steps import Attempt, Result, Step, Version
from pipeline.usecase import UseCase


def embed(context: Context, planned: Planned, batch: int) -> Embedded:
    """Returns what came of one batch of the plan's chunks. The embeddings are written in the transaction that marks
    success; where all are there, no model is loaded.

    `batch` counts from 0. `reuse` changes nothing: an embedding is never made twice.
    """
    embedder = Embedder(context.settings.device)

    def work(attempt: Attempt) -> Result:
        listed = planning.read_plan(attempt.store, planned).misses
        wanted = listed[batch * planning.BATCH : (batch + 1) * planning.BATCH]
        missing = _missing(attempt.connection, embedder, wanted)
        texts = _texts(attempt.connection, planned.corpus, context.usecase, embedder, missing) if missing else {}
        digests = sorted(texts)
        vectors = embedder.encode([texts[digest] for digest in digests]) if digests else None

        def write(connection: Connection, _versions: Mapping[str, Version]) -> None:
            from pgvector import HalfVector

            for place, digest in enumerate(digests):
                assert vectors is not None
                database.execute(
                    connection,
                    "retrieval",
                    "cache_embedding",
                    text_digest=digest,
                    embedder=embedder.digest,
                    embedding=HalfVector(vectors[place]),
                )

        facts = EmbedFacts(len(digests), len(wanted) - len(missing), len(missing) - len(digests))
        return Result({}, facts, write)

    spec = Step(
        context.usecase.name,
        "retrieval.embed",
        "pipeline",
        ("pipeline.retrieval.embedding",),
        params={"batch": batch},
        inputs={"corpus": planned.corpus, "plan": planned.plan},
        # What is embedded already stands in a table, not in an artifact that a hit could verify.
        reuse="never",
    )
    outcome = steps.run(context.settings, context.origin, spec, work)
    return Embedded(**vars(load(EmbedFacts, outcome.facts)), run=outcome.run_id)


def _missing(connection: Connection, embedder: Embedder, wanted: Sequence[str]) -> set[str]:
    rows = database.fetch(connection, "retrieval", "cached_digests", embedder=embedder.digest, digests=list(wanted))
    return set(wanted) - {row["text_digest"] for row in rows}


def _texts(
    connection: Connection, pinned: Version, usecase: UseCase, embedder: Embedder, missing: set[str]
) -> dict[str, str]:
    """Returns the texts of these chunks, by digest, cut once more from their documents: a plan holds no text."""
    chunker = loading.chunker_of(usecase)
    entries = loading.chunked(loading.documents(connection, pinned.version_id), chunker, embedder.count)
    return {chunk.digest: chunk.text for entry in entries for chunk in entry.chunks if chunk.digest in missing}
