"""Whether the records agree with the artifacts behind them: scores and differences are computed again, case by case,
from the evaluations' own files; the gate's checks are held against its report, and the policy against its seal."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pipeline import canonical, statistics
from pipeline.governance import evidence
from pipeline.records import read
from pipeline.results import FILE, WITH, WITHOUT, Evaluation, SuiteResults
from pipeline.statistics import Estimate

Note = Callable[[str, str], None]


def check(contents: Mapping[str, bytes], records: Mapping[str, Any], problem: Note) -> int:
    """Returns how many scores and differences were computed again. What does not agree is noted with `problem`, by
    file."""
    _policy(records, problem)
    _gate(contents, records, problem)
    computed = sum(_evaluation(contents, row, place, problem) for place, row in enumerate(records["evaluations"]))
    return computed + sum(
        _comparison(contents, row, place, problem) for place, row in enumerate(records["comparisons"])
    )


def _policy(records: Mapping[str, Any], problem: Note) -> None:
    policy = records["policy"]
    if policy is not None and canonical.digest(policy["content"]) != policy["digest"]:
        problem(evidence.record_path("policy"), "its content does not give the digest that was sealed")


def _gate(contents: Mapping[str, bytes], records: Mapping[str, Any], problem: Note) -> None:
    """Holds the decision against the gate's report, and what it rests on against the lineage."""
    decision = records["decision"]
    known = {row["digest"] for row in records["lineage"]["versions"]}
    known |= {records["policy"]["digest"]} if records["policy"] else set()
    rests = {*decision["evidence"].values(), decision["model_digest"], decision["index_digest"]} - {None}
    for digest in sorted(rests - known):
        problem(evidence.record_path("decision"), f"it rests on {digest[:16]}, which the lineage does not hold")
    for report in _files(contents, "gate_report", decision["evidence"].get("report")):
        if "checks" in report and report["checks"] != decision["checks"]:
            problem(evidence.record_path("decision"), "its checks are not those of the gate's report")


def _evaluation(contents: Mapping[str, bytes], row: Mapping[str, Any], place: int, problem: Note) -> int:
    """Returns how many of an evaluation's scores were computed again from its cases."""
    computed = 0
    for part, confidence in _parts(contents, row["artifact_digest"], row["suite"], row["retrieval"]):
        for name, stated in row["metrics"].items():
            scores = [case.scores[name] for case in part.cases if name in case.scores]
            again = statistics.mean(scores, confidence).rounded()
            if not _agree(again, stated):
                what = f"entry {place}: {name} is not what its {len(scores)} cases give"
                problem(evidence.record_path("evaluations"), what)
            computed += 1
    return computed


def _comparison(contents: Mapping[str, bytes], row: Mapping[str, Any], place: int, problem: Note) -> int:
    """Returns whether a paired difference was computed again: 1, or 0 where the cases are not in the packet."""
    metric = row["metric"]
    sides = [
        [
            {case.case: case.scores[metric] for case in part.cases if metric in case.scores}
            for part, _ in _parts(contents, row[f"{side}_digest"], row["suite"], row[f"{side}_retrieval"])
        ]
        for side in ("candidate", "baseline")
    ]
    if not all(sides):
        return 0
    (candidate, *_), (baseline, *_) = sides
    shared = sorted(candidate.keys() & baseline.keys())
    scores = [candidate[key] for key in shared], [baseline[key] for key in shared]
    again = statistics.paired(*scores, row["confidence"]).rounded()
    stated = {key: row[key] for key in ("low", "high", "n", "method")} | {"value": row["difference"]}
    if not _agree(again, stated):
        what = f"entry {place}: the difference in {metric} is not what the {len(shared)} cases that both answered give"
        problem(evidence.record_path("comparisons"), what)
    return 1


def _agree(again: Estimate, stated: Mapping[str, Any]) -> bool:
    """Returns whether two estimates are equal to six places; intervals count where both are of the same method."""
    keys = ["value", "n"] + (["low", "high"] if again.method == stated.get("method") else [])
    return all(abs(getattr(again, key) - stated[key]) <= 1e-6 for key in keys)


def _parts(contents: Mapping[str, bytes], digest: str, suite: str, retrieval: bool) -> list[tuple[SuiteResults, float]]:
    """Returns an evaluation's cases in one suite under one condition, with the confidence of its intervals."""
    path = f"{evidence.artifact_path('evaluation', digest)}/files/{FILE}"
    if path not in contents:
        return []
    content = read(Evaluation, contents[path], path)
    condition = WITH if retrieval else WITHOUT
    return [
        (part, content.settings.confidence)
        for part in content.results
        if part.suite == suite and part.condition == condition
    ]


def _files(contents: Mapping[str, bytes], kind: str, digest: str | None) -> list[dict[str, Any]]:
    """Returns the JSON files of an artifact that are in the packet."""
    folder = f"{evidence.artifact_path(kind, digest or 'none')}/files/"
    return [json.loads(data) for name, data in contents.items() if name.startswith(folder) and name.endswith(".json")]
