"""Generated rows are the ones that the benchmarks say they are."""

import json
import statistics
from pathlib import Path

import pytest

from benchmarks import rows
from pipeline.data import near, splits

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def generated() -> list[dict[str, object]]:
    """Returns two thousand rows."""
    return list(rows.rows(2_000))


def _texts(generated: list[dict[str, object]]) -> list[str]:
    return [near.text({"messages": row["messages"]}) for row in generated]  # type: ignore[dict-item]


def test_rows_have_six_hundred_characters_and_the_same_ones_come_again(generated: list[dict[str, object]]) -> None:
    assert 570 < statistics.mean(map(len, _texts(generated))) < 630
    assert list(rows.rows(2_000)) == generated


def test_few_words_are_frequent_and_most_are_rare(generated: list[dict[str, object]]) -> None:
    words = [word for text in _texts(generated) for word in splits.normalised(text).split()]
    frequent = set(rows.vocabulary()[:100])
    assert 0.35 < statistics.mean(word in frequent for word in words) < 0.65
    assert len(set(words)) > 15_000


def test_one_row_in_a_hundred_comes_near_to_another(generated: list[dict[str, object]]) -> None:
    later = {other for _, other in near.among(_texts(generated))}
    assert 10 <= len(later) <= 35


@pytest.mark.parametrize("count", [3, 50, 4_000])
def test_a_change_is_as_large_as_it_says(tmp_path: Path, count: int) -> None:
    path = tmp_path / "rows.jsonl"
    rows.write(path, count)
    before = path.read_text().splitlines()
    change = rows.change(path, count)
    after = path.read_text().splitlines()
    assert len(before) == count
    assert change == rows.Change(max(1, count // 2_000), max(1, count // 4_000), max(1, count // 4_000))
    assert len(set(after) - set(before)) == change.changed + change.added
    assert len(set(before) - set(after)) == change.changed + change.removed
    assert len(after) == count + change.added - change.removed
    assert all(json.loads(line)["messages"] for line in after)
