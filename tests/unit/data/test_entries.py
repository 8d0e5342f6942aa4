"""What depends on other rows is the same, whether a column of rows or one after another is looked at."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import beside, entries, measuring
from pipeline.data.beside import Beside
from pipeline.data.marks import Marks

pytestmark = pytest.mark.unit

MARK = st.sampled_from([bytes([number]) * 16 for number in range(3)])
DOCUMENTS = {"there": "in_force", "gone": "withdrawn"}
ROW = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "row": MARK,
            "content": MARK.map(lambda mark: b"c" + mark[1:]),
            "prompt": st.one_of(st.none(), MARK),
            "answer": st.one_of(st.none(), MARK),
            "questions": st.lists(MARK, max_size=3),
            "documents": st.lists(st.sampled_from(["there", "gone", "nowhere"]), max_size=3),
        }
    ),
)


@settings(deadline=None)
@given(st.lists(ROW, max_size=30), st.frozensets(MARK), st.integers(1, 5))
def test_columns_say_what_rows_say(rows: list[dict[str, Any] | None], asked: frozenset[bytes], size: int) -> None:
    one_by_one = Beside(DOCUMENTS, asked)
    wanted = [
        one_by_one.of(None, ())
        if row is None
        else one_by_one.of(
            Marks(row["row"], row["content"], row["prompt"], row["answer"], tuple(row["questions"])), row["documents"]
        )
        for row in rows
    ]
    names = ["row", "content", "prompt", "answer", "questions", "documents"]
    schema = pa.schema([measuring.schema().field(name) for name in names])
    whole = [row or dict.fromkeys(names) for row in rows]
    parts = [pa.Table.from_pylist(whole[begin : begin + size], schema) for begin in range(0, len(whole), size)]
    ledger = pa.concat_tables(parts) if parts else schema.empty_table()
    found = entries.beside(ledger, DOCUMENTS, asked).select(list(beside.MEASURES)).to_pylist()
    assert found == wanted


def test_a_row_that_asks_nearly_the_same_counts_once_at_least() -> None:
    names = ["row", "content", "prompt", "answer", "questions", "documents"]
    schema = pa.schema([measuring.schema().field(name) for name in names])
    marks = [bytes([number]) * 16 for number in range(4)]
    rows = [
        {"row": marks[0], "content": marks[0], "questions": [marks[1], marks[1]], "documents": []},
        {"row": marks[2], "content": marks[2], "questions": [marks[3]], "documents": []},
    ]
    ledger = pa.Table.from_pylist([dict.fromkeys(names) | row for row in rows], schema)
    found = entries.beside(ledger, {}, frozenset({marks[1]}), frozenset({0, 1}))
    assert found["contamination"].to_pylist() == [2, 1]
