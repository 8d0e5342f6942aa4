"""Intervals: published values, brute force, and that they hold their level."""

import random
from collections.abc import Callable
from itertools import product
from math import comb, sqrt
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import statistics

pytestmark = pytest.mark.unit

Scores = list[float]
BINARY = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60)
GRADED = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_published_values(successes: int, n: int, low: float, high: float) -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857–872, table I, method 3.
    assert statistics.wilson(successes, n, 0.95) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("won", "lost", "n", "low", "high"),
    # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014) 2850–2875: airway hyper-responsiveness.
    [(1, 7, 21, -0.517, -0.026)],
)
def test_tango_gives_the_published_value(won: int, lost: int, n: int, low: float, high: float) -> None:
    assert statistics.tango(won, lost, n, 0.95) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize("n", [1, 30, 200])
def test_without_a_difference_the_interval_narrows_with_the_cases(n: int) -> None:
    z = NormalDist().inv_cdf(0.975)
    expected = z * z / (n + z * z)
    assert statistics.tango(0, 0, n, 0.95) == pytest.approx((-expected, expected), abs=1e-9)


def test_at_zero_tangos_statistic_is_mcnemars() -> None:
    for won, lost in product(range(9), range(9)):
        expected = (won - lost) / sqrt(won + lost) if won + lost else 0.0
        assert statistics.tango_statistic(won, lost, 20, 0.0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("won", "lost", "n"), [(0, 0, 5), (3, 1, 9), (0, 6, 11), (9, 0, 9), (0, 4, 4), (20, 20, 90)])
def test_tangos_interval_is_what_a_grid_of_tests_does_not_reject(won: int, lost: int, n: int) -> None:
    z = NormalDist().inv_cdf(0.975)
    grid = [place / 4000 for place in range(-3999, 4000)]
    kept = [delta for delta in grid if abs(likelihood_statistic(won, lost, n, delta)) <= z]
    assert statistics.tango(won, lost, n, 0.95) == pytest.approx((min(kept), max(kept)), abs=1e-3)


def likelihood_statistic(won: int, lost: int, n: int, delta: float) -> float:
    """Returns the score statistic with its nuisance parameter found by ternary search over the likelihood, not by the
    closed formula under test."""
    from math import inf, log

    low, high = max(0.0, -delta), (1 - delta) / 2

    def fit(lost_share: float) -> float:
        parts = [(won, lost_share + delta), (lost, lost_share), (n - won - lost, 1 - 2 * lost_share - delta)]
        return sum(-inf if share <= 0 else count * log(share) for count, share in parts if count)

    for _ in range(200):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (a, high) if fit(a) < fit(b) else (low, b)
    share = (low + high) / 2
    return (won - lost - n * delta) / sqrt(max(n * (2 * share + delta - delta * delta), 1e-12))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [30, 100])
def test_wilson_covers_its_level_by_exact_enumeration(share: float, n: int) -> None:
    covered = sum(
        comb(n, k) * share**k * (1 - share) ** (n - k)
        for k in range(n + 1)
        if statistics.wilson(k, n, 0.95)[0] <= share <= statistics.wilson(k, n, 0.95)[1]
    )
    assert covered > 0.90  # Wilson's worst cases lie a little below 0.95


@pytest.mark.parametrize(("won", "lost"), [(0.0, 0.0), (0.02, 0.02), (0.1, 0.1), (0.3, 0.1), (0.05, 0.15)])
def test_tango_rarely_calls_an_inferior_candidate_non_inferior(won: float, lost: float) -> None:
    """At the edge of the margin, the lower end reaches it in at most about 2.5 % of the draws."""
    draw, n, passed = random.Random(7), 60, 0
    for _ in range(1500):
        rolls = [draw.random() for _ in range(n)]
        w, m = sum(roll < won for roll in rolls), sum(won <= roll < won + lost for roll in rolls)
        passed += statistics.tango(w, m, n, 0.95)[0] > won - lost
    assert passed / 1500 < 0.04


def draw_graded(draw: random.Random) -> float:
    return draw.betavariate(0.6, 1.2)


@pytest.mark.parametrize("sparse", [False, True], ids=["spread", "mostly equal"])
def test_the_graded_intervals_cover_their_level(sparse: bool) -> None:
    draw, n, mean_hits, paired_hits, rounds = random.Random(11), 40, 0, 0, 1500
    for _ in range(rounds):
        new = [draw_graded(draw) for _ in range(n)]
        old = [value if sparse and draw.random() < 0.9 else draw_graded(draw) for value in new]
        estimate, difference = statistics.mean(new, 0.95), statistics.paired(new, old, 0.95)
        mean_hits += estimate.low <= 0.6 / 1.8 <= estimate.high
        paired_hits += difference.low <= 0.0 <= difference.high
    assert mean_hits / rounds > 0.94
    assert paired_hits / rounds > 0.94


@given(BINARY | GRADED, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_a_mean_lies_in_its_interval_which_lies_in_what_is_possible(scores: Scores, confidence: float) -> None:
    found = statistics.mean(scores, confidence)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert found.low < found.high
    assert found.n == len(scores)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60))
def test_swapping_the_two_turns_the_interval_round(pairs: list[tuple[float, float]]) -> None:
    new, old = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    one, other = statistics.paired(new, old, 0.95), statistics.paired(old, new, 0.95)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low), abs=1e-9)
    assert -1 <= one.low <= one.value <= one.high <= 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40), st.floats(0.6, 0.9))
def test_more_confidence_is_a_wider_interval(pairs: list[tuple[float, float]], confidence: float) -> None:
    new, old = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    narrow, wide = statistics.paired(new, old, confidence), statistics.paired(new, old, confidence + 0.09)
    assert wide.low <= narrow.low <= narrow.high <= wide.high


def test_no_case_says_nothing() -> None:
    assert statistics.mean([], 0.95) == statistics.Estimate(0.0, 0.0, 1.0, 0, "none")
    assert statistics.paired([], [], 0.95) == statistics.Estimate(0.0, -1.0, 1.0, 0, "none")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: statistics.mean([1.2], 0.95),
        lambda: statistics.mean([float("nan")], 0.95),
        lambda: statistics.paired([1.0], [1.0, 0.0], 0.95),
        lambda: statistics.mean([1.0], 1.0),
    ],
    ids=["above 1", "not a number", "not the same cases", "no confidence"],
)
def test_what_is_no_score_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1|cannot be paired"):
        wrong()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Two raters over 50 rows: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: 0.7 agreed, 0.5 by chance.
        ([True] * 25 + [False] * 25, [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15, 0.4),
        ([True, False] * 5, [True, False] * 5, 1.0),
        ([True, False] * 5, [False, True] * 5, -1.0),
        ([True] * 5, [True] * 5, None),
        ([], [], None),
    ],
)
def test_kappa_is_what_agrees_beyond_chance(first: list[bool], second: list[bool], expected: float | None) -> None:
    assert statistics.kappa(first, second) == (None if expected is None else pytest.approx(expected))
    assert statistics.kappa(first, second) == statistics.kappa(second, first)


def test_kappa_is_of_the_same_rows() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        statistics.kappa([True], [True, False])
