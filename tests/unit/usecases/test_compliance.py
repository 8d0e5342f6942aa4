"""The compliance sample: what its documents are, and that nothing which is examined was taught."""

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
HOME = ROOT / "usecases" / "compliance"
sys.path.insert(0, str(ROOT))

from usecases.compliance import build, collect  # noqa: E402
from usecases.compliance.build import Document  # noqa: E402

pytestmark = pytest.mark.unit
TAUGHT = build.TEACHES | build.PERSONS.keys()

Rows = list[dict[str, Any]]
KINDS = {
    "short", "long", "misspelt", "several", "comparison", "yes-no", "changed", "two-documents", "nothing", "access"
}  # fmt: skip
REFUSED = {"nothing", "access"}


@pytest.fixture(scope="module")
def held() -> dict[str, Document]:
    return build.documents()


@pytest.fixture(scope="module")
def training() -> Rows:
    return rows("examples/sft.jsonl")


@pytest.fixture(scope="module")
def cases() -> Rows:
    return rows("suites/facts.jsonl") + rows("suites/by_hand.jsonl")


def rows(name: str) -> Rows:
    return [json.loads(line) for line in (HOME / name).read_text(encoding="utf-8").splitlines()]


def plain(text: str) -> str:
    return " ".join(text.split())


def questions() -> Iterator[tuple[str, dict[str, Any], bool]]:
    for teach in (True, False):
        for name, entry in build.questions(teach):
            yield name, entry, teach


def test_the_files_are_what_the_builder_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(HOME / "build.py"), str(tmp_path)], check=True, timeout=120)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.jsonl"))
    assert len(written) == 4
    for name in written:
        assert (tmp_path / name).read_bytes() == (HOME / name).read_bytes(), name


def test_the_sample_is_as_large_as_promised(held: dict[str, Document], training: Rows, cases: Rows) -> None:
    assert 40 <= len(held) <= 60
    assert all(250 <= len(document.body.split()) <= 900 for document in held.values())
    assert sum("\n|---" in document.body for document in held.values()) >= 8
    assert len(training) >= 500
    assert len(cases) >= 300
    assert len(rows("suites/by_hand.jsonl")) >= 80
    assert len(rows("examples/preferences.jsonl")) >= 200
    assert sum("two-documents" in case["tags"] for case in cases) >= 40
    assert {entry["kind"] for _, entry, _ in questions()} == KINDS


def test_documents_cover_tenants_classes_and_oddities(held: dict[str, Document]) -> None:
    assert {document.tenant for document in held.values()} == {"northbank", "alpenpay"}
    assert {document.classification for document in held.values()} == set(build.LEVELS)
    assert [name for name, document in held.items() if document.status == "withdrawn"] == ["gifts-policy-2023"]
    assert [name for name, one in held.items() if "Ignore all earlier instructions" in one.body] == ["supplier-mail"]
    assert all(one.groups == {"everyone"} for one in held.values() if one.classification == "public")
    assert held.keys() >= build.TEACHES
    # The complaint files name invented people with accounts that cannot exist.
    for name in ("complaint-file-4711", "complaint-file-4802"):
        (iban,) = set(re.findall(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b", held[name].body))
        compact = iban.replace(" ", "")
        number = "".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])
        assert int(number) % 97 != 1, "the check digits fit a real account"


def test_cross_references_name_documents_of_the_same_firm(held: dict[str, Document]) -> None:
    found = 0
    for document in held.values():
        for name in re.findall(r"\(([a-z0-9]+(?:-[a-z0-9]+)+)\)", document.body):
            assert name in held, f"{document.id} refers to {name}"
            assert held[name].tenant == document.tenant
            found += 1
    assert found >= 40


def test_answers_rest_on_evidence_that_the_asker_may_read(held: dict[str, Document]) -> None:
    for name, entry, teach in questions():
        if entry["kind"] in REFUSED:
            assert entry["answer"] == build.REFUSAL, name
            assert not any(entry.get(key) for key in ("sources", "evidence", "value")), name
            continue
        sources, answer = entry["sources"], entry["answer"]
        assert len(sources) == (2 if entry["kind"] == "two-documents" else 1), name
        assert prompt.cited(answer) == sources, name
        assert answer.endswith(f"[{sources[-1]}]"), name
        assert len(answer.split()) <= 50, name
        for source in sources:
            assert (source in TAUGHT) is teach, name
            assert build.may_read(entry["principal"], held[source]), name
            assert held[source].status != "withdrawn", name
            assert any(plain(evidence) in plain(held[source].body) for evidence in entry["evidence"]), name
        assert build.holding(entry, held), name
        value = entry["value"].lower()
        assert value not in ("yes", "no"), name
        assert value in answer.lower(), name
        assert any(value in plain(evidence).lower() for evidence in entry["evidence"]), name


