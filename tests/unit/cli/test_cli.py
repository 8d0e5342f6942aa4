"""The command line's contract: one object on stdout with --json, messages on stderr, exit codes by meaning."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import sql, usecase

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]


def nightshift(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Returns how the command ended, with what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSHIFT_")}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=ROOT,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refused(done: "subprocess.CompletedProcess[str]", code: int) -> dict[str, Any]:
    """Returns the error object of a refusal: the right exit code, a message on stderr, no traceback anywhere."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.startswith("nightshift: ")
    error = json.loads(done.stdout)["error"]
    assert isinstance(error, dict)
    return error


def test_an_unknown_use_case_is_bad_input(tmp_path: Path) -> None:
    done = nightshift("status", "complience", "--json", NIGHTSHIFT_HOME=str(tmp_path))
    assert "did you mean compliance?" in refused(done, 2)["allowed"]


def test_an_unknown_setting_is_bad_input() -> None:
    error = refused(nightshift("status", "--json", NIGHTSHIFT_HOEM="/x"), 2)
    assert error["where"] == "environment variable NIGHTSHIFT_HOEM"
    assert "did you mean NIGHTSHIFT_HOME?" in error["allowed"]


@pytest.mark.parametrize("command", [["status"], ["data", "versions", "compliance"], ["sql", "in_production"]])
def test_a_database_that_is_down_is_not_available(tmp_path: Path, command: list[str]) -> None:
    error = refused(nightshift(*command, "--json", NIGHTSHIFT_HOME=str(tmp_path)), 3)
    assert "db upgrade" in error["next"] or "make up" in error["next"]
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_not_available_and_its_password_stays_unsaid(tmp_path: Path) -> None:
    (tmp_path / "logins").mkdir()
    for role in ("reader", "auditor"):
        (tmp_path / "logins" / role).write_text("hunter2")
    done = nightshift(
        "status",
        "--json",
        NIGHTSHIFT_HOME=str(tmp_path),
        NIGHTSHIFT_DATABASE_URL="postgresql://root:hunter3@127.0.0.1:1/nightshift",
    )
    error = refused(done, 3)
    assert "127.0.0.1:1" in error["where"]
    assert "hunter" not in done.stdout + done.stderr


def test_wrong_use_of_a_command_ends_with_two() -> None:
    done = nightshift("data", "check")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_new_use_case_loads_as_it_is_and_is_not_overwritten(tmp_path: Path) -> None:
    done = nightshift("new", "usecase", "helpdesk", "--json", NIGHTSHIFT_USECASES=str(tmp_path))
    assert done.returncode == 0, done.stderr
    created = json.loads(done.stdout)["created"]
    assert str(tmp_path / "helpdesk" / "usecase.yaml") in created
    assert usecase.load(tmp_path / "helpdesk" / "usecase.yaml").name == "helpdesk"
    before = (tmp_path / "helpdesk" / "usecase.yaml").read_text()
    again = nightshift("new", "usecase", "helpdesk", "--json", NIGHTSHIFT_USECASES=str(tmp_path))
    assert refused(again, 2)["what"] == "the use case exists"
    assert (tmp_path / "helpdesk" / "usecase.yaml").read_text() == before


@pytest.mark.parametrize("name", ["Help", "9lives", "../escape", "a" * 41])
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    refused(nightshift("new", "usecase", name, "--json", NIGHTSHIFT_USECASES=str(tmp_path)), 2)
    assert list(tmp_path.iterdir()) == []


def test_a_parameter_of_the_wrong_form_is_bad_input(tmp_path: Path) -> None:
    done = nightshift("sql", "in_production", "--param", "usecase", "--json", NIGHTSHIFT_HOME=str(tmp_path))
    assert refused(done, 2)["found"] == "usecase"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.cli.commands import app; "
        "print(sorted({'torch', 'transformers', 'pandas', 'airflow', 'great_expectations'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_queries_parse_and_bind() -> None:
    parsed = sql.parse("-- a --\n-- What is a?\nselect :'x'::int, 'a%';\n\n-- b --\nselect :'y', :'x';\n")
    assert parsed["a"].about == "What is a?"
    assert parsed["a"].bound == "select %(x)s::int, 'a%%'"
    assert parsed["b"].parameters == ("y", "x")
