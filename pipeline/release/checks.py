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


def thresholds(
    policy: Mapping[str, Any], candidate: Mapping[str, Any], baseline: Mapping[str, Any], against: str
) -> tuple[list[Check], list[Comparison]]:
    """Returns a check for every threshold on every gated suite it applies to, and the comparisons behind them.

    `candidate` and `baseline` are the contents of evaluation artifacts, `against` what the baseline is. A threshold
    that applies to no case of any suite is inconclusive. A policy without thresholds gives one check that says so.
    Raises BadInput where the two are not over the same cases.
    """
    checks: list[Check] = []
    comparisons: list[Comparison] = []
    for threshold in policy["thresholds"]:
        applied = 0
        for suite in policy["suites"]:
            name, metric = suite["name"], threshold["metric"]
            new, old, condition = _pairs(candidate, baseline, name, metric)
            applied += len(new)
            if not new:
                continue
            told = {"suite": name, "condition": condition, "metric": metric, "min_cases": policy["min_cases"]}
            if threshold["minimum"] is not None:
                estimate = statistics.mean(new, policy["confidence"])
                checks.append(_check({**told, "rule": "minimum"}, threshold["minimum"], estimate, policy))
            if threshold["margin"] is not None:
                estimate = statistics.paired(new, old, policy["confidence"])
                comparisons.append(Comparison(name, condition, metric, estimate))
                checks.append(
                    _check({**told, "rule": "margin", "against": against}, -threshold["margin"], estimate, policy)
                )
        if not applied:
            name = f"{threshold['metric']}.unmeasured"
            reason = "no case of a gated suite has this metric"
            checks.append(
                {"name": name, "metric": threshold["metric"], "verdict": "inconclusive", "reason": reason, "n": 0}
            )
    if not policy["thresholds"]:
        reason = "the policy names no threshold: nothing was compared"
        checks.append({"name": "policy.thresholds", "verdict": "pass", "reason": reason, "n": 0})
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


def _check(told: dict[str, Any], wanted: float, estimate: Estimate, policy: Mapping[str, Any]) -> Check:
    verdict, reason = judge(estimate, wanted, policy["min_cases"])
    name = f"{told['suite']}.{told['metric']}.{told['rule']}"
    found = estimate.as_dict() | {"confidence": policy["confidence"]}
    return {"name": name, **told, "wanted": wanted, **found, "verdict": verdict, "reason": reason}


def _pairs(
    candidate: Mapping[str, Any], baseline: Mapping[str, Any], suite: str, metric: str
) -> tuple[list[float], list[float], str]:
    """Returns both models' scores over the cases of a suite that have the metric, and the condition: with retrieval,
    where the suite was asked so."""
    new, old = _results(candidate, suite), _results(baseline, suite)
    condition = "with" if "with" in new else "without"
    if new.keys() != old.keys() or any(new[key].keys() != old[key].keys() for key in new):
        raise BadInput(
            "the two evaluations are not over the same cases",
            where=f"suite {suite}",
            next_step="evaluate both against the same suites and index",
        )
    found, other = new.get(condition, {}), old.get(condition, {})
    cases = [case for case in sorted(found) if metric in found[case] and metric in other[case]]
    return [found[case][metric] for case in cases], [other[case][metric] for case in cases], condition


def _results(evaluation: Mapping[str, Any], suite: str) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the scores of a suite by condition and case. A case counts as its content, not as its name."""
    return {
        result["condition"]: {f"{case['case']}/{case['digest']}": case["scores"] for case in result["cases"]}
        for result in evaluation["results"]
        if result["suite"] == suite
    }
