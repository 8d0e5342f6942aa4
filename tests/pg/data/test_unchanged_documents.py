"""Documents whose files are as they were are neither parsed nor measured again, and are no less right for it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.artifacts import ArtifactStore
from pipeline.data import documents, texts
from pipeline.data.impact import Target
from tests.pg.data.conftest import Stage
from tests.pg.data.test_erasure import erased

pytestmark = pytest.mark.pg


class Calls:
    """What was parsed and what was measured since somebody looked."""

    def __init__(self) -> None:
        self.parsed: list[str] = []
        self.measured: list[str] = []

    def since(self) -> tuple[list[str], list[str]]:
        """Returns both, sorted, and forgets them."""
        seen = sorted(self.parsed), sorted(self.measured)
        self.parsed.clear()
        self.measured.clear()
        return seen


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts what the stage does: all of it is done."""
    calls, parse, measure = Calls(), documents.markdown, texts.of_document

    def parsed(data: bytes, file: str, *more: Any, **named: Any) -> documents.Document:
        calls.parsed.append(Path(file).stem)
        return parse(data, file, *more, **named)

    def measured(row: documents.Document, *more: Any) -> Any:
        calls.measured.append(str(row.key))
        return measure(row, *more)

    monkeypatch.setattr(documents, "markdown", parsed)
    monkeypatch.setattr(texts, "of_document", measured)
    return calls


def write_keys(stage: Stage, **keys: Any) -> None:
    path = stage.folder / "usecase.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **keys}))


def bodies(stage: Stage) -> dict[str, str]:
    found = stage.rows(
        "select o.document_key, v.body from catalog.document_member m join catalog.document_version v"
        " using (document_version_id) join catalog.document o using (document_id) where m.removed_in is null"
    )
    return {row["document_key"]: row["body"] for row in found}


def test_only_what_changed_is_looked_at(stage: Stage, calls: Calls) -> None:
    for number, name in enumerate(("a", "b", "c")):
        stage.document(name, f"The limit is {number} EUR.")
    stage.commit()
    assert calls.since() == (["a", "b", "c"], ["a", "b", "c"])
    stage.document("b", "The limit is 20 EUR.")
    stage.document("d", "You idiot.")
    (stage.folder / "documents" / "c.md").unlink()
    stage.commit()
    assert calls.since() == (["b", "d"], ["b", "d"])
    assert bodies(stage) == {"a": "The limit is 0 EUR.", "b": "The limit is 20 EUR.", "d": "You idiot."}
    assert {finding[2] for finding in stage.findings()} == {"abuse"}


def test_what_was_found_before_is_found_again(stage: Stage, calls: Calls) -> None:
    stage.document("a", "You idiot.")
    (stage.folder / "documents" / "broken.md").write_text("---\nclassification: [\n---\nText.\n")
    stage.document("b")
    stage.check()
    first = stage.findings()
    calls.since()
    stage.document("c", "The limit is 20 EUR.")
    stage.check()
    assert calls.since() == (["c"], ["c"])
    again = stage.findings()[len(first) :]
    assert [finding[:3] for finding in again] == [finding[:3] for finding in first]
    assert {finding[2] for finding in first} == {"abuse", "front_matter"}


def test_other_settings_read_and_measure_all_anew(stage: Stage, calls: Calls) -> None:
    stage.document("a", "You idiot.")
    stage.check()
    calls.since()
    write_keys(stage, checks={"languages": ["en"]})
    stage.check()
    assert calls.since() == ([], ["a"]), "the same documents, looked at for something else"
    write_keys(stage, documents=[{"path": "documents", "defaults": {"owner": "another desk"}}])
    stage.check()
    assert calls.since() == (["a"], ["a"])


def test_a_file_in_two_sources_has_the_rights_of_each(stage: Stage, calls: Calls) -> None:
    stage.document("a")
    sources = [{"path": "documents"}, {"path": "documents/a.md", "defaults": {"owner": "desk"}}]
    write_keys(stage, documents=sources)
    first = stage.check().facts.documents
    stage.document("b")
    calls.since()
    again = stage.check().facts.documents
    assert (first.rows, again.rows) == (2, 3)
    assert calls.since()[0] == ["a", "a", "b"]


def test_nothing_is_kept_of_a_document_whose_text_is_not(stage: Stage, calls: Calls) -> None:
    write_keys(stage, checks={"documents": {"abuse": "reject"}})
    for number in range(4):
        stage.document(f"good-{number}", f"The limit is {number} EUR.")
    stage.document("bad", "You idiot.")
    checked = stage.check()
    store = ArtifactStore(stage.settings.artifacts, "pipeline")
    kept = json.loads(store.read(checked.documents.kind, checked.documents.digest, "measures.json"))
    assert len(kept) == 4
    calls.since()
    stage.document("another", "The limit is 40 EUR.")
    stage.check()
    assert calls.since() == (["another"], ["another", "bad"]), "it is measured each time"


def test_a_file_that_is_named_twice_is_read_twice_each_time(stage: Stage, calls: Calls) -> None:
    stage.document("a")
    write_keys(stage, documents=[{"path": "documents"}, {"path": "documents"}])
    for number in range(3):
        stage.put([{"prompt": f"Why {number}?", "completion": "Because."}])
        assert stage.fetch().facts.documents.rows == 2
        assert calls.since()[0] == ["a", "a"]


def test_what_was_erased_is_read_to_be_recognised_and_does_not_come_back(stage: Stage, calls: Calls) -> None:
    stage.document("a")
    stage.document("b", "The limit is 20 EUR.")
    stage.commit()
    erased(stage, Target("document", "a"))
    for name in ("c", "d"):
        stage.document(name, f"The limit of {name} is 30 EUR.")
        stage.commit()
    assert sorted(bodies(stage)) == ["b", "c", "d"]
    assert "a" in calls.since()[0]
    assert ("documents/a.md", 1, "erased", "rejected") in stage.findings()
