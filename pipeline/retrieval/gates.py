"""The gates before a swap: row counts, recall against an exact scan, and the leak test with generated callers. What a
caller may see is computed here from the catalog, independently of the index that is being tested."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from pipeline import canonical, database, steps
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.records import load, plain, write
from pipeline.retrieval import access, loading
from pipeline.retrieval.access import Caller
from pipeline.retrieval.loading import Right
from pipeline.retrieval.records import (
    Built,
    CountsGate,
    Gated,
    GateFacts,
    GateReport,
    Gates,
    LeaksGate,
    LossGate,
    Manifest,
    ManifestEntry,
    RecallGate,
)
from pipeline.steps import Attempt, Output, Result, Step, Version
from pipeline.usecase import UseCase

REPORT = "gates.json"
K = 10  # recall is measured at
# Both sides compute with the same half-precision vectors; what is left is the order of summation.
_TOLERANCE = 1e-4
_NOISE = 0.03  # a query is a chunk's vector with noise of this deviation on each coordinate
_WORDS = 12  # of a chunk's document, that a query by words has


@dataclass(frozen=True)
class ExpectedChunks:
    """The chunks that a generation must hold, as arrays of equal length."""

    digests: Sequence[str]
    documents: Sequence[str]
    versions: Sequence[int]
    rights: Sequence[Right]
    served: NDArray[np.bool_]  # not withdrawn and not expired
    vectors: NDArray[np.float32]  # (n, 384)
    bodies: Sequence[str]  # of their documents; "" of one that was withdrawn

    def name(self, place: int) -> tuple[str, int, str]:
        """Returns what a chunk is known by in a search's answer: document, its version, digest."""
        return self.documents[place], self.versions[place], self.digests[place]


@dataclass
class Tally:
    """What the generated callers got."""

    callers: int = 0
    rows: int = 0
    leaks: int = 0  # rows that a caller may not see, or that are not what they claim
    short: int = 0  # answers with fewer rows than the caller may see
    recalls: list[float] = field(default_factory=list)  # of callers who may see something


_FEW = 10  # documents; so many may go from an index that keeps others


def check(context: Context, built: Built, *, accept_loss: str | None = None) -> Gated:
    """Returns what was measured of a generation and whether it is enough. It is also written beside the generation.

    An index that is empty, or lost many of the documents that are live, passes by `accept_loss` alone: the reason of
    the person who asked, kept in the gate. `reuse` changes nothing: a generation is tested as it stands.
    """
    retrieval, version = context.usecase.retrieval, built.version
    with database.connect(context.settings, "pipeline") as connection:
        row = database.fetch_one(connection, "retrieval", "generation", generation=built.generation)
        assert row is not None
        corpus = steps.version(connection, row["corpus_version_id"])

    def work(attempt: Attempt) -> Result:
        manifest = loading.read_manifest(attempt.store, version.digest)
        # Measured with what the index builder may read; written down by a login that builds none.
        with database.connect(context.settings, "pipeline") as reading:
            gates = _measured(reading, context, built, corpus, manifest, accept_loss)
        report = write(GateReport(gates.passed, gates, version.digest))
        stored = attempt.store.put("gate_report", {REPORT: report})

        def record(connection: Connection, _versions: Mapping[str, Version]) -> None:
            database.call(connection, "rag.record_gates", built.generation, Jsonb(plain(gates)))

        facts = GateFacts(gates.passed, gates)
        return Result({"report": Output.of(stored, "index_gates", private=False)}, facts, record)

    spec = Step(
        context.usecase.name,
        "retrieval.check",
        "evaluator",
        ("pipeline.retrieval.gates",),
        params={
            "min_recall": retrieval.min_recall,
            "leak_principals": retrieval.leak_principals,
            "max_lost": retrieval.max_lost,
            "generation": built.generation,
        },
        inputs={"generation": version, "corpus": corpus},
        reuse="never",
    )
    outcome = steps.run(context.settings, context.origin, spec, work)
    facts = load(GateFacts, outcome.facts)
    return Gated(facts.passed, facts.gates, outcome.run_id, outcome.outputs["report"])


