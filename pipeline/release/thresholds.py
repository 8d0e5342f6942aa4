"""The gate's checks: pure functions from two evaluations and a policy to verdicts.

Every check must pass, each at the policy's confidence. Demanding all of several tests needs no correction for their
number: the union of their null hypotheses is rejected at the level of each (intersection–union test; Berger,
Technometrics 24, 1982).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline import statistics
from pipeline.errors import BadInput
from pipeline.release.records import PolicyContent
from pipeline.results import WITH, WITHOUT, Check, Condition, Evaluation, Measured, Outcome, Verdict
from pipeline.statistics import Estimate


@dataclass(frozen=True)
class Comparison:
    """A paired difference, candidate − baseline, on one metric of one suite."""

    suite: str
    condition: Condition
    metric: str
    estimate: Estimate


@dataclass(frozen=True)
class Pairs:
    """Both models' scores over the cases of one suite that have a metric, case by case."""

    suite: str
    condition: Condition  # with retrieval, where the suite was asked so
    candidate: list[float]
    baseline: list[float]


def thresholds(
    policy: PolicyContent, candidate: Evaluation, baseline: Evaluation, against: str
) -> tuple[list[Check], list[Comparison]]:
    """Returns the checks of every threshold over the cases of all gated suites together, each with the suites' own
    numbers beside it, and the comparisons per suite.

    `against` is what the baseline is. A threshold whose metric no case has is inconclusive. A policy without thresholds
    gives one check that says so. Raises BadInput where the two are not over the same cases.
    """
    checks: list[Check] = []
    comparisons: list[Comparison] = []
    for threshold in policy.thresholds:
        parts = [_pairs(candidate, baseline, suite.name, threshold.metric) for suite in policy.suites]
        parts = [part for part in parts if part.candidate]
        if threshold.minimum is not None:
            checks.append(_minimum(threshold.metric, threshold.minimum, parts, policy))
        if threshold.margin is not None:
            check, compared = _margin(threshold.metric, threshold.margin, parts, policy, against)
            checks.append(check)
            comparisons += compared
    if not policy.thresholds:
        checks.append(Check("policy.thresholds", "pass", "the policy names no threshold: nothing was compared"))
    return checks, comparisons


def _minimum(metric: str, minimum: float, parts: Sequence[Pairs], policy: PolicyContent) -> Check:
    """Returns the check that the candidate reaches a minimum."""
    scores = [score for part in parts for score in part.candidate]
    own = {part.suite: statistics.mean(part.candidate, policy.confidence) for part in parts}
    estimate = statistics.mean(scores, policy.confidence)
    return _check(f"{metric}.minimum", _measured(metric, "minimum", minimum, None, estimate, own, policy), estimate)


def _margin(
    metric: str, margin: float, parts: Sequence[Pairs], policy: PolicyContent, against: str
) -> tuple[Check, list[Comparison]]:
    """Returns the check that the candidate is not worse by more than a margin, and the differences per suite."""
    new = [score for part in parts for score in part.candidate]
    old = [score for part in parts for score in part.baseline]
    own = {part.suite: statistics.paired(part.candidate, part.baseline, policy.confidence) for part in parts}
    estimate = statistics.paired(new, old, policy.confidence)
    measured = _measured(metric, "margin", -margin, against, estimate, own, policy)
    compared = [Comparison(part.suite, part.condition, metric, own[part.suite]) for part in parts]
    return _check(f"{metric}.margin", measured, estimate), compared


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


def outcome(verdicts: Sequence[Verdict]) -> Outcome:
    """Returns what the verdicts of all checks amount to. One that failed or is inconclusive blocks."""
    if not verdicts or {"fail", "inconclusive"} & set(verdicts):
        return "block"
    return "approve_with_conditions" if "condition" in verdicts else "approve"


def _measured(
    metric: str,
    rule: Literal["minimum", "margin"],
    wanted: float,
    against: str | None,
    estimate: Estimate,
    own: Mapping[str, Estimate],
    policy: PolicyContent,
) -> Measured:
    rounded = {suite: one.rounded() for suite, one in own.items()}
    return Measured(metric, rule, wanted, against, estimate.rounded(), rounded, policy.confidence, policy.min_cases)


def _check(name: str, measured: Measured, estimate: Estimate) -> Check:
    """Returns the check, judged on the estimate before it was rounded."""
    return Check(name, *judge(estimate, measured.wanted, measured.min_cases), measured)


def _pairs(candidate: Evaluation, baseline: Evaluation, suite: str, metric: str) -> Pairs:
    new, old = _scores(candidate, suite), _scores(baseline, suite)
    if new.keys() != old.keys() or any(new[condition].keys() != old[condition].keys() for condition in new):
        raise BadInput(
            "the two evaluations are not over the same cases",
            where=f"suite {suite}",
            next_step="evaluate both against the same suites and index",
        )
    condition = WITH if WITH in new else WITHOUT
    ours, theirs = new.get(condition, {}), old.get(condition, {})
    cases = [case for case in sorted(ours) if metric in ours[case] and metric in theirs[case]]
    return Pairs(suite, condition, [ours[case][metric] for case in cases], [theirs[case][metric] for case in cases])


def _scores(evaluation: Evaluation, suite: str) -> dict[Condition, dict[str, Mapping[str, float]]]:
    """Returns the scores of a suite by condition and case. A case counts as its content, not as its name."""
    return {
        result.condition: {f"{case.case}/{case.digest}": case.scores for case in result.cases}
        for result in evaluation.results
        if result.suite == suite
    }
