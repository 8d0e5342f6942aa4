"""Plain texts as rows: how they are read, what they are compared by, and the tokens that pretraining learns from."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import encoding, models
from pipeline.chat import Chat
from pipeline.data import formats, layouts, reading, rules, splits
from pipeline.data.measures import of_example
from pipeline.data.rows import Row
from pipeline.errors import BadInput
from pipeline.settings import ROOT
from pipeline.training import rows
from pipeline.usecase import Checks

pytestmark = pytest.mark.unit
PUBLIC = ROOT.parent / "shared" / "data" / "wiki_demo.txt"


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat(models.require_usable(ROOT / "models" / "tiny")[1])


def example(value: Any) -> formats.Example:
    (read,) = formats.examples(Row(1, value), "f.jsonl", "text", "text")
    return read


def text(content: str) -> dict[str, list[dict[str, str]]]:
    return {"text": [{"role": "document", "content": content}]}


def test_a_row_of_text_is_a_document() -> None:
    read = example({"text": "A branch keeps files.", "documents": ["retention"], "data_subject": "p-1"})
    assert read.content == text("A branch keeps files.")
    assert (read.documents, read.subject, read.unknown_keys) == (("retention",), "p-1", 0)
    assert layouts.parts(text("a")) == [[{"role": "document", "content": "a"}]]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"content": "a"}, "missing_field"),
        ({"text": 7}, "wrong_type"),
        ({"text": ["a"]}, "wrong_type"),
        ({"text": "a", "images": ["x.png"]}, "media"),
        ({"text": "a", "label": False}, "bad_label"),
        ({"text": "a", "tools": [{"name": "f"}]}, "tools"),
        ({"text": "a", "weight": 0.5}, "weighted_turn"),
    ],
)
def test_what_changes_what_a_text_means_is_rejected_by_name(row: dict[str, Any], rule: str) -> None:
    problem = example(row).problem
    assert problem is not None
    assert problem.rule == rule


def test_a_plain_file_has_a_text_a_line() -> None:
    data = "\ufeffFirst text.\n\n  \nSecond, “quoted” \\ text.\r\nThird\x00.\n".encode() + b"\xff\xfe broken\n"
    read = list(reading.read(data, "corpus.txt"))
    assert [row.line for row in read] == [1, 4, 5, 6]
    assert [row.value for row in read[:2]] == [{"text": "First text."}, {"text": "Second, “quoted” \\ text."}]
    assert [row.problem and row.problem.rule for row in read[2:]] == ["not_storable", "not_utf8"]
    with pytest.raises(BadInput, match="no file of rows"):
        list(reading.read(data, "corpus.md"))


def test_json_lines_that_are_called_text_stay_json_lines() -> None:
    (row,) = reading.read(b'{"text": "a"}\n', "rows.txt")
    assert row.value == {"text": "a"}


@pytest.mark.skipif(not PUBLIC.exists(), reason="the public sample files are not here")
def test_a_public_corpus_is_read_whole() -> None:
    read = [row.value["text"] for row in reading.read(PUBLIC.read_bytes(), PUBLIC.name)]
    lines = [line.strip() for line in PUBLIC.read_text().split("\n")]
    assert read == [line for line in lines if line]


def test_conversations_are_no_texts_and_texts_no_conversations() -> None:
    rows_of = [Row(1, {"text": "a"})]
    assert formats.detect(rows_of, "text", "f") == "text"
    with pytest.raises(BadInput, match="no rows that sft is trained on"):
        formats.detect(rows_of, "sft", "f")
    with pytest.raises(BadInput, match="no rows that text is trained on"):
        formats.detect([Row(1, {"messages": []})], "text", "f")


def test_equal_texts_are_of_one_split_and_others_are_not() -> None:
    one, same, other = (splits.group(text(words)) for words in ("Keep  files.", "keep files", "Lose files."))
    assert one == same != other
    question = {"messages": [{"role": "user", "content": "Keep files?"}, {"role": "assistant", "content": "Yes."}]}
    assert splits.questions(text("Documents:\nA. [a]\n\nQuestion: What is A?")) != splits.questions(question)


def test_the_rules_take_a_text_and_refuse_an_empty_one() -> None:
    every = rules.for_examples(Checks())

    def broken(words: str) -> str | None:
        measured = of_example(example({"text": words}), lambda _: False, Checks())
        return next((rule.name for rule in every if not rule.test.holds(measured.measures.get(rule.measure))), None)

    assert broken("A branch keeps the files of a closed account for seven years.") is None
    assert broken("  ") == "empty_answer"
    whole = " ".join(f"File {n} of box {n * n}." for n in range(Checks().max_characters // 10))
    assert len(whole) > Checks().max_characters
    assert broken(whole) is None  # it is divided


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc xyz .", min_size=0, max_size=80), max_size=12), st.integers(2, 24))
def test_no_token_of_a_text_is_lost_and_each_is_supervised(chat: Chat, texts: list[str], longest: int) -> None:
    kept = rows.texts([text(words) for words in texts], chat, longest)
    whole = [encoding.text(chat, text(words)) for words in texts]
    usable = [ids for ids in whole if len(ids) > 1]
    assert sum(kept.rejected.values()) == len(whole) - len(usable)
    assert kept.tokens == kept.supervised == sum(map(len, usable))
    assert all(row["input_ids"] == row["labels"] and 1 < len(row["input_ids"]) <= longest for row in kept.rows)
    single = sum(len(ids) % longest == 1 for ids in usable)  # a last piece of one token
    assert sum(len(row["input_ids"]) for row in kept.rows) == kept.tokens - single


def test_a_text_ends_with_the_end_mark_and_spells_none(chat: Chat) -> None:
    tokenizer = chat._tokenizer
    ids = encoding.text(chat, text(f"before {tokenizer.eos_token} after"))
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[:-1]


def test_a_budget_leaves_texts_out(chat: Chat) -> None:
    contents = [text(f"text {n} of the branch") for n in range(20)]
    whole = rows.texts(contents, chat, 64)
    some = rows.texts(contents, chat, 64, whole.tokens / 2)
    assert 0 < len(some.rows) < 20
    assert some.left_out == 20 - len(some.rows)
