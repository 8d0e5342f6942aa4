"""The gate's checks: pure functions from two evaluations and a policy to verdicts.

Every check must pass, each at the policy's confidence. Demanding all of several tests needs no correction for their
number: the union of their null hypotheses is rejected at the level of each (intersection–union test; Berger,
Technometrics 24, 1982).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline import statistics
from pipeline.errors import BadInput
from pipeline.statistics import Estimate

# condition: nothing speaks against it, but a person has to accept it. Inconclusive is never a pass.
Verdict = Literal["pass", "fail", "inconclusive", "condition"]
Check = dict[str, Any]
Outcome = Literal["approve", "approve_with_conditions", "block"]


@dataclass(frozen=True)
class Comparison:
    """A paired difference, candidate − baseline, on one metric of one suite."""

    suite: str
    condition: str
    metric: str
    estimate: Estimate


@dataclass(frozen=True)
class Pairs:
    """Both models' scores over the cases of one suite that have a metric, case by case."""

    suite: str
    condition: str  # with retrieval, where the suite was asked so
    candidate: list[float]
    baseline: list[float]


def thresholds(
    policy: Mapping[str, Any], candidate: Mapping[str, Any], baseline: Mapping[str, Any], against: str
) -> tuple[list[Check], list[Comparison]]:
    """Returns the checks of every threshold over the cases of all gated suites together, each with the suites' own
    numbers beside it, and the comparisons per suite.

    `candidate` and `baseline` are the contents of evaluation artifacts, `against` what the baseline is. A threshold
    whose metric no case has is inconclusive. A policy without thresholds gives one check that says so. Raises BadInput
    where the two are not over the same cases.
    """
    checks: list[Check] = []
    comparisons: list[Comparison] = []
    confidence = policy["confidence"]
    for threshold in policy["thresholds"]:
        metric = threshold["metric"]
        parts = [_pairs(candidate, baseline, suite["name"], metric) for suite in policy["suites"]]
        parts = [part for part in parts if part.candidate]
        new = [score for part in parts for score in part.candidate]
        old = [score for part in parts for score in part.baseline]
        if threshold["minimum"] is not None:
            own = {part.suite: statistics.mean(part.candidate, confidence) for part in parts}
            told = {"name": f"{metric}.minimum", "metric": metric, "rule": "minimum", "wanted": threshold["minimum"]}
            checks.append(_check(told, statistics.mean(new, confidence), own, policy))
        if threshold["margin"] is not None:
            own = {part.suite: statistics.paired(part.candidate, part.baseline, confidence) for part in parts}
            comparisons += [Comparison(part.suite, part.condition, metric, own[part.suite]) for part in parts]
            told = {"name": f"{metric}.margin", "metric": metric, "rule": "margin", "against": against}
            told["wanted"] = -threshold["margin"]
            checks.append(_check(told, statistics.paired(new, old, confidence), own, policy))
    if not policy["thresholds"]:
        reason = "the policy names no threshold: nothing was compared"
        checks.append({"name": "policy.thresholds", "verdict": "pass", "reason": reason})
    return checks, comparisons


def judge(estimate: Estimate, wanted: float, min_cases: int) -> tuple[Verdict, str]:
    """Returns the verdict on an estimate that must not lie below `wanted`, and why.

    Pass: the interval's lower end reaches it. Fail: its upper end does not. Inconclusive: it lies between, or the cases
    are too few to tell.
    """
    if estimate.n < min_cases:
        return "inconclusive", f"{estimate.n} cases are fewer than the {min_cases} that the policy asks for"
    if estimate.low >= wanted:
        return "pass", "the whole interval reaches what is wanted"
    if estimate.high < wanted:
        return "fail", "the whole interval lies below what is wanted"
    return "inconclusive", "the interval holds both what is wanted and less"


def outcome(checks: list[Check]) -> Outcome:
    """Returns what the checks amount to. One that failed or is inconclusive blocks."""
    verdicts = {check["verdict"] for check in checks}
    if not verdicts or verdicts & {"fail", "inconclusive"}:
        return "block"
    return "approve_with_conditions" if "condition" in verdicts else "approve"


def _check(told: Check, estimate: Estimate, own: Mapping[str, Estimate], policy: Mapping[str, Any]) -> Check:
    verdict, reason = judge(estimate, told["wanted"], policy["min_cases"])
    found = estimate.as_dict() | {"confidence": policy["confidence"], "min_cases": policy["min_cases"]}
    suites = {suite: one.as_dict() for suite, one in own.items()}
    return {**told, **found, "suites": suites, "verdict": verdict, "reason": reason}


def _pairs(candidate: Mapping[str, Any], baseline: Mapping[str, Any], suite: str, metric: str) -> Pairs:
    new, old = _results(candidate, suite), _results(baseline, suite)
    if new.keys() != old.keys() or any(new[key].keys() != old[key].keys() for key in new):
        raise BadInput(
            "the two evaluations are not over the same cases",
            where=f"suite {suite}",
            next_step="evaluate both against the same suites and index",
        )
    condition = "with" if "with" in new else "without"
    found, other = new.get(condition, {}), old.get(condition, {})
    cases = [case for case in sorted(found) if metric in found[case] and metric in other[case]]
    return Pairs(suite, condition, [found[case][metric] for case in cases], [other[case][metric] for case in cases])


def _results(evaluation: Mapping[str, Any], suite: str) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the scores of a suite by condition and case. A case counts as its content, not as its name."""
    return {
        result["condition"]: {f"{case['case']}/{case['digest']}": case["scores"] for case in result["cases"]}
        for result in evaluation["results"]
        if result["suite"] == suite
    }
