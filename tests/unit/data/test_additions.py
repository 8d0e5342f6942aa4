"""What a commit writes is prepared ahead, and nothing of it is lost on the way."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import additions

pytestmark = pytest.mark.unit


@given(st.lists(st.tuples(st.text(), st.text())))
def test_what_is_prepared_ahead_comes_whole_and_in_order(values: list[tuple[str, str]]) -> None:
    assert list(additions._ahead(iter(values))) == values


def test_an_error_in_the_preparation_is_the_taker_s_once_he_has_what_came_before() -> None:
    def failing() -> Iterator[tuple[str, str]]:
        yield "one", ""
        raise ValueError("the row is not the one that was checked")

    ahead = additions._ahead(failing())
    assert next(ahead) == ("one", "")
    with pytest.raises(ValueError, match="not the one"):
        next(ahead)


@given(st.lists(st.sampled_from(["train", "validation", "test"]), max_size=40), st.integers(1, 9))
def test_each_row_is_sent_once_and_test_rows_apart(splits: list[str], size: int) -> None:
    rows = [{"digest": str(place), "split": split} for place, split in enumerate(splits)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(additions, "_BATCH", size)
        sent = list(additions._halves(iter(rows)))
    trained = [row for text, _ in sent if text for row in json.loads(text)]
    locked = [row for _, text in sent if text for row in json.loads(text)]
    assert trained == [row for row in rows if row["split"] != "test"]
    assert locked == [row for row in rows if row["split"] == "test"]
