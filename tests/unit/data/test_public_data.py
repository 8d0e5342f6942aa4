"""Public sets, read in place: every row is accepted, or rejected for a reason."""

import json
from pathlib import Path

import pytest

from pipeline import data
from pipeline.data import document_measures, documents, rules
from pipeline.settings import ROOT
from pipeline.usecase import Checks, DocumentDefaults, ExampleKind

pytestmark = pytest.mark.unit

PUBLIC = ROOT.parent / "shared" / "data"


def public(name: str) -> Path:
    """Returns a file of the public data, or skips the test where it is not on this machine."""
    if not (PUBLIC / name).exists():
        pytest.skip(f"the public data is not on this machine: {PUBLIC / name}")
    return PUBLIC / name


@pytest.mark.parametrize(
    ("name", "kind", "rows", "by_rule"),
    [
        ("alpaca_en_demo.json", "sft", 999, {"duplicate": 14, "personal_data": 2}),
        ("dpo_en_demo.json", "preference", 299, {"duplicate": 5, "mojibake": 1}),
    ],
)
def test_every_row_is_accepted_or_rejected(name: str, kind: ExampleKind, rows: int, by_rule: dict[str, int]) -> None:
    file = public(name)
    found = data.check_file(file, kind)
    assert found.rows == rows == found.accepted + len(found.rejected)
    assert found.by_rule == by_rule
    # What is rejected is rejected rightly: the same row does stand earlier in the file.
    texts = [json.dumps(row) for row in json.loads(file.read_text())]
    assert len(texts) - len(set(texts)) == by_rule["duplicate"]
    lines = file.read_text().split("\n")
    assert all(lines[entry.line - 1].strip() == "{" for entry in found.rejected)


@pytest.mark.parametrize(
    ("name", "form", "rows", "by_rule"),
    [
        ("kto_en_demo.json", "messages", 300, {"bad_label": 150}),
        ("glaive_toolcall_en_demo.json", "sharegpt", 300, {"tools": 191, "duplicate": 16, "personal_data": 1}),
        ("v1_sft_demo.jsonl", "messages", 500, {"duplicate": 1, "personal_data": 2}),
    ],
)
def test_what_cannot_be_trained_on_as_it_is_meant_is_rejected_by_name(
    name: str, form: str, rows: int, by_rule: dict[str, int]
) -> None:
    found = data.check_file(public(name), "sft")
    assert found.formats == {name: form}
    assert found.by_rule == by_rule
    assert found.rows == rows == found.accepted + sum(by_rule.values())


def test_no_answer_that_is_labelled_bad_is_accepted() -> None:
    text = public("kto_en_demo.json").read_text()
    bad = [place for place, row in enumerate(json.loads(text)) if not row["label"]]
    starts = [number for number, line in enumerate(text.split("\n"), 1) if line == "  {"]
    rejected = data.check_file(public("kto_en_demo.json"), "sft").rejected
    assert [row.line for row in rejected] == [starts[place] for place in bad]


def test_every_article_is_a_document() -> None:
    found = documents.lines(public("wiki_demo.txt").read_bytes(), "wiki_demo.txt", DocumentDefaults())
    measured = document_measures.of_documents(found, lambda _: False, Checks())
    assert len(found) == 30
    assert [rules.breach(rules.for_documents(Checks()), each) for each in measured] == [None] * 30