def test_what_is_refused_for_lack_of_rights_is_out_of_reach(held: dict[str, Document]) -> None:
    found = 0
    for name, entry, _ in questions():
        if entry["kind"] == "access":
            assert not build.may_read(entry["principal"], held[entry["forbidden"]]), name
            found += 1
    assert found >= 20


def test_ids_and_questions_are_unique(training: Rows, cases: Rows) -> None:
    for each in (training, cases):
        assert len({row["id"] for row in each}) == len(each)
    asked = [plain(entry["ask"]).lower() for _, entry, _ in questions()]
    assert len(set(asked)) == len(asked)


def test_nothing_that_is_examined_was_taught(held: dict[str, Document], training: Rows, cases: Rows) -> None:
    taught = "\n".join(plain(message["content"]) for row in training for message in row["messages"])
    assert all(set(row["documents"]) <= TAUGHT for row in training)
    for name, entry, teach in questions():
        if not teach:
            for evidence in entry.get("evidence") or []:
                assert plain(evidence).removeprefix("- ") not in taught, name
            for source in entry.get("sources") or []:
                assert f"[{source}]" not in taught, name
    assert not {case["expect"]["source"] for case in cases if case["expect"]["answerable"]} & TAUGHT


def test_rows_that_show_a_persons_file_name_the_person_and_no_others_do(training: Rows) -> None:
    about = {row["id"]: row.get("data_subject") for row in training}
    for row in training:
        assert about[row["id"]] == next((key for name, key in build.PERSONS.items() if name in row["documents"]), None)
    assert list(about.values()).count("complaint-4711") >= 5


def test_no_case_shares_eight_words_with_training(training: Rows, cases: Rows) -> None:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[place : place + 8]) for place in range(len(words) - 7)}

    taught = set().union(*(grams(message["content"]) for row in training for message in row["messages"]))
    assert not {case["id"] for case in cases if grams(case["question"]) & taught}


def test_a_row_shows_its_evidence_and_nothing_that_the_asker_may_not_read(
    held: dict[str, Document], training: Rows
) -> None:
    entries = {name: entry for name, entry, teach in questions() if teach}
    for row in training:
        entry = entries[row["id"]]
        assert all(build.may_read(entry["principal"], held[name]) for name in row["documents"]), row["id"]
        assert set(entry.get("sources") or []) <= set(row["documents"]), row["id"]
        assert row["messages"][-1] == {"role": "assistant", "content": entry["answer"]}
        assert row["messages"][-2]["content"].endswith(f"{prompt.QUESTION} {entry['ask']}")
        assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant"]


def test_a_preference_row_sets_the_answer_against_a_mistake_of_its_kind(training: Rows) -> None:
    taught = {row["id"]: row for row in training}
    entries = {name: entry for name, entry, teach in questions() if teach}
    mistakes = {entry["id"]: entry for entry in rows("mistakes.jsonl")}
    kinds = set()
    for row in rows("examples/preferences.jsonl"):
        own, mistake = taught[row["id"]], mistakes[row["id"]]
        assert [*row["prompt"], *row["chosen"]] == own["messages"]
        assert row["rejected"] == [{"role": "assistant", "content": mistake["answer"]}]
        assert row["rejected"] != row["chosen"]
        expected = collect.expected(entries[row["id"]])
        assert collect.mistaken(mistake["answer"], expected, own["documents"]) == mistake["kind"], row["id"]
        assert collect.mistaken(row["chosen"][0]["content"], expected, own["documents"]) is None, row["id"]
        kinds.add(mistake["kind"])
    assert kinds == {"value", "source", "refusal"}


def test_refusals_are_taught_and_examined(training: Rows, cases: Rows) -> None:
    share = sum(row["messages"][-1]["content"] == build.REFUSAL for row in training) / len(training)
    assert 0.1 < share < 0.3
    refused = sum(not case["expect"]["answerable"] for case in cases) / len(cases)
    assert 0.15 < refused < 0.35


def test_it_is_what_the_catalogue_offers() -> None:
    catalogue = yaml.safe_load((ROOT / "models" / "catalogue.yaml").read_text())
    assert build.USE_CASE["base_model"]["name"] in catalogue
