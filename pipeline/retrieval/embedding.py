"""Embeds what has no embedding yet, one batch of the plan at a time."""

from collections.abc import Mapping
from typing import Any

from pipeline import database, steps
from pipeline.database import Connection
from pipeline.retrieval import loading, planning
from pipeline.search.embedder import Embedder
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Result, Reuse, Step, Version
from pipeline.usecase import UseCase


def embed(
    settings: Settings,
    usecase: UseCase,
    origin: Origin,
    planned: Mapping[str, Any],
    batch: int,
    *,
    reuse: Reuse = "auto",
) -> dict[str, Any]:
    """Returns {embedded, cached, withdrawn}: how many of the batch's chunks were embedded, had been embedded meanwhile,
    or are of documents withdrawn meanwhile. The embeddings are written in the transaction that marks success; where
    all are there, no model is loaded.

    `batch` counts from 0. `reuse` changes nothing: an embedding is never made twice.
    """
    embedder = Embedder(settings.device)
    pinned = Version(**planned["corpus"])

    def work(attempt: Attempt) -> Result:
        listed = planning.read(attempt.store, planned)["misses"]
        wanted = listed[batch * planning.BATCH : (batch + 1) * planning.BATCH]
        missing = _missing(attempt.connection, embedder, wanted)
        texts = _texts(attempt.connection, pinned, usecase, embedder, missing) if missing else {}
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

        facts = {
            "embedded": len(digests),
            "cached": len(wanted) - len(missing),
            "withdrawn": len(missing) - len(digests),
        }
        return Result({}, facts, write)

    spec = Step(
        usecase.name,
        "retrieval.embed",
        "pipeline",
        ("pipeline.retrieval.embedding",),
        params={"batch": batch},
        inputs={"corpus": pinned, "plan": Version(**planned["outputs"]["plan"])},
        # What is embedded already stands in a table, not in an artifact that a hit could verify.
        reuse="never",
    )
    outcome = steps.run(settings, origin, spec, work)
    return outcome.as_dict() | dict(outcome.facts)


def _missing(connection: Connection, embedder: Embedder, wanted: list[str]) -> set[str]:
    rows = database.fetch(connection, "retrieval", "cached_digests", embedder=embedder.digest, digests=wanted)
    return set(wanted) - {row["text_digest"] for row in rows}


def _texts(
    connection: Connection, pinned: Version, usecase: UseCase, embedder: Embedder, missing: set[str]
) -> dict[str, str]:
    """Returns the texts of these chunks, by digest, cut once more from their documents: a plan holds no text."""
    chunker = loading.chunker_of(usecase)
    found = loading.chunked(loading.documents(connection, pinned.version_id), chunker, embedder.count)
    return {chunk.digest: chunk.text for entry in found for chunk in entry.chunks if chunk.digest in missing}
