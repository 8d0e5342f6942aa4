"""Reading rows: whatever is damaged is told with its line, and what stands around it is read."""

import csv
import gzip
import hashlib
import io
import json
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipeline.data import jsonrows, reading
from pipeline.data.rows import Row
from pipeline.errors import BadInput

pytestmark = pytest.mark.unit

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ROW = st.dictionaries(TEXT, TEXT | st.integers() | st.booleans() | st.none() | st.lists(TEXT, max_size=3), max_size=4)
ROWS = st.lists(ROW, max_size=8)


def read(data: bytes, name: str = "rows.jsonl") -> list[Row]:
    return list(reading.read(data, name))


def rules(rows: list[Row]) -> list[tuple[int, str]]:
    return [(row.line, row.problem.rule) for row in rows if row.problem]


def values(rows: list[Row]) -> list[Any]:
    return [row.value for row in rows if row.problem is None]


@given(ROWS, st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_every_row_of_a_jsonl_file_is_read_with_its_line(
    rows: list[dict[str, Any]], ascii_only: bool, end: str
) -> None:
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + end for row in rows)
    found = read(text.encode())
    assert values(found) == rows
    assert [row.line for row in found] == [1 + n * end.count("\n") for n in range(len(rows))]


@given(ROWS, st.sampled_from([None, 0, 1, 2, 4, "\t"]), st.booleans())
def test_every_element_of_an_array_is_read_with_its_line(
    rows: list[dict[str, Any]], indent: int | str | None, mark: bool
) -> None:
    text = json.dumps(rows, indent=indent)
    found = read(("\ufeff" * mark + text).encode())
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
    found = read(text.encode())
    assert values(found) == rows[:place] + rows[place + 1 :]
    assert [line for line, _ in rules(found)] == [2 + sum(piece.count("\n") + 1 for piece in pieces[:place])]


