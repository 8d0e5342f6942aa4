"""`nightshift data check FILE`: one entry for every bad line, and no database."""

import gzip
import io
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import data
from pipeline.cli.commands import app
from pipeline.data import lengths
from pipeline.data.formats import Example
from pipeline.data.lengths import Unmeasured
from pipeline.data.measures import ExampleMeasures, Measures
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.settings import from_environment
from pipeline.usecase import Checks, find

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


def test_what_is_no_file_of_rows_is_one_message(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\xff\xfe" + "Plain words.\nMore.".encode("utf-16-le"))
    with pytest.raises(BadInput, match="UTF-16"):
        data.check_file(file, "sft")


@pytest.mark.parametrize("content", ["", "\n \n", "[]"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(content)
    with pytest.raises(BadInput, match="no rows"):
        data.check_file(file, "sft")


def test_a_missing_file_is_not_available(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="cannot be read"):
        data.check_file(tmp_path / "rows.jsonl", "sft")


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(BadInput, match="no regular file"):
        data.check_file(tmp_path / "rows.jsonl", "sft")


def test_a_folder_is_its_files_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no files of rows"):
        data.check_file(tmp_path, "sft")
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    (tmp_path / "c.csv").write_text("instruction,output\nWhy?,Because.\n")
    (tmp_path / "notes.docx").write_text("notes")
    found = data.check_file(tmp_path, "sft")
    assert found.formats == {"a.jsonl": "messages", "b.jsonl.gz": "messages", "c.csv": "alpaca"}
    assert [(row.file, row.rule) for row in found.rejected] == [("b.jsonl.gz", "duplicate")]
    assert found.skipped == ["notes.docx"]


def test_standard_input_is_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(GOOD).encode())))
    assert data.check_file(Path("-"), "sft").accepted == 1


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(GOOD) + "\n")
    measured = ExampleMeasures.of

    def meanwhile(self: ExampleMeasures, row: Example) -> Measures:
        with file.open("a") as more:
            more.write("{}\n")
        return measured(self, row)

    monkeypatch.setattr(ExampleMeasures, "of", meanwhile)
    with pytest.raises(Refused, match="changed while it was being read"):
        data.check_file(file, "sft")


def test_warnings_are_counted_and_what_is_left_unread_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({**GOOD, "subject": "p-1", "weights": [2], "more": 1}))
    found = data.check_file(file, "sft")
    assert (found.accepted, found.warnings) == (1, {"unread_meaning": 1, "old_key": 1, "unknown_keys": 1})


@pytest.mark.parametrize("answer", ["\u200b", "\u00ad", " \u2060 ", "\ufeff", "\u3164"])
def test_an_answer_that_nobody_sees_is_empty(tmp_path: Path, answer: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"instruction": "Who?", "output": answer}))
    assert data.check_file(file, "sft").by_rule == {"empty_answer": 1}


def test_for_a_person_it_is_a_line_a_rule(tmp_path: Path) -> None:
    """However many rows are rejected: 30,000 that each name their line would say nothing."""
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([json.dumps(GOOD)] * 3_000 + ["{broken}"]))
    shown = CliRunner().invoke(app, ["data", "check", str(file), "--kind", "sft"])
    assert shown.exit_code == 1
    assert len(shown.stdout.splitlines()) < 40
    assert "2999" in shown.stdout
    assert "2991 more" in shown.stdout
    plain = CliRunner().invoke(app, ["data", "check", str(file), "--kind", "sft", "--json"])
    assert len(json.loads(plain.stdout)["rejected"]) == 3_000


def test_columns_are_named_as_ours_is_theirs(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("frage;antwort\nWarum?;Darum.\n")
    given = ["data", "check", str(file), "--kind", "sft", "--json"]
    named = [*given, "--column", "instruction=frage", "--column", "output=antwort"]
    assert json.loads(CliRunner().invoke(app, named).stdout)["formats"] == {"rows.csv": "alpaca"}
    for wrong in (given, [*given, "--column", "frage"]):
        assert CliRunner().invoke(app, wrong).exit_code == 2


def test_a_format_that_the_kind_does_not_come_in(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(GOOD))
    with pytest.raises(BadInput, match="preference, sharegpt, ranking, oasst, auto"):
        data.check_file(file, "preference", "alpaca")
    with pytest.raises(BadInput, match="sft, preference"):
        data.check_file(file, "chat")  # type: ignore[arg-type]


def test_a_prompt_with_two_answers_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    pairs = [("Who?", "Ada."), ("Why?", "Because."), ("who?", "Eve."), ("Who?", "Eve."), ("Who? ", "Ada.\u200b")]
    file.write_text("".join(json.dumps({"instruction": ask, "output": answer}) + "\n" for ask, answer in pairs))
    found = data.check_file(file, "sft")
    assert found.warnings == {"other_answers": 1}, "another case is another prompt"
    assert [row.rule for row in found.rejected] == ["duplicate"]
    strict = data.check_file(file, "sft", checks=Checks(other_answers="quarantine"))
    assert [(row.line, row.rule) for row in strict.rejected] == [(4, "other_answers"), (5, "duplicate")]


LONG = {
    "messages": [GOOD["messages"][0], {"role": "assistant", "content": "Because of the rules of the house. " * 400}]
}


def test_of_a_use_case_rows_are_measured_in_its_models_tokens(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n{json.dumps(LONG)}\n")
    given = ["data", "check", str(file), "--kind", "sft", "--json"]
    assert json.loads(CliRunner().invoke(app, given).stdout)["tokens"] is None
    checked = json.loads(CliRunner().invoke(app, [*given, "--usecase", "tiny"]).stdout)
    assert checked["warnings"]["truncated_answer"] == 1
    tokens = checked["tokens"]
    assert (tokens["rows"], checked["rejected"]) == (2, [])
    assert 1 < tokens["supervised"] < 1024 + 20 < tokens["longest"] < tokens["tokens"]


def test_a_row_whose_answer_is_cut_is_left_out_where_the_use_case_says_so(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n{json.dumps(LONG)}\n")
    settings = from_environment({"NIGHTSHIFT_HOME": str(tmp_path / "home")})
    measuring = lengths.load(settings, lengths.basis(settings, find(settings, "tiny")))
    checked = data.check_file(file, "sft", checks=Checks(truncation="reject"), lengths=measuring)
    (row,) = checked.rejected
    assert (row.line, row.rule) == (2, "truncated_answer")
    assert "and 1,024 are read" in row.detail
    assert checked.tokens is not None
    assert (checked.tokens.rows, checked.tokens.longest) == (1, checked.tokens.tokens)


def test_a_use_case_whose_model_is_not_here_is_said(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(GOOD)}\n{json.dumps(LONG)}\n")
    checked = data.check_file(file, "sft", lengths=Unmeasured("the base model x is not here"))
    assert (checked.accepted, checked.tokens, checked.unmeasured) == (2, None, "the base model x is not here")
