"""Distributions of lengths: what they say adds up, whatever the lengths are."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import distributions
from pipeline.data.formats import Reading
from pipeline.data.snapshots import Source

pytestmark = pytest.mark.unit

SOURCES = [
    Source("a", "", "a", "messages", None, "sft", Reading("sft", "messages")),
    Source("b", "", "b", "preference", None, "preference", Reading("preference", "preference")),
    Source("c", "", "c", "messages", None, "sft", Reading("sft", "messages")),
]


def table(rows: list[tuple[int, int]], tokens: int | None = None) -> pa.Table:
    """Returns accepted rows of these files and lengths."""
    lengths = pa.array([length for _, length in rows], pa.int32())
    of_tokens = pa.array([tokens for _ in rows], pa.int32())
    return pa.table(
        {
            "file": pa.array([file for file, _ in rows], pa.int32()),
            "characters": lengths,
            "answer_characters": lengths,
            "tokens": of_tokens,
            "supervised": of_tokens,
        }
    )


@settings(deadline=None)  # the first example imports numpy
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1 << 30)), min_size=1, max_size=40))
def test_every_row_is_in_one_bin_of_its_kind(rows: list[tuple[int, int]]) -> None:
    found = distributions.of(table(rows), SOURCES)
    for kind, files in (("sft", (0, 2)), ("preference", (1,))):
        lengths = [length for file, length in rows if file in files]
        own = [each for each in found if each.kind == kind]
        assert len(own) == (2 if lengths else 0)
        for each in own:
            assert [bin.rows for bin in each.bins] == [
                sum(bin.low <= length <= bin.high for length in lengths) for bin in each.bins
            ]
            assert sum(bin.rows for bin in each.bins) == each.rows == len(lengths)
            assert each.longest == max(lengths)
            assert each.median == sorted(lengths)[(len(lengths) - 1) // 2]
            assert sum(length <= each.p95 for length in lengths) >= 0.95 * len(lengths)


def test_what_was_not_measured_is_left_out_and_what_was_is_named() -> None:
    assert [each.measure for each in distributions.of(table([(0, 3)], tokens=7), SOURCES)][2:] == [
        "tokens of a row",
        "tokens that are learned",
    ]
    assert distributions.of(table([]), SOURCES) == []
    assert distributions.of(table([]), []) == []
