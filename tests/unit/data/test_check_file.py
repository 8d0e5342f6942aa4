"""`nightshift data check FILE`: one entry for every bad line, and no database."""

import json
from pathlib import Path

import pytest

from pipeline import data
from pipeline.errors import BadInput, NotAvailable

pytestmark = pytest.mark.unit

GOOD = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada Lovelace."}]}


def test_one_entry_for_each_bad_line(tmp_path: Path) -> None:
    other = {"messages": [{"role": "user", "content": "Why?"}]}
    lines = [json.dumps(GOOD), "{broken", "", json.dumps(other), json.dumps(GOOD), json.dumps({"messages": 3})]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines))
    found = data.check_file(file, "sft")
    assert (found.rows, found.accepted) == (5, 1)
    rejected = [(entry.line, entry.rule) for entry in found.rejected]
    assert rejected == [(2, "malformed"), (4, "roles"), (5, "duplicate"), (6, "wrong_type")]
    assert "Ada" not in str(found)


def test_wrong_roles_reject_every_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    turned = [{"messages": [*reversed(GOOD["messages"])], "id": n} for n in range(3)]
    file.write_text(json.dumps(turned, indent=1))
    assert {entry.rule for entry in data.check_file(file, "sft").rejected} == {"roles"}


def test_a_file_that_is_no_json_at_all(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\xff\xfe" + "Plain words.\nMore.".encode("utf-16-le"))
    found = data.check_file(file, "sft")
    assert found.accepted == 0
    assert {entry.rule for entry in found.rejected} <= {"not_utf8", "malformed"}


@pytest.mark.parametrize("content", ["", "\n \n", "[]"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(content)
    with pytest.raises(BadInput, match="no rows"):
        data.check_file(file, "sft")


def test_a_missing_file_or_a_folder_is_not_available(tmp_path: Path) -> None:
    for path in (tmp_path / "rows.jsonl", tmp_path):
        with pytest.raises(NotAvailable, match="cannot be read"):
            data.check_file(path, "sft")


def test_a_format_that_the_kind_does_not_come_in(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(GOOD))
    with pytest.raises(BadInput, match="preference, sharegpt"):
        data.check_file(file, "preference", "alpaca")
    with pytest.raises(BadInput, match="sft, preference"):
        data.check_file(file, "chat")  # type: ignore[arg-type]
