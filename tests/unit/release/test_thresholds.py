"""The gate's verdicts: an interval that cannot tell is no pass, and neither are too few cases."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import BadInput
from pipeline.release import thresholds
from pipeline.release.records import PolicyContent, SealedAnswers, SealedSuite, Threshold
from pipeline.results import (
    WITH,
    WITHOUT,
    CaseResult,
    Condition,
    Evaluation,
    EvaluationSettings,
    GenerationSettings,
    ModelSettings,
    RetrievalSettings,
    SuiteResults,
    Verdict,
)
from pipeline.statistics import Estimate

pytestmark = pytest.mark.unit

Scores = list[float]


SETTINGS = EvaluationSettings(
    [], GenerationSettings("greedy", 64, 4), ModelSettings("float32", "none", "cpu"), RetrievalSettings(3, None), 0.95
)


def evaluation(scores: Scores, *, suite: str = "facts", metric: str = "correct", start: int = 0) -> Evaluation:
    """Returns an evaluation with these scores with retrieval, and none right without."""

    def result(condition: Condition, given: Scores) -> SuiteResults:
        cases = [
            CaseResult(f"c{place}", f"d{place}", {metric: score}, "a", []) for place, score in enumerate(given, start)
        ]
        return SuiteResults(suite, condition, {}, cases)

    return Evaluation({}, SETTINGS, [result(WITH, scores), result(WITHOUT, [0.0] * len(scores))])


def policy(*thresholds: dict[str, Any], min_cases: int = 30, suites: tuple[str, ...] = ("facts",)) -> PolicyContent:
    return PolicyContent(
        "demo",
        "limited",
        False,
        24,
        [Threshold(**{"metric": "correct", "minimum": None, "margin": None, **one}) for one in thresholds],
        min_cases,
        0.95,
        [SealedSuite(name, "f", None) for name in suites],
        SealedAnswers(64, 3),
    )


def verdicts(policy: PolicyContent, new: Scores, old: Scores) -> dict[str, str]:
    found, _ = thresholds.thresholds(policy, evaluation(new), evaluation(old), "champion")
    return {check.name: check.verdict for check in found}


def share(right: int, n: int) -> Scores:
    return [1.0] * right + [0.0] * (n - right)


@pytest.mark.parametrize(
    ("right", "n", "verdict"),
    [
        (90, 100, "pass"),  # Wilson: .826 to .945
        (86, 100, "inconclusive"),  # .779 to .915: could be below .8
        (75, 100, "inconclusive"),  # could be above it
        (60, 100, "fail"),
        (29, 29, "inconclusive"),  # all right, and too few
        (0, 29, "inconclusive"),
    ],
)
def test_a_minimum_is_reached_by_the_lower_end(right: int, n: int, verdict: str) -> None:
    given = policy({"minimum": 0.8})
    assert verdicts(given, share(right, n), share(n, n)) == {"correct.minimum": verdict}


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        (share(80, 100), share(80, 100), "pass"),  # the same answers
        (share(78, 100), share(80, 100), "inconclusive"),  # 2 lost: the interval reaches −.07
        (share(60, 100), share(80, 100), "fail"),
        (share(95, 100), share(80, 100), "pass"),
        # As many right, but others: 20 won and 20 lost tell less than no difference.
        ([1.0, 0.0] * 20 + [1.0] * 60, [0.0, 1.0] * 20 + [1.0] * 60, "inconclusive"),
        (share(29, 29), share(29, 29), "inconclusive"),
    ],
)
def test_a_margin_is_judged_on_paired_cases(new: Scores, old: Scores, verdict: str) -> None:
    assert verdicts(policy({"margin": 0.05}), new, old) == {"correct.margin": verdict}


def test_thresholds_are_over_all_gated_suites_together_and_show_each() -> None:
    parts = (evaluation(share(20, 20)), evaluation(share(20, 20), suite="by_hand"))
    new = Evaluation({}, SETTINGS, [result for part in parts for result in part.results])
    (check,), _ = thresholds.thresholds(policy({"minimum": 0.8}, suites=("facts", "by_hand")), new, new, "champion")
    assert check.measured is not None
    assert (check.verdict, check.measured.estimate.n) == ("pass", 40)
    assert {name: own.n for name, own in check.measured.suites.items()} == {"facts": 20, "by_hand": 20}
    (alone,), _ = thresholds.thresholds(policy({"minimum": 0.8}), new, new, "champion")
    assert alone.measured is not None
    assert (alone.verdict, alone.measured.estimate.n) == ("inconclusive", 20)  # the other suite is not gated


def test_a_metric_that_no_case_has_is_inconclusive() -> None:
    assert verdicts(policy({"metric": "value", "minimum": 0.0}), share(9, 90), share(9, 90)) == {
        "value.minimum": "inconclusive"
    }


@pytest.mark.parametrize(
    "other",
    [evaluation(share(40, 40), start=1), evaluation(share(41, 41)), Evaluation({}, SETTINGS, [])],
    ids=["other", "more", "none"],
)
def test_other_cases_are_refused(other: Evaluation) -> None:
    with pytest.raises(BadInput, match="not over the same cases"):
        thresholds.thresholds(policy({"margin": 0.1}), evaluation(share(40, 40)), other, "champion")


def test_no_threshold_says_that_nothing_was_compared() -> None:
    found, comparisons = thresholds.thresholds(policy(), evaluation([1.0]), evaluation([1.0]), "base")
    assert [(check.verdict, check.reason) for check in found] == [
        ("pass", "the policy names no threshold: nothing was compared")
    ]
    assert comparisons == []


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (["pass", "pass"], "approve"),
        (["pass", "condition"], "approve_with_conditions"),
        (["pass", "inconclusive"], "block"),
        (["condition", "fail"], "block"),
        ([], "block"),
    ],
)
def test_inconclusive_is_never_a_pass(verdicts: list[Verdict], outcome: str) -> None:
    assert thresholds.outcome(verdicts) == outcome


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 400), st.floats(-1, 1))
def test_a_pass_means_that_the_whole_interval_reaches_it(
    value: float, below: float, above: float, n: int, wanted: float
) -> None:
    estimate = Estimate(value, value - below, value + above, n, "any")
    verdict, reason = thresholds.judge(estimate, wanted, 30)
    assert (verdict == "pass") == (n >= 30 and estimate.low >= wanted)
    assert (verdict == "fail") == (n >= 30 and estimate.high < wanted)
    assert reason
