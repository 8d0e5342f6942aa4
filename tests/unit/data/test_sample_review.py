"""The sample that persons read: its size, its strata, its seed."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import sample_review

pytestmark = pytest.mark.unit

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def rows_of(sizes: list[int]) -> list[dict[str, Any]]:
    return [
        {"digest": f"{stratum}-{n}", "stratum": f"s{stratum}"}
        for stratum, size in enumerate(sizes)
        for n in range(size)
    ]


@given(SIZES, st.data())
def test_every_stratum_has_its_share_and_none_is_forgotten(sizes: list[int], data: st.DataObject) -> None:
    rows = rows_of(sizes)
    size = data.draw(st.integers(1, len(rows)))
    chosen = sample_review.sample(rows, size, random.Random(7))
    assert len(chosen) == size
    assert len({row["digest"] for row in chosen}) == size
    counts = Counter(row["stratum"] for row in chosen)
    if size >= len(sizes):
        assert set(counts) == {row["stratum"] for row in rows}
    for stratum, members in enumerate(sizes):
        share = size * members / len(rows)
        assert counts[f"s{stratum}"] <= members
        # One row more or less for rounding, and what strata that are too small for a row of their own have taken.
        assert counts[f"s{stratum}"] >= int(share) - len(sizes)


@given(SIZES, st.integers(0, 99))
def test_the_same_seed_draws_the_same_rows(sizes: list[int], seed: int) -> None:
    rows = rows_of(sizes)
    size = (len(rows) + 1) // 2
    first, second = (sample_review.sample(rows, size, random.Random(seed)) for _ in range(2))
    assert first == second
