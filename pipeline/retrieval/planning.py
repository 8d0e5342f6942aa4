"""The plan of a night's index: which documents changed, which chunks have no embedding yet, and whether nothing did."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import canonical, database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.database import Connection
from pipeline.retrieval import access, loading
from pipeline.retrieval.chunking import Chunker
from pipeline.search.embedder import Embedder
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Reuse, Step, Version
from pipeline.usecase import UseCase

KIND = "index_plan"
FILE = "plan.json"
BATCH = 512  # chunks that one mapped task embeds


@dataclass(frozen=True)
class LiveIndex:
    """The generation that is live."""

    generation_id: int
    digest: str
    embedder: str
    chunker: Mapping[str, Any]
    chunks: int
    corpus_version_id: int | None
    withdrawals_since: int  # since it was begun
    standing: bool  # its partition is there


def plan(settings: Settings, usecase: UseCase, origin: Origin, *, reuse: Reuse = "auto") -> dict[str, Any]:
    """Returns what the index needs: {unchanged, corpus, documents, chunks, batches, outputs: {plan}, …}.

    `unchanged` says that the live generation is what would be built. That is known without reading a text where corpus,
    chunker and embedder are those of the live generation and nothing was withdrawn since; otherwise, and with
    reuse="never", the texts are cut and compared by digest. Raises NotAvailable where no corpus was committed.
    """
    embedder = Embedder(settings.device)
    chunker = loading.chunker_of(usecase)
    with database.connect(settings, "pipeline") as connection:
        pinned = loading.newest(connection, usecase)

    def work(attempt: Attempt) -> Result:
        live = live_index(connection=attempt.connection, use_case=usecase.name)
        same = live is not None and reuse == "auto" and _same(live, pinned, chunker, embedder)
        content = (
            _unchanged(attempt.connection, live)
            if live and same
            else _compared(attempt, pinned, chunker, embedder, live)
        )
        stored = attempt.store.put(KIND, {FILE: canonical.dumps(content).encode()})
        facts = {key: content[key] for key in ("unchanged", "generation", "documents", "chunks", "batches")}
        facts["generation_id"] = live.generation_id if live and content["unchanged"] else None

        def write(connection: Connection, _versions: Mapping[str, Version]) -> None:
            database.call(connection, "rag.sync_principals", attempt.run_id)

        return Result({"plan": Output.of(stored, "index", private=False)}, facts, write)

    # What is live and what is embedded are not inputs that a key could hold, so a plan is always made.
    spec = Step(
        usecase.name,
        "retrieval.plan",
        "pipeline",
        ("pipeline.retrieval.planning",),
        params={
            "chunker": chunker.as_dict(),
            "embedder": embedder.digest,
            "principals": access.principals(usecase),
        },
        inputs={"corpus": pinned},
        reuse="never",
    )
    outcome = steps.run(settings, origin, spec, work)
    return outcome.as_dict() | dict(outcome.facts) | {"corpus": pinned.as_dict()}


def live_index(connection: Connection, use_case: str) -> LiveIndex | None:
    """Returns the live generation, or None."""
    row = database.fetch_one(connection, "retrieval", "live_generation", use_case=use_case)
    return None if row is None else LiveIndex(**row)


def read(store: ArtifactStore, planned: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a plan's artifact."""
    return json.loads(store.read(KIND, planned["outputs"]["plan"]["digest"], FILE))  # type: ignore[no-any-return]


def _same(live: LiveIndex, pinned: Version, chunker: Chunker, embedder: Embedder) -> bool:
    return (
        live.standing
        and live.corpus_version_id == pinned.version_id
        and live.withdrawals_since == 0
        and live.chunker == chunker.as_dict()
        and live.embedder == embedder.digest
    )


def _unchanged(connection: Connection, live: LiveIndex) -> dict[str, Any]:
    """Returns the plan of a night on which nothing changed, from the live generation's own counts."""
    held = _live_documents(connection, live)
    return {
        "unchanged": True,
        "generation": live.digest,
        "documents": difference(held, held),
        "chunks": {"total": live.chunks, "embed": 0, "reused": live.chunks, "deleted": 0},
        "batches": 0,
        "misses": [],
    }


def _compared(
    attempt: Attempt, pinned: Version, chunker: Chunker, embedder: Embedder, live: LiveIndex | None
) -> dict[str, Any]:
    """Returns the plan from the texts: the manifest that would result, held against the live one and the cache."""
    found = loading.chunked(loading.documents(attempt.connection, pinned.version_id), chunker, embedder.count)
    manifest = loading.manifest(found, chunker.as_dict(), embedder.digest)
    digest = loading.digest(manifest)
    wanted = loading.chunk_digests(manifest)
    cached = database.fetch(attempt.connection, "retrieval", "cached_digests", embedder=embedder.digest, digests=wanted)
    misses = sorted(set(wanted) - {row["text_digest"] for row in cached})
    before = _live_digests(attempt.connection, live)
    # A document without any text has no chunk, and is in no generation.
    documents = {entry.document.key: entry.document.digest for entry in found if entry.chunks}
    return {
        "unchanged": live is not None and live.standing and live.digest == digest,
        "generation": digest,
        "documents": difference(_live_documents(attempt.connection, live), documents),
        "chunks": {
            "total": sum(len(entry.chunks) for entry in found),
            "embed": len(misses),
            "reused": len(wanted) - len(misses),
            "deleted": len(before - set(wanted)),
        },
        "batches": -(-len(misses) // BATCH),
        "misses": misses,
        "manifest": manifest,
    }


def _live_digests(connection: Connection, live: LiveIndex | None) -> set[str]:
    if live is None or not live.standing:
        return set()
    rows = database.fetch(connection, "retrieval", "generation_digests", generation=live.generation_id)
    return {row["text_digest"] for row in rows}


def _live_documents(connection: Connection, live: LiveIndex | None) -> dict[str, str]:
    """Returns the live generation's documents, key to digest of the version that it holds."""
    if live is None or not live.standing:
        return {}
    rows = database.fetch(connection, "retrieval", "generation_documents", generation=live.generation_id)
    return {row["document_key"]: row["digest"] for row in rows}


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, int]:
    """Returns counts of what was added, changed, removed and left, of names with digests."""
    both = before.keys() & after.keys()
    changed = sum(before[name] != after[name] for name in both)
    return {
        "added": len(after.keys() - before.keys()),
        "changed": changed,
        "removed": len(before.keys() - after.keys()),
        "unchanged": len(both) - changed,
    }
