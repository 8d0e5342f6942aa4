"""What the texts of training rows hold: credentials are out, personal data wait for a person or are taken out."""

import json
from typing import Any

import pytest

from pipeline import data
from pipeline.errors import BadInput, NotAvailable
from pipeline.operations import cookbook
from pipeline.prompt import QUESTION
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg

MAIL = "ada.lovelace@mail.example.org"


def personal(n: int) -> dict[str, Any]:
    row = question(n)
    row["messages"][1]["content"] = f"Write to {MAIL}, she answers question {n}."
    return row


def with_checks(stage: Stage, **checks: object) -> None:
    path = stage.folder / "usecase.yaml"
    path.write_text(f"{path.read_text()}\nchecks: {json.dumps(checks)}\n")


def contents(stage: Stage) -> str:
    kept = stage.rows("select content from catalog.example union all select content from catalog.locked_example")
    return json.dumps([row["content"] for row in kept])


def test_personal_data_wait_until_a_person_accepts_the_row(stage: Stage) -> None:
    stage.put([question(1), personal(2), personal(3)])
    told = stage.commit()
    assert told.dataset.rows == 1
    assert MAIL not in contents(stage)
    first, _ = data.waiting(stage.settings, stage.usecase)
    assert (first.file, first.line, first.rule, first.detail) == (
        "sft.jsonl",
        2,
        "personal_data",
        "it holds personal data",
    )
    data.accept(stage.settings, stage.usecase, [first.finding], "steward", "an address that she publishes")
    assert stage.commit().dataset.rows == 2
    assert [row.line for row in data.waiting(stage.settings, stage.usecase)] == [3], "the other one waits"
    assert not stage.commit().dataset.changed, "the answer holds on the next night"


def test_who_takes_the_row_out_ends_the_waiting(stage: Stage) -> None:
    stage.put([question(1), personal(2)])
    stage.commit()
    (finding,) = data.waiting(stage.settings, stage.usecase)
    stage.put([question(1), question(2)])
    stage.commit()
    assert data.waiting(stage.settings, stage.usecase) == []
    with pytest.raises(BadInput, match="does not wait"):
        data.accept(stage.settings, stage.usecase, [finding.finding], "steward", "too late")


def test_an_answer_is_about_the_row_as_it_was(stage: Stage) -> None:
    stage.put([question(1), personal(2)])
    stage.commit()
    (finding,) = data.waiting(stage.settings, stage.usecase)
    data.accept(stage.settings, stage.usecase, [finding.finding], "steward", "published")
    changed = personal(2)
    changed["messages"][1]["content"] += " Her card is 4111 1111 1111 1111."
    stage.put([question(1), changed])
    assert stage.commit().dataset.rows == 1
    assert len(data.waiting(stage.settings, stage.usecase)) == 1


def test_personal_data_are_taken_out_where_the_use_case_says_so(stage: Stage) -> None:
    with_checks(stage, personal_data="redact")
    stage.put([question(1), personal(2)])
    told = stage.commit()
    assert (told.dataset.rows, told.waiting) == (2, 0)
    assert MAIL not in contents(stage)
    assert "Write to [email], she answers" in contents(stage)
    assert ("sft.jsonl", 2, "redacted", "warning") in stage.findings()


def test_a_use_case_may_know_addresses_that_are_nobodys_own(stage: Stage) -> None:
    with_checks(stage, public_contacts=["*@mail.example.org"])
    stage.put([question(1), personal(2)])
    assert stage.commit().dataset.rows == 2


def test_credentials_are_out_and_no_acceptance_brings_them_in(stage: Stage) -> None:
    row = question(2)
    row["messages"][1]["content"] = "Use postgresql://app:hunter2hunter2@db.internal/prod for it."
    stage.put([question(1), row])
    assert stage.commit().dataset.rows == 1
    assert data.waiting(stage.settings, stage.usecase) == []
    (finding,) = cookbook.run(stage.settings, "open_findings", {"use_case": "demo"})
    assert (finding["line"], finding["rule"], finding["detail"]) == (2, "credentials", "it holds a credential")


def test_no_finding_quotes_what_it_found(stage: Stage) -> None:
    stage.put([personal(n) for n in range(12)])
    stage.commit()
    rows = stage.rows("select * from catalog.finding")
    assert len(rows) == 12
    assert MAIL not in str(rows)


def test_what_the_evaluation_asks_is_not_trained_on(stage: Stage) -> None:
    """Also where the row writes it otherwise, or passages stand before it; and it is looked at again with the suite."""
    asked = {"id": "one", "question": "Is it allowed in case 2?", "principal": "anna", "expect": {"answerable": False}}
    (stage.folder / "suite.jsonl").write_text(json.dumps(asked) + "\n")
    path = stage.folder / "usecase.yaml"
    path.write_text(f"{path.read_text()}\nevaluation: {{suites: [{{name: first, path: suite.jsonl}}]}}\n")
    passages = question(3)
    passages["messages"][0]["content"] = f"Some passage.\n\n{QUESTION} is it ALLOWED in\u00a0case 2"
    stage.put([question(1), question(2), passages, question(22)])
    assert stage.commit().dataset.rows == 2
    assert [(line, rule) for _, line, rule, _ in stage.findings()] == [(2, "contamination"), (3, "contamination")]
    (stage.folder / "suite.jsonl").write_text(json.dumps({**asked, "question": "Is it allowed in case 22?"}) + "\n")
    stage.commit()
    open_rows = cookbook.run(stage.settings, "open_findings", {"use_case": "demo"})
    assert [(row["line"], row["rule"]) for row in open_rows if row["rule"] == "contamination"] == [(4, "contamination")]


@pytest.mark.parametrize("suite", ["{broken", '{"id": "one"}', "[1]", "\xff"])
def test_a_suite_that_cannot_be_read_stops_the_check(stage: Stage, suite: str) -> None:
    (stage.folder / "suite.jsonl").write_bytes(suite.encode("latin-1"))
    path = stage.folder / "usecase.yaml"
    path.write_text(f"{path.read_text()}\nevaluation: {{suites: [{{name: first, path: suite.jsonl}}]}}\n")
    with pytest.raises((BadInput, NotAvailable), match=r"suite|case"):
        stage.commit()
