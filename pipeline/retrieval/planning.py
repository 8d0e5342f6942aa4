"""The plan of a night's index: which documents changed, which chunks have no embedding yet, and whether nothing did."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.records import load, read, write
from pipeline.retrieval import access, loading
from pipeline.retrieval.chunking import Chunker
from pipeline.retrieval.records import ChunkChanges, DocumentChanges, Plan, PlanFacts, Planned
from pipeline.search.embedder import Embedder
from pipeline.steps import Attempt, Output, Result, Step, Version

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
    text_search: str | None
    chunks: int
    corpus_version_id: int | None
    withdrawals_since: int  # since it was begun
    standing: bool  # its partition is there


def plan(context: Context) -> Planned:
    """Returns what the index needs.

    `unchanged` says that the live generation is what would be built. That is known without reading a text where corpus,
    settings and embedder are those of the live generation and nothing was withdrawn since; otherwise, and with
    reuse="never", the texts are cut and compared by digest. Raises NotAvailable where no corpus was committed.
    """
    usecase = context.usecase
    embedder = Embedder(context.settings.device)
    chunker, text_search = loading.chunker_of(usecase), usecase.retrieval.text_search
    with database.connect(context.settings, "pipeline") as connection:
        pinned = loading.newest(connection, usecase)

    def work(attempt: Attempt) -> Result:
        live = live_index(attempt.connection, usecase.name)
        if live and context.reuse == "auto" and _same(live, pinned, chunker, embedder, text_search):
            content = _unchanged(attempt.connection, live)
        else:
            content = _compared(attempt, pinned, chunker, embedder, text_search, live)
        stored = attempt.store.put(KIND, {FILE: write(content)})

        def sync_principals(connection: Connection, _versions: Mapping[str, Version]) -> None:
            database.call(connection, "rag.sync_principals", attempt.run_id)

        return Result({"plan": Output.of(stored, "index", private=False)}, content.facts, sync_principals)

    # What is live and what is embedded are not inputs that a key could hold, so a plan is always made.
    spec = Step(
        usecase.name,
        "retrieval.plan",
        "pipeline",
        ("pipeline.retrieval.planning",),
        params={
            "chunker": chunker.identity(),
            "embedder": embedder.digest,
            "text_search": text_search,
            "principals": access.principals(usecase),
        },
        inputs={"corpus": pinned},
        reuse="never",
    )
    outcome = steps.run(context.settings, context.origin, spec, work)
    facts = load(PlanFacts, outcome.facts)
    return Planned(**vars(facts), run=outcome.run_id, corpus=pinned, plan=outcome.outputs["plan"])


def live_index(connection: Connection, use_case: str) -> LiveIndex | None:
    """Returns the live generation, or None."""
    row = database.fetch_one(connection, "retrieval", "live_generation", use_case=use_case)
    return None if row is None else LiveIndex(**row)


def read_plan(store: ArtifactStore, planned: Planned) -> Plan:
    """Returns the content of a plan's artifact."""
    digest = planned.plan.digest
    return read(Plan, store.read(KIND, digest, FILE), f"{KIND} {digest[:12]}")


def _same(live: LiveIndex, pinned: Version, chunker: Chunker, embedder: Embedder, text_search: str | None) -> bool:
    return (
        live.standing
        and live.corpus_version_id == pinned.version_id
        and live.withdrawals_since == 0
        and live.chunker == chunker.identity()
        and live.embedder == embedder.digest
        and live.text_search == text_search
    )


def _unchanged(connection: Connection, live: LiveIndex) -> Plan:
    """Returns the plan of a night on which nothing changed, from the live generation's own counts."""
    held = _live_documents(connection, live)
    chunks = ChunkChanges(live.chunks, 0, live.chunks, 0)
    return Plan(PlanFacts(True, live.digest, live.generation_id, difference(held, held), chunks, 0), (), None)


def _compared(
    attempt: Attempt,
    pinned: Version,
    chunker: Chunker,
    embedder: Embedder,
    text_search: str | None,
    live: LiveIndex | None,
) -> Plan:
    """Returns the plan from the texts: the manifest that would result, held against the live one and the cache."""
    entries = loading.chunked(loading.documents(attempt.connection, pinned.version_id), chunker, embedder.count)
    manifest = loading.manifest(entries, chunker, embedder.digest, text_search)
    digest = loading.digest(manifest)
    wanted = loading.chunk_digests(manifest)
    cached = database.fetch(attempt.connection, "retrieval", "cached_digests", embedder=embedder.digest, digests=wanted)
    misses = sorted(set(wanted) - {row["text_digest"] for row in cached})
    before = _live_digests(attempt.connection, live)
    # A document without any text has no chunk, and is in no generation.
    documents = {entry.document.key: entry.document.digest for entry in entries if entry.chunks}
    total = sum(len(entry.chunks) for entry in entries)
    same = live if live is not None and live.standing and live.digest == digest else None
    facts = PlanFacts(
        unchanged=same is not None,
        generation=digest,
        generation_id=None if same is None else same.generation_id,
        documents=difference(_live_documents(attempt.connection, live), documents),
        chunks=ChunkChanges(total, len(misses), len(wanted) - len(misses), len(before - set(wanted))),
        batches=-(-len(misses) // BATCH),
    )
    return Plan(facts, misses, manifest)


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


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> DocumentChanges:
    """Returns counts of what was added, changed, removed and left, of names with digests."""
    both = before.keys() & after.keys()
    changed = sum(before[name] != after[name] for name in both)
    return DocumentChanges(
        len(after.keys() - before.keys()), changed, len(before.keys() - after.keys()), len(both) - changed
    )
