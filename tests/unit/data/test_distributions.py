"""Distributions of lengths: what they say adds up, whatever the lengths are."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import distributions
from pipeline.data.formats import Reading
from pipeline.data.reports import Extreme
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


def rows(*values: tuple[int, str, int, int | None]) -> pa.Table:
    """Returns accepted rows: file, task, characters of the answer, tokens beyond max_length."""
    files, asked, answers, cut = zip(*values, strict=True)
    number = len(values)
    return pa.table(
        {
            "file": pa.array(files, pa.int32()),
            "line": pa.array(range(1, number + 1), pa.int32()),
            "digest": pa.array([bytes([place]) * 32 for place in range(number)], pa.binary(32)),
            "task": pa.array(asked, pa.string()),
            "answer_characters": pa.array(answers, pa.int32()),
            "characters": pa.array(answers, pa.int32()),
            "repetition": pa.array([None] * number, pa.int32()),
            "debris": pa.array([0] * number, pa.int32()),
            "cut": pa.array(cut, pa.int32()),
        }
    )


def test_what_is_asked_is_counted_by_kind_with_how_long_its_answers_are() -> None:
    accepted = rows((0, "how", 5, 0), (2, "how", 7, 0), (0, "write", 90, 0), (1, "how", 3, 0), (2, "how", 100, 0))
    found = distributions.tasks(accepted, SOURCES)
    assert [(each.kind, each.task, each.rows, each.answer) for each in found] == [
        ("preference", "how", 1, 3),
        ("sft", "how", 3, 7),
        ("sft", "write", 1, 90),
    ]
    assert distributions.tasks(accepted.slice(0, 0), SOURCES) == []


def test_the_rows_that_stand_out_are_few_and_those_without_the_measure_are_none() -> None:
    accepted = rows(*((0, "how", 10 + n, 3 if n == 4 else None) for n in range(12)))
    found = distributions.extremes(accepted, SOURCES)
    shown = {
        measure: [each.value for each in found if each.measure == measure] for measure in {e.measure for e in found}
    }
    assert shown == {
        "tokens beyond max_length": [3],
        "characters": [21, 20, 19, 18, 17],
        "characters of the answer, fewest": [10, 11, 12, 13, 14],
    }
    assert next(each for each in found if each.value == 3) == Extreme(
        "tokens beyond max_length", 3, (bytes([4]) * 32).hex(), "a", 5
    )
    assert distributions.extremes(accepted.slice(0, 0), SOURCES) == []