def _measured(
    connection: Connection,
    context: Context,
    built: Built,
    corpus: Version,
    manifest: Manifest,
    accept_loss: str | None,
) -> Gates:
    usecase = context.usecase
    expected = _expected(connection, corpus, manifest)
    tally = _ask(connection, usecase, built.generation, expected, manifest, built.version.digest)
    return Gates(
        _counts(connection, built.generation, manifest),
        _recall(tally, usecase.retrieval.min_recall),
        LeaksGate(tally.callers, tally.rows, tally.leaks, tally.short, passed=tally.leaks == 0 and tally.short == 0),
        _loss(connection, usecase, manifest, context.origin.requested_by, accept_loss),
    )


def _loss(connection: Connection, usecase: UseCase, manifest: Manifest, person: str, reason: str | None) -> LossGate:
    """Returns how many of the documents that are live the generation does not have any more."""
    live = database.fetch_one(connection, "retrieval", "live_generation", use_case=usecase.name)
    rows = (
        database.fetch(connection, "retrieval", "generation_keys", generation=live["generation_id"])
        if live is not None and live["standing"]
        else []
    )
    before = {canonical.digest_text(row["document_key"]) for row in rows}  # as the manifest names them
    lost = before - {entry.document for entry in manifest.documents}
    many = bool(lost) and (
        lost == before or (len(lost) >= _FEW and len(lost) > usecase.retrieval.max_lost * len(before))
    )
    accepted = None if reason is None or not many else {"by": person, "reason": reason}
    return LossGate(len(before), len(lost), accepted, passed=not many or accepted is not None)


def _expected(connection: Connection, corpus: Version, manifest: Manifest) -> ExpectedChunks:
    """Returns what the manifest says the generation holds, with the documents' rights from the catalog and the vectors
    from the cache."""
    digests = [entry.version for entry in manifest.documents]
    known = {document.digest: document for document in loading.documents(connection, corpus.version_id, digests)}
    now = database.fetch_one(connection, "retrieval", "today")
    assert now is not None
    chunks: list[tuple[str, str, int, Right, bool, str]] = []
    for entry in manifest.documents:
        document = known.get(entry.version)
        # A document that is no longer in the catalog's answer was withdrawn since: it must not be served.
        right = _right(entry)
        served = document is not None and (document.expires is None or document.expires > now["today"])
        key, version, body = (document.key, document.version_id, document.body) if document else ("", 0, "")
        chunks += [(digest, key, version, right, served, body) for digest in entry.chunks]
    vectors = _vectors(connection, manifest.embedder, [digest for digest, *_ in chunks])
    return ExpectedChunks(
        [row[0] for row in chunks],
        [row[1] for row in chunks],
        [row[2] for row in chunks],
        [row[3] for row in chunks],
        np.array([row[4] for row in chunks], dtype=np.bool_),
        vectors,
        [row[5] for row in chunks],
    )


def _right(entry: ManifestEntry) -> Right:
    return Right(entry.tenant, entry.classification, tuple(entry.groups), tuple(entry.uses))


def _vectors(connection: Connection, embedder: str, digests: Sequence[str]) -> NDArray[np.float32]:
    rows = database.fetch(connection, "retrieval", "cached_embeddings", embedder=embedder, digests=sorted(set(digests)))
    known = {row["text_digest"]: row["embedding"].to_numpy() for row in rows}
    if not digests:
        return np.zeros((0, 0), dtype=np.float32)
    return np.stack([known[digest] for digest in digests]).astype(np.float32)


