"""What the rows of a check must satisfy together: Great Expectations decides, in SQL, and leaves nothing behind."""

import json
import re
from typing import Any

import pytest
import yaml

from pipeline.artifacts import ArtifactStore
from pipeline.errors import Refused
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg


def expect(stage: Stage, **checks: Any) -> None:
    """Writes these checks into the use case."""
    path = stage.folder / "usecase.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "checks": checks}))


def report(stage: Stage) -> dict[str, Any]:
    """Returns the report of a check."""
    found = ArtifactStore(stage.settings.artifacts).read("check_report", stage.check().report.digest, "report.json")
    return dict(json.loads(found))


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ({"min_examples": 4}, r"checks\.min_examples(.|\n)*accepted 3(.|\n)*4 examples or more"),
        ({"min_documents": 1}, r"checks\.min_documents(.|\n)*accepted 0(.|\n)*1 documents or more"),
        ({"min_mean_answer": 100}, r"checks\.min_mean_answer(.|\n)*mean 18\.0\n(.|\n)*100 to 10,000,000"),
        ({"max_mean_answer": 3}, r"checks\.max_mean_answer(.|\n)*mean 18\.0\n(.|\n)*0 to 3 characters"),
    ],
)
def test_what_is_not_met_stops_the_commit_and_says_what_was_seen(
    stage: Stage, checks: dict[str, Any], message: str
) -> None:
    stage.put([question(n) for n in range(3)])
    expect(stage, **checks)
    with pytest.raises(Refused, match=message):
        stage.commit()
    assert stage.rows("select * from catalog.dataset_version") == []
    assert stage.rows("select * from catalog.staged_row") == []


def test_what_is_met_is_in_the_report_and_on_a_page_that_fetches_nothing(stage: Stage) -> None:
    stage.put([question(n) for n in range(3)])
    stage.document("limits")
    expect(stage, min_examples=3, min_documents=1, min_mean_answer=1, max_mean_answer=30)
    content = report(stage)
    assert [(each["name"], each["success"], each["observed"]) for each in content["expectations"]] == [
        (name, True, None) for name in ("whole_files", "max_rejected", "min_examples", "min_documents", "mean_answer")
    ]
    page = ArtifactStore(stage.settings.artifacts).read(
        "check_report", stage.check().report.digest, "expectations.html"
    )
    assert b"3 examples or more are accepted" in page
    assert not re.search(rb"<(script|link|img|iframe|object|embed)\b|@import|url\(", page, re.IGNORECASE)
    assert stage.rows("select * from catalog.staged_row") == []


def test_a_folder_of_documents_counts_as_one_source(stage: Stage) -> None:
    expect(stage, max_rejected=0.4)
    for number in range(4):
        stage.document(f"sound-{number}", f"Text {number}.")
    for number in range(2):
        stage.document(f"bad-{number}", classification="secret")
    assert report(stage)["documents"]["rejected"] == 2
    stage.document("bad-2", classification="secret")
    with pytest.raises(Refused, match=r"mostly malformed(.|\n)*documents(.|\n)*3 bad rows of 7"):
        stage.check()


def test_rows_that_nobody_looks_at_any_more_are_taken_away(stage: Stage) -> None:
    expect(stage, min_examples=99)
    with pytest.raises(Refused):
        stage.check()
    (run,) = stage.rows(
        "select run_id from lineage.run r join lineage.job j using (job_id) where j.name = 'data.check'"
    )
    stage.rows(
        "insert into catalog.staged_row (run_id, part, source, file, counts_as_bad) "
        f"values ('{run['run_id']}', 'examples', 'f', 'f', false) returning run_id"
    )
    expect(stage)
    stage.check()
    assert stage.rows("select * from catalog.staged_row") == []
