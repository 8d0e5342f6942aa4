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
from pipeline.database import Connection
from pipeline.retrieval import access, loading
from pipeline.retrieval.access import Caller
from pipeline.retrieval.loading import Right
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Reuse, Step, Version
from pipeline.usecase import UseCase

K = 10  # recall is measured at
# Both sides compute with the same half-precision vectors; what is left is the order of summation.
_TOLERANCE = 1e-4
_NOISE = 0.03  # a query is a chunk's vector with noise of this deviation on each coordinate


@dataclass(frozen=True)
class Shelf:
    """The chunks that a generation must hold, as arrays of equal length."""

    digests: Sequence[str]
    documents: Sequence[str]
    versions: Sequence[int]
    rights: Sequence[Right]
    served: NDArray[np.bool_]  # not withdrawn and not expired
    vectors: NDArray[np.float32]  # (n, 384)


@dataclass
class Tally:
    """What the generated callers got."""

    callers: int = 0
    rows: int = 0
    leaks: int = 0  # rows that a caller may not see, or that are not what they claim
    short: int = 0  # answers with fewer rows than the caller may see
    recalls: list[float] = field(default_factory=list)  # of callers who may see something


_FEW = 10  # documents; so many may go from an index that keeps others


def check(
    settings: Settings,
    usecase: UseCase,
    origin: Origin,
    built: Mapping[str, Any],
    *,
    accept_loss: str | None = None,
    reuse: Reuse = "auto",
) -> dict[str, Any]:
    """Returns {passed, gates, outputs: {report}}: `gates` maps counts, recall, leaks and loss to what was measured and
    whether it is enough. The gates are also written beside the generation.

    An index that is empty, or lost many of the documents that are live, passes by `accept_loss` alone: the reason of
    the person who asked, kept in the gate.

    `reuse` changes nothing: a generation is tested as it stands.
    """
    generation = int(built["generation"])
    version = Version(**built["outputs"]["generation"])
    with database.connect(settings, "pipeline") as connection:
        row = database.fetch_one(connection, "retrieval", "generation", generation=generation)
        assert row is not None
        pinned = steps.version(connection, row["corpus_version_id"])

    def work(attempt: Attempt) -> Result:
        manifest = loading.read_manifest(attempt.store, version.digest)
        # Measured with what the index builder may read; written down by a login that builds none.
        with database.connect(settings, "pipeline") as reading:
            shelf = _shelf(reading, generation, pinned, manifest)
            tally = _ask(reading, usecase, generation, shelf, manifest, version.digest)
            counts = _counts(reading, generation, manifest)
            loss = _loss(reading, usecase, manifest, origin.requested_by, accept_loss)
        gates = {
            "counts": counts,
            "recall": _recall(tally, usecase.retrieval.min_recall),
            "leaks": {
                "callers": tally.callers,
                "rows": tally.rows,
                "leaks": tally.leaks,
                "short": tally.short,
                "passed": tally.leaks == 0 and tally.short == 0,
            },
            "loss": loss,
        }
        passed = all(gate["passed"] for gate in gates.values())
        content = {"generation": version.digest, "passed": passed, "gates": gates}
        stored = attempt.store.put("gate_report", {"gates.json": canonical.dumps(content).encode()})

        def write(connection: Connection, _versions: Mapping[str, Version]) -> None:
            database.call(connection, "rag.record_gates", generation, Jsonb(gates))

        facts = {"passed": passed, "gates": gates}
        return Result({"report": Output.of(stored, "index_gates", private=False)}, facts, write)

    spec = Step(
        usecase.name,
        "retrieval.check",
        "evaluator",
        ("pipeline.retrieval.gates",),
        params={
            "min_recall": usecase.retrieval.min_recall,
            "leak_principals": usecase.retrieval.leak_principals,
            "max_lost": usecase.retrieval.max_lost,
            "generation": generation,
        },
        inputs={"generation": version, "corpus": pinned},
        reuse="never",
    )
    outcome = steps.run(settings, origin, spec, work)
    return outcome.as_dict() | dict(outcome.facts)


def _loss(
    connection: Connection, usecase: UseCase, manifest: Mapping[str, Any], person: str, reason: str | None
) -> dict[str, Any]:
    """Returns how many of the documents that are live the generation does not have any more."""
    live = database.fetch_one(connection, "retrieval", "live_generation", use_case=usecase.name)
    rows = (
        database.fetch(connection, "retrieval", "generation_keys", generation=live["generation_id"])
        if live is not None and live["standing"]
        else []
    )
    before = {canonical.digest_text(row["document_key"]) for row in rows}  # as the manifest names them
    lost = before - {entry["document"] for entry in manifest["documents"]}
    many = bool(lost) and (
        lost == before or (len(lost) >= _FEW and len(lost) > usecase.retrieval.max_lost * len(before))
    )
    accepted = None if reason is None or not many else {"by": person, "reason": reason}
    return {"before": len(before), "lost": len(lost), "accepted": accepted, "passed": not many or accepted is not None}


