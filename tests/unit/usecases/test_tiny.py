"""The tiny sample: complete, consistent, and with nothing of its cases in its training rows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import prompt

ROOT = Path(__file__).parents[3]
HOME = ROOT / "usecases" / "tiny"
sys.path.insert(0, str(ROOT))

from usecases.tiny.generator.documents import PRINCIPALS, documents, may_read, stated  # noqa: E402

Rows = list[dict[str, Any]]


def _rows(name: str) -> Rows:
    return [json.loads(line) for line in (HOME / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def files() -> dict[str, tuple[dict[str, Any], str]]:
    """Front matter and body of every document, by id."""
    found = {}
    for path in sorted(HOME.glob("documents/*/*.md")):
        _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
        meta = yaml.safe_load(head)
        assert path == HOME / "documents" / meta["tenant"] / f"{meta['id']}.md"
        found[meta["id"]] = (meta, body)
    return found


@pytest.fixture(scope="module")
def cases() -> Rows:
    return _rows("suites/facts.jsonl") + _rows("suites/by_hand.jsonl")


@pytest.fixture(scope="module")
def training() -> Rows:
    return _rows("examples/sft.jsonl") + _rows("examples/preferences.jsonl")


def _texts(row: dict[str, Any]) -> Iterator[str]:
    for part in ("messages", "prompt", "chosen", "rejected"):
        yield from (message["content"] for message in row.get(part, []))


def _grams(text: str, size: int = 8) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[place : place + size]) for place in range(len(words) - size + 1)}


def test_the_sample_is_as_large_as_promised(files: dict[str, Any], cases: Rows) -> None:
    assert len(files) >= 40
    assert len(_rows("examples/sft.jsonl")) >= 400
    assert len(_rows("examples/preferences.jsonl")) >= 120
    assert len(cases) >= 250
    assert sum("by-hand" in case["tags"] for case in cases) >= 50


def test_ids_and_questions_are_unique(cases: Rows, training: Rows) -> None:
    for rows in (cases, training):
        assert len({row["id"] for row in rows}) == len(rows)
    assert len({(case["question"], case["principal"]) for case in cases}) == len(cases)
    assert len({case["question"] for case in cases}) >= 250


def test_documents_cover_tenants_classes_and_oddities(files: dict[str, tuple[dict[str, Any], str]]) -> None:
    heads = [head for head, _ in files.values()]
    assert {head["tenant"] for head in heads} == {"northbank", "alpenpay"}
    assert {head["classification"] for head in heads} == {"public", "internal", "confidential", "restricted"}
    assert len({group for head in heads for group in head["groups"]}) >= 8
    assert sum(head["status"] == "withdrawn" for head in heads) == 1
    assert sum(head["fresh_until"].isoformat() < "2026-01-01" for head in heads) == 1
    assert sum("Ignore all earlier instructions" in body for _, body in files.values()) == 1
    assert all(head["groups"] == ["everyone"] for head in heads if head["classification"] == "public")
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in files)
    assert all(4 <= len(prompt.sentences(body)) <= 12 for _, body in files.values())


def test_no_two_documents_of_a_tenant_state_the_same_thing() -> None:
    for tenant in ("northbank", "alpenpay"):
        served = [one for one in documents() if one.tenant == tenant and one.split != "none"]
        assert len(stated(served)) == sum(len(document.facts) for document in served)


def test_every_expected_value_stands_in_its_source(files: dict[str, tuple[dict[str, Any], str]], cases: Rows) -> None:
    for case in cases:
        if case["expect"]["answerable"]:
            assert case["expect"]["value"] in files[case["expect"]["source"]][1], case["id"]
        else:
            assert set(case["expect"]) == {"answerable"}


def test_answers_are_in_reach_and_access_cases_are_not(cases: Rows) -> None:
    held = {document.id: document for document in documents()}
    for case in cases:
        assert case["principal"] in PRINCIPALS
        if case["expect"]["answerable"]:
            assert may_read(case["principal"], held[case["expect"]["source"]]), case["id"]
    for case in cases:
        if "access" in case["tags"] and "generated" in case["tags"]:
            assert not may_read(case["principal"], held[case["tags"][-1]]), case["id"]
    assert sum("access" in case["tags"] for case in cases) >= 20
    assert {case["principal"] for case in cases} == set(PRINCIPALS)


def test_held_out_documents_are_in_no_training_row(cases: Rows, training: Rows) -> None:
    trained = {document.id for document in documents() if document.split == "train"}
    for row in training:
        assert set(row["documents"]) <= trained, row["id"]
        assert all(set(prompt.cited(text)) <= trained for text in _texts(row)), row["id"]
    asked = {case["expect"]["source"] for case in cases if case["expect"]["answerable"]}
    assert not asked & trained


def test_no_case_shares_eight_words_with_training(cases: Rows, training: Rows) -> None:
    trained = set().union(*(_grams(text) for row in training for text in _texts(row)))
    shared = {case["id"]: _grams(case["question"]) & trained for case in cases}
    assert not {name: found for name, found in shared.items() if found}


def test_training_rows_keep_their_form(training: Rows) -> None:
    for row in training:
        asked = row["messages"] if "messages" in row else row["prompt"]
        assert [message["role"] for message in asked][:1] == ["user"]
        assert prompt.QUESTION in asked[0]["content"]
        if "chosen" in row:
            assert row["chosen"] != row["rejected"]
    subjects = [row for row in training if row.get("data_subject")]
    assert {row["data_subject"] for row in subjects} == {"customer-1042", "customer-2077"}
    assert all(row["data_subject"].replace("-", " ") in " ".join(_texts(row)) for row in subjects)


def test_refusals_are_taught_in_both_kinds() -> None:
    sft = [row["messages"][-1]["content"] for row in _rows("examples/sft.jsonl")]
    assert 0.1 < sum("not stated" in reply for reply in sft) / len(sft) < 0.4
    pairs = [
        (row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in _rows("examples/preferences.jsonl")
    ]
    assert any("not stated" in chosen and prompt.cited(rejected) for chosen, rejected in pairs)
    assert not any("not stated" in chosen and prompt.cited(chosen) for chosen, _ in pairs)


def test_the_generator_writes_the_same_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(HOME / "generate.py"), str(tmp_path)], check=True, cwd=tmp_path, timeout=120)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == len(list(HOME.glob("documents/*/*.md"))) + 3
    for path in written:
        assert path.read_bytes() == (HOME / path.relative_to(tmp_path)).read_bytes(), path.name
