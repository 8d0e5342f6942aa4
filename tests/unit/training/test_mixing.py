"""Mixing: rows come as often as their source's weight says, and each row's number is its own."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.mixing import Mix

pytestmark = pytest.mark.unit

DIGESTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2_000)]


@given(st.floats(0.01, 100), st.integers(0, 2**32 - 1), st.sampled_from(DIGESTS))
def test_a_row_comes_as_often_as_its_weight_rounded_down_or_up(weight: float, seed: int, digest: str) -> None:
    mix = Mix({"a": weight}, seed)
    assert mix.times("a", digest) - int(weight) in (0, 1)
    assert mix.times("a", digest) == Mix({"a": weight, "b": 3.0}, seed).times("a", digest)
    assert mix.times("b", digest) == 1


@pytest.mark.parametrize("weight", [0.1, 0.5, 1.0, 2.0, 2.75])
def test_together_rows_come_as_often_as_the_weight_says(weight: float) -> None:
    times = [Mix({"a": weight}, 7).times("a", digest) for digest in DIGESTS]
    # Four standard errors of a share of 2,000 rows.
    assert sum(times) / len(times) == pytest.approx(weight, abs=4 * 0.5 / len(times) ** 0.5)


def test_another_seed_takes_other_rows_and_a_larger_weight_keeps_those_of_a_smaller() -> None:
    def taken(weight: float, seed: int) -> set[str]:
        return {digest for digest in DIGESTS if Mix({"a": weight}, seed).times("a", digest)}

    assert taken(0.3, 1) != taken(0.3, 2)
    assert taken(0.3, 1) < taken(0.6, 1)
