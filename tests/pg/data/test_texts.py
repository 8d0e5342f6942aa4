"""What the texts of training rows hold: credentials are out, personal data wait for a person or are taken out."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from pipeline import data, database
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.operations import cookbook
from pipeline.prompt import QUESTION
from pipeline.settings import Settings
from tests.conftest import superuser
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
    with pytest.raises(BadInput, match="not on the work list"):
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


SECRET = "The key is AKIA2E0A8F3B244C9986."


def test_a_row_that_a_rule_of_judgement_left_out_is_accepted_for_a_time(stage: Stage) -> None:
    rows = [question(1), question(2, SECRET)]
    stage.put(rows)
    assert stage.commit().dataset.rows == 1
    (finding,) = data.worklist(stage.settings, stage.usecase)
    assert (finding.rule, finding.severity, finding.may_be_accepted) == ("credentials", "rejected", True)
    for wrong, until in (("the past", date(2020, 1, 1)), ("  ", None)):
        with pytest.raises(BadInput):
            data.accept(stage.settings, stage.usecase, [finding.finding], "steward", wrong, until)
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    data.accept(stage.settings, stage.usecase, [finding.finding], "steward", "an example of the manual", tomorrow)
    assert data.worklist(stage.settings, stage.usecase) == []
    assert stage.commit().dataset.rows == 2
    stage.put([*rows, question(3)])
    assert stage.commit().dataset.rows == 3, "it survives the next commit"
    (waiver,) = cookbook.run(stage.settings, "waivers", {"use_case": stage.usecase.name})
    assert (waiver["person"], waiver["rule"], waiver["until"], waiver["in_force"]) == (
        "steward",
        "credentials",
        tomorrow.isoformat(),
        True,
    )


def test_an_acceptance_that_has_ended_counts_no_more(stage: Stage, installation: Settings) -> None:
    stage.put([question(1), question(2, SECRET)])
    stage.commit()
    (finding,) = data.worklist(stage.settings, stage.usecase)
    data.accept(stage.settings, stage.usecase, [finding.finding], "steward", "for a while", datetime.now(UTC).date())
    assert stage.commit().dataset.rows == 2
    with database.connect(stage.settings, "reader") as connection:
        name = connection.info.dbname
    with superuser(installation, name) as connection:
        connection.execute("update catalog.steward_decision set until = '2020-01-01'")
    assert stage.commit().dataset.rows == 1
    assert [row.rule for row in data.worklist(stage.settings, stage.usecase)] == ["credentials"]


def test_a_waiver_is_of_one_rule_and_one_row(stage: Stage) -> None:
    stage.put([question(1), question(2, SECRET), question(3, SECRET), question(4)])
    stage.commit()
    first, _ = data.worklist(stage.settings, stage.usecase)
    data.accept(stage.settings, stage.usecase, [first.finding], "steward", "an example of the manual")
    assert stage.commit().dataset.rows == 3
    stage.put([question(1), question(2, f"{SECRET} And more."), question(3, SECRET), question(4)])
    assert stage.commit().dataset.rows == 2, "another text is another row"


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"messages": [{"role": "user", "content": "Who?"}]}, "roles"),
        (question(1), "duplicate"),
        (question(5, " "), "empty_answer"),
        (question(6, prompt=3), "malformed"),
    ],
)
def test_what_no_person_lets_in(stage: Stage, row: dict[str, Any], rule: str) -> None:
    stage.put([question(1), question(2), question(3), row])
    if rule == "malformed":
        with (stage.folder / "sft.jsonl").open("a") as file:
            file.write("{not JSON\n")
    stage.commit()
    found = {each.rule: each for each in data.worklist(stage.settings, stage.usecase)}
    assert not found[rule].may_be_accepted
    with pytest.raises(BadInput, match="nobody may accept this"):
        data.accept(stage.settings, stage.usecase, [found[rule].finding], "steward", "let it in")


def test_a_confirmed_row_stays_out_and_off_the_list(stage: Stage) -> None:
    rows = [question(1), question(2, SECRET)]
    stage.put(rows)
    stage.commit()
    (finding,) = data.worklist(stage.settings, stage.usecase)
    data.confirm(stage.settings, stage.usecase, [finding.finding], "steward", "it is a real key")
    assert data.worklist(stage.settings, stage.usecase) == []
    stage.put([*rows, question(3)])
    assert stage.commit().dataset.rows == 2
    assert data.worklist(stage.settings, stage.usecase) == [], "the decision survives the next commit"


def test_a_rule_that_suddenly_leaves_out_many_stops_the_commit_until_a_person_accepts_it(stage: Stage) -> None:
    stage.put([question(n) for n in range(60)])
    assert stage.commit().dataset.rows == 60
    stage.put([question(n, SECRET if n < 15 else "Yes, by all means.") for n in range(60)])
    with pytest.raises(Refused, match="suddenly leaves out many more") as refusal:
        stage.commit()
    assert "credentials leaves out 15 of 60 examples; before, 0% of them" in str(refusal.value.details["found"])
    with pytest.raises(Refused, match="suddenly leaves out many more"):
        stage.commit()
    (jump,) = [row for row in data.worklist(stage.settings, stage.usecase) if row.severity == "waiting"]
    data.accept(stage.settings, stage.usecase, [jump.finding], "steward", "the export was changed on purpose")
    assert stage.commit().dataset.rows == 45
    stage.put([question(n, SECRET if n < 16 else "Yes, by all means.") for n in range(60)])
    assert stage.commit().dataset.rows == 44, "now it is what the check before found"


def test_abuse_waits_until_a_person_accepts_the_row(stage: Stage) -> None:
    stage.put([question(1), question(2, "You are an idiot, and you should be shot.")])
    assert stage.commit().dataset.rows == 1
    (finding,) = data.waiting(stage.settings, stage.usecase)
    assert (finding.line, finding.rule) == (2, "abuse")
    assert "idiot" not in str(stage.rows("select * from catalog.finding"))
    data.accept(stage.settings, stage.usecase, [finding.finding], "steward", "what the classifier is to learn")
    assert stage.commit().dataset.rows == 2
