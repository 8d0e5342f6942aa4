"""Commands that do a stage's work, against a database."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.settings import Settings
from tests.conftest import nightshift

pytestmark = pytest.mark.pg

ROW = {"messages": [{"role": "user", "content": "Who asks?"}, {"role": "assistant", "content": "A test."}]}


def test_a_commit_says_what_it_left_out_and_where_to_read_why(
    settings: Settings, usecase_folder: Callable[..., Path]
) -> None:
    folder = usecase_folder("demo")
    (folder / "sft.jsonl").write_text(json.dumps(ROW) + "\n")
    header = "---\nid: {id}\ntitle: T\ntenant: acme\nclassification: {kind}\ngroups: [everyone]\n---\nSome text.\n"
    for id, kind in (("good", "internal"), ("bad", "secret")):
        (folder / "documents" / f"{id}.md").write_text(header.format(id=id, kind=kind))
    told = nightshift(settings, "data", "commit", "demo", ends_with=1)
    (rejected,) = told["rejected_documents"]
    assert (rejected["file"], rejected["rule"]) == ("documents/bad.md", "classification")
    assert told["corpus"]["rows"] == 1
    assert told["checks"]["documents"]["rejected"] == 1
    assert told["checks"]["examples"]["rejected"] == 0
    (finding,) = nightshift(settings, *told["findings"].split()[1:])["rows"]
    assert (finding["file"], finding["rule"]) == ("documents/bad.md", "classification")


REVIEWER = {"LOGNAME": "reviewer", "USER": "reviewer"}


def test_a_widening_waits_until_it_is_accepted_at_the_command_line(
    settings: Settings, usecase_folder: Callable[..., Path], own_settings: Callable[..., Settings]
) -> None:
    folder = usecase_folder("demo")
    (folder / "sft.jsonl").write_text(json.dumps(ROW) + "\n")
    document = folder / "documents" / "limits.md"
    document.write_text("---\nclassification: restricted\ngroups: [board]\n---\nText.\n")
    assert nightshift(settings, "data", "commit", "demo")["waiting"] == []
    document.write_text("---\nclassification: public\ngroups: [board]\n---\nText.\n")
    (waiting,) = nightshift(settings, "data", "commit", "demo", ends_with=1)["waiting"]
    assert waiting["detail"] == "classification restricted → public"
    listed = nightshift(settings, "data", "accept", "demo")["findings"]
    assert listed == [waiting | {"may_be_accepted": True}]
    assert nightshift(settings, "data", "worklist", "demo", ends_with=1)["findings"] == listed
    number = str(waiting["finding"])
    nobody = nightshift(settings, "data", "accept", "demo", number, "--reason", "x", ends_with=1, environ=REVIEWER)
    assert "nobody is logged in" in nobody["error"]["what"]
    steward = own_settings("engineer")
    for arguments in ([number], [number, "--reason", " "], ["999", "--reason", "x"], [number, "999", "--reason", "x"]):
        nightshift(steward, "data", "accept", "demo", *arguments, ends_with=2)
    answer = nightshift(steward, "data", "accept", "demo", number, "--reason", "published")
    assert answer == {"accepted": [waiting], "findings": []}
    assert nightshift(settings, "data", "commit", "demo")["corpus"]["changed"]
