"""A document whose text holds a credential is served to nobody until a person accepts it. What was served before stays
so, unless somebody loses the right to read it, or a person says that it stays out."""

import json

import pytest
import yaml

from pipeline import data, database, retrieval
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from tests.pg.data.conftest import Stage

pytestmark = pytest.mark.pg

KEY = "-----BEGIN RSA PRIVATE KEY----- MIIEowIBAAKCAQEA7bq8"
RIGHTS = {"classification": "confidential", "groups": "[board]"}


def with_documents(stage: Stage, **checks: str) -> None:
    """Writes `checks.documents` of the use case."""
    path = stage.folder / "usecase.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"checks": {"documents": checks}}))


def corpus(stage: Stage) -> dict[str, str]:
    """Returns the texts of the current corpus, by id."""
    rows = stage.rows(
        """select o.document_key, v.body
           from catalog.document_member m join catalog.document_version v using (document_version_id)
           join catalog.document o using (document_id) where m.removed_in is null"""
    )
    return {row["document_key"]: row["body"] for row in rows}


def indexed(stage: Stage) -> set[str]:
    """Returns the documents that the live index serves, after it was brought up to date."""
    retrieval.sync(Context(stage.settings, stage.usecase, stage.origin))
    with database.connect(stage.settings, "reader") as connection:
        return {row["document_key"] for row in connection.execute("select document_key from rag.served_documents")}


def test_a_private_key_is_not_indexed_until_a_person_accepts_it(stage: Stage) -> None:
    stage.document("limits", "The limit is 10 EUR.", **RIGHTS)
    stage.document("deploying", f"Sign in with {KEY} on every host.", **RIGHTS)
    committed = stage.commit()
    assert set(corpus(stage)) == {"limits"} == indexed(stage)
    (finding,) = data.waiting(stage.settings, stage.usecase)
    assert (finding.file, finding.rule, finding.severity) == ("documents/deploying.md", "credentials", "waiting")
    assert finding.may_be_accepted
    data.accept(stage.settings, stage.usecase, [finding.finding], "steward", "an example that opens nothing")
    again = stage.commit()
    assert (again.corpus.version, again.corpus.rows) == (committed.corpus.version + 1, 2)
    assert indexed(stage) == {"limits", "deploying"}
    assert data.waiting(stage.settings, stage.usecase) == []


def test_no_finding_and_no_report_says_a_word_of_the_text(stage: Stage) -> None:
    stage.document("deploying", f"Sign in with {KEY}. You are an idiot. Write to grace@mail.example.org.", **RIGHTS)
    stage.document("second", "Write to grace@mail.example.org, you idiot.", **RIGHTS)
    checked = stage.check()
    found = json.dumps(stage.rows("select * from catalog.finding"), default=str)
    store = ArtifactStore(stage.settings.artifacts)
    report = store.read(checked.report.kind, checked.report.digest, "report.json").decode()
    for word in ("Sign in", "MIIE", "PRIVATE", "idiot", "grace", "mail.example"):
        assert word not in found
        assert word not in report
    rules = {(file, rule, severity) for file, _, rule, severity in stage.findings()}
    assert rules >= {
        ("documents/deploying.md", "credentials", "waiting"),
        ("documents/second.md", "personal_data", "warning"),
        ("documents/second.md", "abuse", "warning"),
    }


def test_the_version_before_is_served_on_while_the_new_one_waits(stage: Stage) -> None:
    stage.document("deploying", "Ask the platform team.", **RIGHTS)
    stage.commit()
    stage.document("deploying", f"Sign in with {KEY}.", **RIGHTS)
    assert not stage.commit().corpus.changed
    assert "Ask the platform team." in corpus(stage)["deploying"]
    assert ("documents/deploying.md", 1, "served_as_before", "warning") in stage.findings()
    stage.document("deploying", "Sign in with your own key.", **RIGHTS)
    stage.commit()
    assert "your own key" in corpus(stage)["deploying"]
    assert data.waiting(stage.settings, stage.usecase) == []


def test_whoever_loses_the_right_loses_it_at_once(stage: Stage) -> None:
    stage.document("deploying", "Ask the platform team.", classification="internal", groups="[staff]")
    stage.commit()
    stage.document("deploying", f"Sign in with {KEY}.", **RIGHTS)
    stage.commit()
    assert corpus(stage) == {}
    assert [row["document_key"] for row in stage.rows("select document_key from rag.withdrawal")] == ["deploying"]


def test_whoever_withdraws_a_document_need_not_mend_it_first(stage: Stage) -> None:
    with_documents(stage, credentials="off")
    stage.document("deploying", f"Sign in with {KEY}.", **RIGHTS)
    stage.document("limits", **RIGHTS)
    stage.commit()
    with_documents(stage, credentials="quarantine")
    stage.document("deploying", f"Sign in with {KEY}.", status="withdrawn", **RIGHTS)
    stage.commit()
    assert [row["document_key"] for row in stage.rows("select document_key from rag.withdrawal")] == ["deploying"]


def test_a_served_version_that_a_person_confirms_is_served_no_longer(stage: Stage) -> None:
    """The rule is newer than the document: it waits and is served, until somebody has looked."""
    with_documents(stage, credentials="off")
    stage.document("deploying", f"Sign in with {KEY}.", **RIGHTS)
    stage.document("limits", **RIGHTS)
    stage.commit()
    with_documents(stage, credentials="quarantine")
    stage.commit()
    assert set(corpus(stage)) == {"deploying", "limits"}
    (finding,) = data.waiting(stage.settings, stage.usecase)
    data.confirm(stage.settings, stage.usecase, [finding.finding], "steward", "it is a real key")
    stage.commit()
    assert set(corpus(stage)) == {"limits"} == indexed(stage)
    assert data.waiting(stage.settings, stage.usecase) == []


def test_who_accepts_a_text_has_not_accepted_that_more_people_read_it(stage: Stage) -> None:
    stage.document("deploying", "Ask the platform team.", **RIGHTS)
    stage.commit()
    stage.document("deploying", f"Sign in with {KEY}.", classification="internal", groups="[board, staff]")
    stage.commit()
    (finding,) = data.waiting(stage.settings, stage.usecase)
    data.accept(stage.settings, stage.usecase, [finding.finding], "steward", "an example that opens nothing")
    stage.commit()
    assert "Ask the platform team." in corpus(stage)["deploying"]
    (widened,) = data.waiting(stage.settings, stage.usecase)
    assert widened.rule == "rights_widened"
    data.accept(stage.settings, stage.usecase, [widened.finding], "steward", "for the staff from now on")
    stage.commit()
    assert KEY in corpus(stage)["deploying"]


def test_what_is_rejected_is_accepted_by_a_person_too(stage: Stage) -> None:
    with_documents(stage, mojibake="reject")
    stage.document("limits", **RIGHTS)
    stage.document("staff", "The fianc\u00c3\u00a9 of staff.", **RIGHTS)
    stage.commit()
    (finding,) = data.worklist(stage.settings, stage.usecase)
    assert (finding.rule, finding.severity) == ("mojibake", "rejected")
    data.accept(stage.settings, stage.usecase, [finding.finding], "steward", "it is spelled so in the register")
    stage.commit()
    assert set(corpus(stage)) == {"limits", "staff"}


def test_a_report_changes_nothing(stage: Stage) -> None:
    stage.document("contact", "Write to grace@mail.example.org.", **RIGHTS)
    assert stage.commit().corpus.rows == 1
    assert ("documents/contact.md", 1, "personal_data", "warning") in stage.findings()
    assert data.worklist(stage.settings, stage.usecase) == []