def _ask(
    connection: Connection,
    usecase: UseCase,
    generation: int,
    expected: ExpectedChunks,
    manifest: Manifest,
    seed: str,
) -> Tally:
    """Returns what the generated callers got, each held to an exact scan of what he may see.

    Each asks by vector alone, for recall; and, where the index is searched by words too, by words of some document, of
    one that he may not see as well.
    """
    tally = Tally()
    noise = np.random.default_rng(int(seed[:16], 16))
    chunker = dict(manifest.chunker)
    for caller in access.callers(expected.rights, usecase.retrieval.leak_principals, seed):
        readable = np.array([access.may_read(caller, right) for right in expected.rights], dtype=np.bool_)
        query, text = _query(expected, noise)
        scores = {
            expected.name(place): float(expected.vectors[place] @ query)
            for place in np.flatnonzero(readable & expected.served).tolist()
        }
        best = sorted(scores.values(), reverse=True)[:K]
        tally.callers += 1
        by_vector = _named(_search(connection, usecase, generation, caller, query, ""), chunker)
        answers = [by_vector]
        if manifest.text_search is not None:
            answers.append(_named(_search(connection, usecase, generation, caller, query, text), chunker))
        for names in answers:
            tally.rows += len(names)
            tally.leaks += sum(name not in scores for name in names)
            tally.short += len(names) < len(best)
        if best:
            hits = sum(scores.get(name, -np.inf) >= best[-1] - _TOLERANCE for name in set(by_vector))
            tally.recalls.append(hits / len(best))
    return tally


def _named(rows: Sequence[Mapping[str, Any]], chunker: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Returns what the rows of an answer are known by; the digest is of the text that was handed out."""
    return [
        (row["document_key"], row["document_version_id"], canonical.digest({"chunker": chunker, "text": row["body"]}))
        for row in rows
    ]


def _query(expected: ExpectedChunks, noise: np.random.Generator) -> tuple[NDArray[np.float32], str]:
    """Returns a vector near one of the chunks, as the index will round it, at half precision; and words of its
    document."""
    if not len(expected.vectors):
        return np.asarray(np.eye(1, 384)[0], dtype=np.float32), ""
    place = int(noise.integers(len(expected.vectors)))
    chosen, words = expected.vectors[place], expected.bodies[place].split()
    near = chosen + noise.normal(0, _NOISE, chosen.shape)
    rounded: NDArray[np.float32] = (near / np.linalg.norm(near)).astype(np.float16).astype(np.float32)
    start = int(noise.integers(max(1, len(words) - _WORDS)))
    return rounded, " ".join(words[start : start + _WORDS])


def _search(
    connection: Connection,
    usecase: UseCase,
    generation: int,
    caller: Caller,
    query: NDArray[np.float32],
    text: str,
) -> Sequence[Mapping[str, Any]]:
    from pgvector import HalfVector

    (opened,) = database.call(
        connection,
        "rag.open_session_as",
        usecase.name,
        caller.tenant,
        list(caller.groups),
        caller.clearance,
        caller.purpose,
    )
    given = {"token": opened["open_session_as"], "embedding": HalfVector(query)}
    search = database.fetch_one(
        connection, "retrieval", "search_generation", generation=generation, text=text[:10_000], k=K, **given
    )
    assert search is not None
    if not search["chunk_ids"]:
        return []
    return database.fetch(connection, "retrieval", "read_hits", audit=search["audit_id"], **given)


def _recall(tally: Tally, minimum: float) -> RecallGate:
    """Returns recall@10 over the callers who may see something; where there is none, there is nothing to miss."""
    mean = sum(tally.recalls) / len(tally.recalls) if tally.recalls else None
    worst = min(tally.recalls, default=None)
    return RecallGate(mean, worst, minimum, len(tally.recalls), passed=mean is None or mean >= minimum)


def _counts(connection: Connection, generation: int, manifest: Manifest) -> CountsGate:
    """Returns whether the generation holds, of each tenant and right, as many chunks as its manifest."""
    expected: Counter[Right] = Counter()
    for entry in manifest.documents:
        expected[_right(entry)] += len(entry.chunks)
    rows = database.fetch(connection, "retrieval", "generation_counts", generation=generation)
    held = {Right.of(row): row["chunks"] for row in rows}
    differing = sum(expected[right] != held.get(right, 0) for right in expected.keys() | held.keys())
    return CountsGate(expected.total(), sum(held.values()), len(+expected), differing, passed=differing == 0)
