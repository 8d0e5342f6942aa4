"""A packet without a database: records as the database would give them, artifacts in a store."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import canonical
from pipeline.artifacts import ArtifactStore
from pipeline.governance import assembly, files

AT = "2026-01-02T03:04:05+00:00"
RUN = "00000000-0000-0000-0000-000000000001"


def version(kind: str, name: str, digest: str, private: bool = False) -> dict[str, Any]:
    """Returns a row of the lineage."""
    return {
        "kind": kind, "name": name, "digest": digest, "size_bytes": 7, "private": private, "purged": False,
        "run_id": RUN, "job": f"test.{name}", "login": "pipeline",
        "requested_by": "engineer", "started_at": AT, "ended_at": AT,
    }  # fmt: skip


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, bytes]:
    """The files of a packet, with its manifest: one evaluation, one private snapshot, weights that are not copied."""
    store = ArtifactStore(str(tmp_path / "store"))
    metrics = {"correct": {"value": 0.75, "low": 0.6, "high": 0.86, "n": 40}}
    evaluation = store.put("evaluation", {"evaluation.json": canonical.dumps({"metrics": metrics}).encode()})
    snapshot = store.put("snapshot", {"rows.jsonl": b"secret"})
    weights = store.put("adapter", {"weights.dat": b"\0weights"})
    rows = [
        version("adapter", "candidate", weights.digest) | {"uri": weights.uri},
        version("base_model", "base", "b" * 64) | {"uri": None},
        version("evaluation", "candidate", evaluation.digest) | {"uri": evaluation.uri},
        version("snapshot", "documents", snapshot.digest, private=True) | {"uri": snapshot.uri},
    ]
    records: dict[str, Any] = {
        "decision": {
            "decision_id": 7, "use_case": "demo", "kind": "model", "outcome": "approve", "needs_person": True,
            "requested_by": "engineer", "login": "pipeline", "decided_at": AT, "run_id": RUN, "replaces": None,
            "checks": [{"name": "correct", "verdict": "pass", "minimum": 0.6}],
            "evidence": {"candidate": evaluation.digest}, "model_digest": weights.digest, "index_digest": None,
        },
        "policy": {"digest": "c" * 64, "content": {"min_cases": 30}, "sealed_by": "engineer", "login": "pipeline",
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
            "run_id": RUN, "job": "training.sft", "params": {"epochs": 3}, "facts": {"loss": 1.25, "rows": 40},
            "environment": {"python": "3.11.7"}, "login": "trainer", "requested_by": "engineer", "started_at": AT,
            "ended_at": AT,
        }],
        "datasets": [{"kind": "examples", "version": 2, "digest": "d" * 64, "counts": {"train": 32},
                      "committed_at": AT}],
        "findings": [{"rule": "duplicate", "severity": "rejected", "findings": 3}],
        "evaluations": [{
            "subject": "candidate", "suite": "main", "suite_digest": "e" * 64, "cases": 40, "gated": True,
            "retrieval": True, "model_digest": weights.digest, "index_digest": None,
            "artifact_digest": evaluation.digest, "metrics": metrics, "evaluated_at": AT,
        }],
        "comparisons": [],
    }  # fmt: skip
    made = assembly.build(store, records, rows, final=True)
    digest = store.put("packet", dict(made)).digest
    return made | {"manifest.json": canonical.dumps(store.manifest("packet", digest)).encode()}


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
