"""A packet without a database: records as the database would give them, artifacts in a store."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import canonical, statistics
from pipeline.artifacts import ArtifactStore
from pipeline.governance import assembly, files
from pipeline.records import plain, write
from pipeline.results import (
    WITH,
    CaseResult,
    Evaluation,
    EvaluationSettings,
    GenerationSettings,
    ModelSettings,
    RetrievalSettings,
    SuiteResults,
    SuiteSettings,
)

AT = "2026-01-02T03:04:05+00:00"
RUN = "00000000-0000-0000-0000-000000000001"
TRAINED = {
    "steps": 6, "steps_planned": 6, "best_step": 6, "eval_loss_before": 2.5, "eval_loss": 1.5, "train_loss": 0.4,
    "overfitted": False, "seconds": 61.5, "seconds_before": 0.0, "peak_memory_mib": 900,
    "plan": {"batch_size": 8, "memory_mib": 950, "seconds": 70, "trainable": 163840, "parameters": 1246336},
    "cost": {"amount": 0.0427, "currency": "EUR"},
}  # fmt: skip


def version(kind: str, name: str, digest: str, private: bool = False) -> dict[str, Any]:
    """Returns a row of the lineage."""
    return {
        "kind": kind, "name": name, "digest": digest, "size_bytes": 7, "private": private, "purged": False,
        "run_id": RUN, "job": f"test.{name}", "login": "pipeline",
        "requested_by": "engineer", "started_at": AT, "ended_at": AT,
    }  # fmt: skip


def right(cases: int) -> list[float]:
    """Returns the scores of forty cases, the first so many of them right."""
    return [1.0 if place < cases else 0.0 for place in range(40)]


def evaluated(cases: int) -> tuple[bytes, dict[str, Any]]:
    """Returns an evaluation's file with so many cases right, and its metrics."""
    metrics = {"correct": statistics.mean(right(cases), 0.95).rounded()}
    scored = [CaseResult(f"case-{place}", "d", {"correct": score}, "a", []) for place, score in enumerate(right(cases))]
    settings = EvaluationSettings(
        [SuiteSettings("main", "e" * 64, "f" * 64, None, True, 40)],
        GenerationSettings("greedy", 64, 4),
        ModelSettings("float32", "none", "cpu"),
        RetrievalSettings(3, None),
        0.95,
    )
    evaluation = Evaluation({"base": "b" * 64}, settings, [SuiteResults("main", WITH, metrics, scored)])
    return write(evaluation), plain(metrics)


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, bytes]:
    """The files of a packet, with its manifest: one evaluation, one private snapshot, weights that are not copied."""
    store = ArtifactStore(str(tmp_path / "store"))
    files_of = {subject: evaluated(right) for subject, right in (("candidate", 30), ("base", 10))}
    made = {subject: store.put("evaluation", {"evaluation.json": data}) for subject, (data, _) in files_of.items()}
    evaluation = made["candidate"]
    metrics = files_of["candidate"][1]
    policy = {"min_cases": 30}
    difference = plain(statistics.paired(right(30), right(10), 0.95).rounded())
    snapshot = store.put("snapshot", {"rows.jsonl": b"secret"})
    weights = store.put("adapter", {"weights.dat": b"\0weights"})
    rows = [
        version("adapter", "candidate", weights.digest) | {"uri": weights.uri},
        version("base_model", "base", "b" * 64) | {"uri": None},
        version("evaluation", "candidate", evaluation.digest) | {"uri": evaluation.uri},
        version("evaluation", "base", made["base"].digest) | {"uri": made["base"].uri},
        version("snapshot", "documents", snapshot.digest, private=True) | {"uri": snapshot.uri},
    ]
    records: dict[str, Any] = {
        "decision": {
            "decision_id": 7, "use_case": "demo", "kind": "model", "outcome": "approve", "needs_person": True,
            "requested_by": "engineer", "login": "pipeline", "decided_at": AT, "run_id": RUN, "replaces": None,
            "checks": [
                {"name": "policy.sealed", "verdict": "pass", "reason": "sealed before", "sealed_at": AT},
                {"name": "correct.minimum", "verdict": "pass", "reason": "it reaches", "metric": "correct",
                 "rule": "minimum", "wanted": 0.6, "value": 0.75, "low": 0.61, "high": 0.86, "n": 40,
                 "suites": {"main": {"value": 0.75, "low": 0.61, "high": 0.86, "n": 40}}},
            ],
            "evidence": {"candidate": evaluation.digest}, "model_digest": weights.digest, "index_digest": None,
        },
        "policy": {"digest": canonical.digest(policy), "content": policy, "sealed_by": "engineer", "login": "pipeline",
                   "sealed_at": AT},
        "approvals": [{"answer": "approve", "person": "reviewer", "reason": "1 | 2 [^3] fine", "login": "approver",
                       "answered_at": AT}],
        "waivers": [],
        "deployment": [],
        "lineage": {
            "versions": [{key: value for key, value in row.items() if key != "uri"} for row in rows],
            "edges": [{"made_from": snapshot.digest, "went_into": weights.digest}],
        },
        "runs": [{
            "run_id": RUN, "job": "training.sft", "params": {"epochs": 3}, "facts": {"rows": 40, "training": TRAINED},
            "environment": {"python": "3.11.7"}, "login": "trainer", "requested_by": "engineer", "started_at": AT,
            "ended_at": AT,
        }],
        "curves": [
            {"job": "training.sft", "run_id": RUN, "step": step, "loss": 2.0 / step,
             "eval_loss": None if step % 2 else 1.5}
            for step in range(1, 7)
        ],
        "datasets": [{"kind": "examples", "version": 2, "digest": "d" * 64, "counts": {"train": 32},
                      "committed_at": AT}],
        "findings": [{"rule": "duplicate", "severity": "rejected", "findings": 3}],
        "evaluations": [{
            "subject": "candidate", "suite": "main", "suite_digest": "e" * 64, "cases": 40, "gated": True,
            "retrieval": True, "model_digest": weights.digest, "index_digest": None,
            "artifact_digest": evaluation.digest, "metrics": metrics, "evaluated_at": AT,
        }],
        "comparisons": [{
            "suite": "main", "candidate": "candidate", "baseline": "base", "candidate_retrieval": True,
            "baseline_retrieval": True, "candidate_digest": evaluation.digest, "baseline_digest": made["base"].digest,
            "metric": "correct", "difference": difference["value"], "low": difference["low"],
            "high": difference["high"], "n": difference["n"], "method": difference["method"], "confidence": 0.95,
        }],
        "index": [{
            "generation_id": 1, "digest": "a" * 64, "embedder": "b" * 64, "chunker": {}, "chunks": 12,
            "tenants": ["acme"], "gates": {"recall": 1.0, "leaks": 0}, "attached_at": AT,
        }],
    }  # fmt: skip
    built = assembly.build(store, records, rows, final=True)
    digest = store.put("packet", dict(built)).digest
    return built | {"manifest.json": canonical.dumps(store.manifest("packet", digest)).encode()}


@pytest.fixture
def folder(contents: dict[str, bytes], tmp_path: Path) -> Path:
    """The packet as a folder."""
    target = tmp_path / "packet"
    for name, data in contents.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return target


@pytest.fixture
def zipped(contents: dict[str, bytes], tmp_path: Path) -> Path:
    """The packet as a zip file."""
    target = tmp_path / "packet.zip"
    target.write_bytes(files.zipped(contents))
    return target