DAMAGES = {
    "no comma inside": lambda row: row.replace(', "n"', ' "n"'),
    "no quote at a text's end": lambda row: row.replace('", "n"', ', "n"'),
    "no quote at a text's beginning": lambda row: row.replace('"text": "', '"text": '),
    "no colon": lambda row: row.replace('"n": ', '"n" '),
    "no value": lambda row: row.replace('"n": ', '"n": ,'),
    "a raw tab": lambda row: row.replace('"text": "', '"text": "\t'),
    "NaN": lambda row: row.replace('"n": ', '"n": NaN, "m": '),
    "a key twice": lambda row: row.replace('"n": ', '"n": 1, "n": '),
    "single quotes": lambda row: row.replace('"text"', "'text'"),
    "Python's None": lambda row: row.replace('"n": ', '"n": None, "m": '),
    "a quote that is not escaped": lambda row: row.replace('"text": "', '"text": "say "hi", '),
    "a lone brace": lambda row: row.replace('"n": ', '"n": }, "m": '),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("between", [",", ",\n", ", "])
@given(numbers=st.sets(st.integers(0, 11), min_size=1, max_size=6))
def test_a_damaged_element_costs_itself_alone(damage: str, between: str, numbers: set[int]) -> None:
    """Also on one line, and with objects inside that look like a row's beginning."""
    rows = [{"text": f"row {n}", "n": n, "turns": [{"role": "user", "said": "x"}, {"role": "bot"}]} for n in range(12)]
    pieces = [json.dumps(row) for row in rows]
    for number in numbers:
        damaged = DAMAGES[damage](pieces[number])
        assert damaged != pieces[number]
        pieces[number] = damaged
    found = read(f"[{between.join(pieces)}]".encode())
    assert values(found) == [row for row in rows if row["n"] not in numbers]
    assert len(found) == len(rows), "each is counted"


@pytest.mark.parametrize("kept", [1, 5, 11])
def test_rows_in_pieces_are_read_as_the_whole(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Wherever a piece ends: in a row, in a text, in an escape, in a letter of several bytes."""
    rows = [{"text": f'grün \u2028 \\ "{n}" 漢' * n, "n": -1.5e3, "more": [None, {"text": "x"}]} for n in range(30)]
    text = json.dumps(rows, ensure_ascii=kept % 2 == 0).encode()
    damaged = text.replace(b'"n": -1500.0, "more"', b'"n": -1500.0 "more"', 1)
    for size in range(1, 60):
        monkeypatch.setattr(jsonrows, "_CHUNK", size)
        assert values(read(text)) == rows
        assert values(read(damaged)) == rows[1:]
        assert len(read(damaged)) == len(rows)


@pytest.mark.parametrize(
    "behind",
    ['[{"n": 3}, {"n": 4}]', '{"n": 3}\n{"n": 4}', ',{"n": 3},{"n": 4}]', '{"n": 3}{"n": 4}'],
)
def test_rows_behind_an_array_are_counted_each_and_not_used(behind: str) -> None:
    found = read(f'[{{"n": 1}},{{"n": 2}}]\n{behind}'.encode())
    assert values(found) == [{"n": 1}, {"n": 2}]
    assert [rule for _, rule in rules(found)] == ["malformed", "malformed"]


def test_a_comma_that_is_missing_between_rows_is_the_second_ones_problem() -> None:
    found = read(b'[{"n": 1},{"n": 2}{"n": 3},{"n": 4},]')
    assert values(found) == [{"n": 1}, {"n": 2}, {"n": 4}]
    assert len(found) == 4


@given(ROWS.filter(bool), st.sampled_from(["gz", "zst"]), st.booleans())
def test_what_is_compressed_is_read_as_what_is_not(rows: list[dict[str, Any]], how: str, array: bool) -> None:
    plain = (json.dumps(rows) if array else "".join(json.dumps(row) + "\n" for row in rows)).encode()
    packed = gzip.compress(plain) if how == "gz" else pyarrow.compress(plain, codec="zstd", asbytes=True)
    assert values(read(packed)) == rows


@pytest.mark.parametrize("cut", [1, 8, 400, 4_000])
def test_compressed_data_that_end_early_are_a_problem_behind_what_was_read(cut: int) -> None:
    rows = [{"n": n, "text": hashlib.sha256(bytes([n % 250, n // 250])).hexdigest()} for n in range(5_000)]
    packed = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    found = read(packed[:-cut])
    assert rules(found)[-1][1] == "truncated"
    good = values(found)
    assert good == rows[: len(good)]


@settings(deadline=None)
@given(ROWS.filter(bool))
def test_a_parquet_table_gives_its_rows(rows: list[dict[str, Any]]) -> None:
    table = io.BytesIO()
    parquet.write_table(pyarrow.table({"row": [json.dumps(row) for row in rows], "n": range(len(rows))}), table)
    found = read(table.getvalue())
    assert [json.loads(row.value["row"]) for row in found] == rows
    assert [row.line for row in found] == [n + 1 for n in range(len(rows))]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), st.sampled_from([",", ";", "\t"]), st.booleans())
def test_a_table_as_text_gives_its_rows(rows: list[tuple[str, str]], sign: str, mark: bool) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=sign).writerows([("question", "answer"), *rows])
    data = ("\ufeff" * mark + written.getvalue()).encode()
    found = read(data, "rows.tsv" if sign == "\t" else "rows.csv")
    assert [(row.value["question"], row.value["answer"]) for row in found] == rows


def test_a_cell_may_hold_a_list_of_messages() -> None:
    data = b'messages,n\n"[{""role"": ""user"", ""content"": ""a""}]",1\n"[{broken]",2\n'
    found = read(data, "rows.csv")
    assert values(found) == [{"messages": [{"role": "user", "content": "a"}], "n": "1"}]
    assert rules(found) == [(3, "malformed")]


def test_a_row_with_other_columns_is_a_problem_of_its_own() -> None:
    found = read(b'a,b\n1,2\n3\n"4\n5",6\n7,8,9\n\xff,1\n"x', "rows.csv")
    assert values(found) == [{"a": "1", "b": "2"}, {"a": "4\n5", "b": "6"}]
    assert rules(found) == [(3, "columns"), (6, "columns"), (7, "not_utf8"), (8, "truncated")]


@pytest.mark.parametrize(
    ("data", "name", "what"),
    [
        ('{"a": 1}\n'.encode("utf-16"), "a.jsonl", "UTF-16"),
        ('{"a": 1}\n'.encode("utf-16-le"), "a.jsonl", "UTF-16"),
        ('{"a": 1}\n'.encode("utf-32"), "a.jsonl", "UTF-16"),
        (b"question,answer\nWho?,Ada.\n", "a.jsonl", "none is a JSON object"),
        (b"%PDF-1.7", "a.json", "PDF"),
        (b"PK\x03\x04....", "a.json", "zip"),
        (b"BZh91AY", "a.jsonl", "bzip2"),
        (b"<!DOCTYPE html><html>", "a.json", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a.json", "LFS"),
        (b'{\n "a": 1,\n "b": 2\n}\n', "a.json", "none is a JSON object"),
        (b"PAR1 and no table", "a.parquet", "Parquet"),
        (b"\x1f\x8b and no archive", "a.gz", "unpacked"),
        (b"a,a\n1,2\n", "a.csv", "column names"),
        (b"a\n1\n", "a.csv", "column names"),
        (bytes(range(256)) * 4, "a.jsonl", "none is a JSON object"),
    ],
)
def test_what_is_no_file_of_rows_is_one_message(data: bytes, name: str, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        read(data, name)


def test_a_line_beyond_what_a_row_may_be_is_a_problem_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrows, "MAX_ROW", 1_000)
    long = json.dumps({"a": "x" * 5_000})
    assert rules(read(f'{{"a": 1}}\n{long}\n{{"a": 2}}'.encode())) == [(2, "long_line")]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    try:
        found = read(data)
    except BadInput:
        return
    for row in found:
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
        (b'[\n{"a": 1}\n{"a": 2}\n]', [(3, "malformed")]),
        (b'[\n{"a": 1},\n{"a": 2', [(3, "malformed"), (3, "truncated")]),
        (b'[\n{"a": 1},\n', [(3, "truncated")]),
        (b'[\n{"a": 1}\n] and more', [(3, "malformed"), (3, "truncated")]),
        (b'[{"a": 1}, {"b" 2}, {"c": 3}', [(1, "malformed"), (1, "truncated")]),
        (b'[\n{"b" 2}\n]', [(2, "malformed")]),
        (b"", []),
        (b"\xef\xbb\xbf \n\t\n", []),
        (b"[]", []),
    ],
)
def test_what_is_damaged_is_told(data: bytes, expected: list[tuple[int, str]]) -> None:
    assert rules(read(data)) == expected


def test_a_line_separator_inside_a_row_is_text() -> None:
    found = read('{"a": "one\u2028two"}\n{"a": "three\x85four"}'.encode())
    assert [row.value["a"] for row in found] == ["one\u2028two", "three\x85four"]


def test_details_quote_nothing() -> None:
    secret = "Ada Lovelace owes 12 EUR"
    text = f'{{"a": "{secret}" "b"}}\n{{"{secret}": 1, "{secret}": 2}}\n{secret}'
    found = read(text.encode())
    assert len(found) == 3
    assert all(row.problem is not None and "Ada" not in row.problem.detail for row in found)
