"""Reading rows: whatever is damaged is told with its line, and what stands around it is read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import reading
from pipeline.data.reading import Row

pytestmark = pytest.mark.unit

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROW = st.dictionaries(TEXT, TEXT | st.integers() | st.booleans() | st.none() | st.lists(TEXT, max_size=3), max_size=4)
ROWS = st.lists(ROW, max_size=8)


def rules(rows: list[Row]) -> list[tuple[int, str]]:
    return [(row.line, row.problem.rule) for row in rows if row.problem]


def values(rows: list[Row]) -> list[Any]:
    return [row.value for row in rows if row.problem is None]


@given(ROWS, st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_every_row_of_a_jsonl_file_is_read_with_its_line(
    rows: list[dict[str, Any]], ascii_only: bool, end: str
) -> None:
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in rows)
    found = reading.read(text.encode())
    assert values(found) == rows
    assert [row.line for row in found] == [1 + n * end.count("\n") for n in range(len(rows))]


@given(ROWS, st.sampled_from([None, 0, 1, 2, 4, "\t"]), st.booleans())
def test_every_element_of_an_array_is_read_with_its_line(
    rows: list[dict[str, Any]], indent: int | str | None, mark: bool
) -> None:
    text = json.dumps(rows, indent=indent)
    found = reading.read(("\ufeff" * mark + text).encode())
    assert values(found) == rows
    assert rules(found) == []
    if indent is not None:
        lines = text.split("\n")
        assert all(lines[row.line - 1].lstrip().startswith("{") for row in found)


@given(
    st.lists(ROW, min_size=1, max_size=8),
    st.data(),
    st.sampled_from(['{"k": 1, "k": 2}', '{"k": NaN}', '{"k": "\\u0000"}', '{"k": "\\ud800"}']),
)
def test_an_element_that_cannot_be_used_costs_itself_alone(
    rows: list[dict[str, Any]], data: st.DataObject, unusable: str
) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    pieces = [json.dumps(row, indent=1) for row in rows]
    pieces[place] = unusable
    text = "[\n" + ",\n".join(pieces) + "\n]\n"
    found = reading.read(text.encode())
    assert values(found) == rows[:place] + rows[place + 1 :]
    assert [line for line, _ in rules(found)] == [2 + sum(piece.count("\n") + 1 for piece in pieces[:place])]


@given(st.lists(ROW, min_size=1, max_size=8), st.data())
def test_after_what_is_not_json_nothing_of_an_array_is_guessed(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    pieces = [json.dumps(row) for row in rows]
    pieces[place] = '{"a": "b" "c"}'
    found = reading.read(("[\n" + ",\n".join(pieces) + "\n]\n").encode())
    assert values(found) == rows[:place]
    assert rules(found) == [(place + 2, "malformed"), (place + 2, "truncated")]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    for row in reading.read(data):
        assert row.line >= 1
        assert row.problem is None or row.value is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": 1}\nnot json\n{"a": 2}', [(2, "malformed")]),
        (b'{"a": 1} {"a": 2}', [(1, "malformed")]),
        (b'{"a": 1, "a": 2}', [(1, "malformed")]),
        (b'{"a": NaN}', [(1, "malformed")]),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", [(1, "malformed")]),
        (b'{"a": ' + b"9" * 5_000 + b"}", [(1, "malformed")]),
        (b'{"a": "caf\xe9"}\n{"a": "b"}', [(1, "not_utf8")]),
        (b'{"a": "\\u0000"}', [(1, "not_storable")]),
        (b'{"a": "\\ud800"}', [(1, "not_storable")]),
        (b'[\n{"a": "caf\xe9"},\n{"a": "b"}\n]', [(2, "not_utf8")]),
        (b'[\n{"a": "\\u0000"},\n{"a": "b"}\n]', [(2, "not_storable")]),
        (b'[\n{"a": 1}\n{"a": 2}\n]', [(3, "truncated")]),
        (b'[\n{"a": 1},\n{"a": 2', [(3, "malformed"), (3, "truncated")]),
        (b'[\n{"a": 1},\n', [(3, "truncated")]),
        (b'[\n{"a": 1}\n] and more', [(3, "malformed")]),
        (b'[{"a": 1}, {"b" 2}, {"c": 3}', [(1, "malformed"), (1, "truncated")]),
        (b'[\n{"b" 2}\n]', [(2, "malformed"), (2, "truncated")]),
        (b"", []),
        (b"\xef\xbb\xbf \n\t\n", []),
        (b"[]", []),
    ],
)
def test_what_is_damaged_is_told(data: bytes, expected: list[tuple[int, str]]) -> None:
    assert rules(reading.read(data)) == expected


def test_a_line_separator_inside_a_row_is_text() -> None:
    found = reading.read('{"a": "one\u2028two"}\n{"a": "three\x85four"}'.encode())
    assert [row.value["a"] for row in found] == ["one\u2028two", "three\x85four"]


def test_details_quote_nothing() -> None:
    secret = "Ada Lovelace owes 12 EUR"
    text = f'{{"a": "{secret}" "b"}}\n{{"{secret}": 1, "{secret}": 2}}\n{secret}'
    found = reading.read(text.encode())
    assert len(found) == 3
    assert all(row.problem is not None and "Ada" not in row.problem.detail for row in found)
