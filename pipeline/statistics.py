"""Error bars: intervals for a mean of scores, and for the difference of two models over the same cases.

Both are closed formulas or roots of one, so that the same scores give the same interval on every machine; no draw is
made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist


@dataclass(frozen=True)
class Estimate:
    """A mean with its two-sided interval."""

    value: float
    low: float
    high: float
    n: int  # cases that count; with none, the interval is everything that is possible
    method: str

    def rounded(self) -> "Estimate":
        """Returns the estimate to six places, as it is stored."""
        return replace(self, value=round(self.value, 6), low=round(self.low, 6), high=round(self.high, 6))


def mean(scores: Sequence[float], confidence: float) -> Estimate:
    """Returns the mean of scores in [0, 1] with its interval.

    Wilson's score interval where all scores are 0 or 1 (Wilson 1927; recommended for small n by Brown, Cai and
    DasGupta, Statistical Science 16, 2001). For graded scores the Wald interval over the scores and z² pseudo-scores,
    half of them 0 and half of them 1: Agresti and Coull's adjustment (The American Statistician 52, 1998), so that
    scores which happen to be equal do not give an interval without width.
    """
    _check(scores)
    z = _z(confidence)
    n = len(scores)
    if n == 0:
        return Estimate(0.0, 0.0, 1.0, 0, "none")
    value = sum(scores) / n
    if _binary(scores):
        return Estimate(value, *wilson(round(sum(scores)), n, confidence), n, "wilson")
    low, high = _adjusted(scores, z, extra=z * z, ends=(0.0, 1.0))
    return Estimate(value, min(max(0.0, low), value), max(min(1.0, high), value), n, "agresti-coull")


def paired(candidate: Sequence[float], baseline: Sequence[float], confidence: float) -> Estimate:
    """Returns the mean of candidate − baseline over the same cases, in [−1, 1], with its interval.

    Tango's score interval where all scores are 0 or 1 (Statistics in Medicine 17, 1998): it inverts McNemar's test, and
    holds its level at small n and with no case on which the two differ. For graded scores the Wald interval over the
    differences with two pseudo-cases, at −1, 0, 0 and +1 with half a case each (Agresti and Min, Statistics in
    Medicine 24, 2005). Raises ValueError where the two are not over the same cases.
    """
    if len(candidate) != len(baseline):
        raise ValueError(f"{len(candidate)} scores cannot be paired with {len(baseline)}")
    _check(candidate)
    _check(baseline)
    n = len(candidate)
    if n == 0:
        return Estimate(0.0, -1.0, 1.0, 0, "none")
    differences = [new - old for new, old in zip(candidate, baseline, strict=True)]
    value = sum(differences) / n
    if _binary(candidate) and _binary(baseline):
        won, lost = differences.count(1.0), differences.count(-1.0)
        return Estimate(value, *tango(won, lost, n, confidence), n, "tango")
    low, high = _adjusted(differences, _z(confidence), extra=2.0, ends=(-1.0, 0.0, 0.0, 1.0))
    return Estimate(value, min(max(-1.0, low), value), max(min(1.0, high), value), n, "agresti-min")


def kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Returns how far two raters' verdicts over the same rows agree beyond chance, −1 to 1 (Cohen, Educational and
    Psychological Measurement 20, 1960); None where chance alone would let them agree on every row, or there is none.
    Raises ValueError where the two are not over the same rows."""
    n = len(first)
    if n != len(second):
        raise ValueError(f"{n} verdicts cannot be compared with {len(second)}")
    if n == 0:
        return None
    agreed = sum(one == other for one, other in zip(first, second, strict=True)) / n
    one, other = sum(first) / n, sum(second) / n
    chance = one * other + (1 - one) * (1 - other)
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def wilson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Returns Wilson's score interval for a proportion of n > 0 trials."""
    z = _z(confidence)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula is exact, and rounding must not put the share outside its own interval.
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


def tango(won: int, lost: int, n: int, confidence: float) -> tuple[float, float]:
    """Returns Tango's score interval for (won − lost) / n, of n > 0 pairs of which `won` and `lost` differ."""
    z = _z(confidence)
    value = (won - lost) / n
    return (
        _root(-1.0, value, lambda delta: tango_statistic(won, lost, n, delta) - z),
        _root(value, 1.0, lambda delta: tango_statistic(won, lost, n, delta) + z),
    )


def tango_statistic(won: int, lost: int, n: int, delta: float) -> float:
    """Returns the score statistic for the hypothesis that the difference is `delta`: standard normal if it is true, and
    falling in `delta`. At 0 it is the root of McNemar's statistic, (won − lost) / √(won + lost)."""
    # The most likely probability of a loss under the hypothesis: the larger root of 2n·q² + b·q + c = 0.
    b = (2 * n - won + lost) * delta - won - lost
    c = -lost * delta * (1 - delta)
    lost_share = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * lost_share + delta * (1 - delta))
    distance = won - lost - n * delta
    if variance <= 0:
        return 0.0 if distance == 0 else float("inf") if distance > 0 else float("-inf")
    return distance / sqrt(variance)


def _adjusted(scores: Sequence[float], z: float, *, extra: float, ends: Sequence[float]) -> tuple[float, float]:
    """Returns the Wald interval over the scores and `extra` pseudo-scores, spread evenly over `ends`."""
    n = len(scores) + extra
    weight = extra / len(ends)
    middle = (sum(scores) + weight * sum(ends)) / n
    squares = sum((score - middle) ** 2 for score in scores) + weight * sum((end - middle) ** 2 for end in ends)
    half = z * sqrt(squares / n / n)
    return middle - half, middle + half


def _root(low: float, high: float, falling: Callable[[float], float]) -> float:
    """Returns where a falling function crosses zero between two places; the outer one where it does not."""
    first, last = falling(low), falling(high)
    if first <= 0:
        return low
    if last >= 0:
        return high
    for _ in range(100):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, and {confidence} does not")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _binary(scores: Sequence[float]) -> bool:
    return all(score in (0.0, 1.0) for score in scores)


def _check(scores: Sequence[float]) -> None:
    if not all(0.0 <= score <= 1.0 for score in scores):
        raise ValueError("a score lies between 0 and 1")