def _shelf(connection: Connection, generation: int, pinned: Version, manifest: Mapping[str, Any]) -> Shelf:
    """Returns what the manifest says the generation holds, with the documents' rights from the catalog and the vectors
    from the cache."""
    digests = [entry["version"] for entry in manifest["documents"]]
    known = {document.digest: document for document in loading.documents(connection, pinned.version_id, digests)}
    now = database.fetch_one(connection, "retrieval", "today")
    assert now is not None
    found: list[tuple[str, str, int, Right, bool]] = []
    for entry in manifest["documents"]:
        document = known.get(entry["version"])
        # A document that is no longer in the catalog's answer was withdrawn since: it must not be served.
        right = Right(entry["tenant"], entry["classification"], tuple(entry["groups"]))
        served = document is not None and (document.expires is None or document.expires > now["today"])
        key, version = (document.key, document.version_id) if document else ("", 0)
        found += [(digest, key, version, right, served) for digest in entry["chunks"]]
    vectors = _vectors(connection, manifest["embedder"], [digest for digest, *_ in found])
    return Shelf(
        [row[0] for row in found],
        [row[1] for row in found],
        [row[2] for row in found],
        [row[3] for row in found],
        np.array([row[4] for row in found], dtype=np.bool_),
        vectors,
    )


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
    shelf: Shelf,
    manifest: Mapping[str, Any],
    seed: str,
) -> Tally:
    """Returns what the generated callers got, each held to an exact scan of what he may see."""
    tally = Tally()
    noise = np.random.default_rng(int(seed[:16], 16))
    chunker = manifest["chunker"]
    for caller in access.callers(shelf.rights, usecase.retrieval.leak_principals, seed):
        allowed = np.array([access.may_read(caller, right) for right in shelf.rights], dtype=np.bool_) & shelf.served
        query = _query(shelf, noise)
        rows = _search(connection, usecase, generation, caller, query)
        scores = {
            (shelf.documents[place], shelf.versions[place], shelf.digests[place]): float(shelf.vectors[place] @ query)
            for place in np.flatnonzero(allowed).tolist()
        }
        best = sorted(scores.values(), reverse=True)[:K]
        named = [
            (
                row["document_key"],
                row["document_version_id"],
                canonical.digest({"chunker": chunker, "text": row["body"]}),
            )
            for row in rows
        ]
        tally.callers += 1
        tally.rows += len(rows)
        tally.leaks += sum(name not in scores for name in named)
        tally.short += len(rows) < len(best)
        if best:
            hits = sum(scores.get(name, -np.inf) >= best[-1] - _TOLERANCE for name in set(named))
            tally.recalls.append(hits / len(best))
    return tally


def _query(shelf: Shelf, noise: np.random.Generator) -> NDArray[np.float32]:
    """Returns a query near one of the chunks, as the index will round it: at half precision."""
    if not len(shelf.vectors):
        return np.asarray(np.eye(1, 384)[0], dtype=np.float32)
    chosen = shelf.vectors[noise.integers(len(shelf.vectors))]
    found = chosen + noise.normal(0, _NOISE, chosen.shape)
    rounded: NDArray[np.float32] = (found / np.linalg.norm(found)).astype(np.float16).astype(np.float32)
    return rounded


def _search(
    connection: Connection, usecase: UseCase, generation: int, caller: Caller, query: NDArray[np.float32]
) -> Sequence[Mapping[str, Any]]:
    from pgvector import HalfVector

    (opened,) = database.call(
        connection, "rag.open_session_as", usecase.name, caller.tenant, list(caller.groups), caller.clearance
    )
    given = {"token": opened["open_session_as"], "embedding": HalfVector(query)}
    search = database.fetch_one(
        connection, "retrieval", "search_generation", generation=generation, text="", k=K, **given
    )
    assert search is not None
    if not search["chunk_ids"]:
        return []
    return database.fetch(connection, "retrieval", "read_hits", audit=search["audit_id"], **given)


def _recall(tally: Tally, minimum: float) -> dict[str, Any]:
    """Returns recall@10 over the callers who may see something; where there is none, there is nothing to miss."""
    mean = sum(tally.recalls) / len(tally.recalls) if tally.recalls else None
    return {
        "value": mean,
        "worst": min(tally.recalls, default=None),
        "minimum": minimum,
        "queries": len(tally.recalls),
        "passed": mean is None or mean >= minimum,
    }


def _counts(connection: Connection, generation: int, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns whether the generation holds, of each tenant and right, as many chunks as its manifest."""
    expected: Counter[Right] = Counter()
    for entry in manifest["documents"]:
        right = Right(entry["tenant"], entry["classification"], tuple(entry["groups"]))
        expected[right] += len(entry["chunks"])
    rows = database.fetch(connection, "retrieval", "generation_counts", generation=generation)
    held = {Right(row["tenant"], row["classification"], tuple(row["groups"])): row["chunks"] for row in rows}
    differing = sum(expected[right] != held.get(right, 0) for right in expected.keys() | held.keys())
    return {
        "expected": expected.total(),
        "found": sum(held.values()),
        "rights": len(+expected),
        "differing": differing,
        "passed": differing == 0,
    }
