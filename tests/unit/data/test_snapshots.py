"""Snapshots of examples: what was read is what is read again, and nothing is kept of what cannot be used."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import measures, reading, snapshots
from pipeline.data.formats import Example, Reading
from pipeline.data.rows import Problem, Raw
from pipeline.data.snapshots import Source, Writer
from pipeline.data.tombstones import Tombstones, mark
from pipeline.usecase import Checks

pytestmark = pytest.mark.unit

NONE = Tombstones(b"key", "demo", frozenset())
SOURCE = Source(
    "sft.jsonl", "0" * 64, "sft.jsonl", "prompt_completion", None, "sft", Reading("sft", "prompt_completion")
)
TREE: dict[str, Any] = {
    "instruction": "Add one",
    "instances": [{"input": "1", "output": "Ada says 2"}, {"input": "2", "output": "3"}],
}
SECRET = "Ada"


def written(data: bytes, source: Source, erased: Tombstones = NONE, known: frozenset[bytes] = frozenset()) -> bytes:
    """Returns the rows of a snapshot of one file."""
    target = io.BytesIO()
    writer = Writer(target, erased, Checks(personal_data="redact"), known)
    writer.write(0, source, reading.raw(io.BytesIO(data), source.file))
    return target.getvalue()


def read(rows: bytes, source: Source, folder: Path) -> list[Example]:
    """Returns the examples of a snapshot's rows."""
    path = folder / "rows.txt"
    path.write_bytes(rows)
    return [each for line in snapshots.lines(path) for each in source.examples(line.text, line.line)]


@given(
    st.lists(
        st.one_of(
            st.fixed_dictionaries({"prompt": st.text(), "completion": st.text()}).map(json.dumps),
            st.fixed_dictionaries({"prompt": st.text(max_size=3)}).map(json.dumps),
            st.sampled_from(
                ["{broken", "[1, 2]", '{"prompt": NaN}', '{"prompt": "a",\t"completion" : "b"}', "\u2028", " "]
            ),
        ),
        max_size=8,
    )
)
def test_a_snapshot_says_what_its_file_said(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    data = "\n".join(["{}", *lines]).encode("utf-8", "surrogatepass")
    direct = [each for row in reading.read(data, "f") for each in SOURCE.read(row)]
    assert read(written(data, SOURCE), SOURCE, tmp_path_factory.mktemp("s")) == direct


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", b'[{"prompt": "a", "completion": "b"},\n {"prompt": "c",\n "completion": "d", "score": 1e999}]'),
        ("a.csv", b"prompt,completion\na,b\nc,d\n"),
        ("a.jsonl", b'\xef\xbb\xbf{"prompt": "a", "completion": "b"}\r\n\r\n{"prompt": "c", "completion": "d"}\r\n'),
    ],
)
def test_whatever_a_file_is_its_rows_stand_on_a_line_each(tmp_path: Path, name: str, data: bytes) -> None:
    source = replace(SOURCE, file=name)
    rows = written(data, source)
    assert rows.count(b"\n") == 2
    examples = read(rows, source, tmp_path)
    assert [each.content["messages"][0]["content"] for each in examples if each.content] == ["a", "c"]
    assert [each.line for each in examples] == [each.line for each in reading.read(data, name)]


def test_no_word_is_kept_of_a_row_that_cannot_be_used() -> None:
    lines = [
        '{"prompt": "secret"}',
        '{"prompt": "secret", "completion": 3}',
        '{"secret"',
        '{"prompt": "\\u0000secret"}',
    ]
    rows = written("\n".join([*lines, '["secret"]']).encode(), SOURCE).decode().splitlines()
    assert "secret" not in "".join(rows)
    rules = ["missing_field", "wrong_type", "malformed", "not_storable", "not_an_object"]
    assert [row.split(" ")[2] for row in rows] == [f"!{rule}" for rule in rules]


def test_of_a_row_of_several_examples_the_erased_one_goes_and_the_others_stay(tmp_path: Path) -> None:
    source = Source("a.json", "0" * 64, "a.json", "alpaca", None, "sft", Reading("sft", "alpaca"))
    first, second = source.examples(json.dumps(TREE).encode(), 1)
    erased = Tombstones(b"key", "demo", frozenset({mark(b"key", "demo", "example", first.digest)}))
    rows = written(json.dumps(TREE).encode(), source, erased)
    assert SECRET.encode() not in rows
    examples = read(rows, source, tmp_path)
    assert examples[0].problem == snapshots.ERASED
    assert examples[1] == second


def test_what_was_erased_without_its_personal_data_does_not_come_back_with_them() -> None:
    text = json.dumps({"prompt": "Who?", "completion": "Ada, ada@lovelace.example"}).encode()
    (row,) = SOURCE.examples(text, 1)
    redacted = measures.redacted(row, Checks(personal_data="redact"))
    assert redacted.digest != row.digest
    erased = Tombstones(b"key", "demo", frozenset({mark(b"key", "demo", "example", redacted.digest)}))
    assert SECRET.encode() not in written(text, SOURCE, erased)


def test_marks_tell_rows_and_ways_to_read_them() -> None:
    other = Source("b", "", "b", "prompt_completion", None, "sft", Reading("sft", "prompt_completion", {"prompt": "q"}))
    assert SOURCE.marker().of(b"{}") != other.marker().of(b"{}")
    assert SOURCE.marker().of(b"{}") != SOURCE.marker().of(b"{ }")
    assert len(SOURCE.marker().of(b"{}")) == 16


def test_a_known_row_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b'{"prompt": "a", "completion": "b"}'
    known = frozenset({SOURCE.marker().of(text)})

    def fail(self: Source, row: object) -> list[Example]:
        raise AssertionError("it was read")

    monkeypatch.setattr(Source, "read", fail)
    assert written(text, SOURCE, known=known) == b"0 1 " + text + b"\n"
    with pytest.raises(AssertionError, match="it was read"):
        written(text + b" \n{}", SOURCE)


def test_rows_that_were_read_with_a_problem_keep_it() -> None:
    target = io.BytesIO()
    Writer(target, NONE, Checks(), frozenset()).write(2, SOURCE, [Raw(7, b"", Problem("long_line", "two\nlines"))])
    assert target.getvalue() == b"2 7 !long_line two lines\n"
