"""Who answers at the command line: a login, and never what the environment says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.login import session
from pipeline.people import persons
from pipeline.settings import Settings
from tests.conftest import nightshift
from tests.pg.sql.test_release import Ground, ground

pytestmark = pytest.mark.pg

__all__ = ["ground"]

REVIEWER = {
    "LOGNAME": "reviewer",
    "USER": "reviewer",
    "USERNAME": "reviewer",
    "PGUSER": "reviewer",
    "LNAME": "reviewer",
}

SESSION = {"server": "http://127.0.0.1:9", "user": "reviewer", "token": "x"}


@pytest.fixture(autouse=True)
def usecases(settings: Settings, usecase_folder: Callable[..., Path]) -> None:
    usecase_folder("demo")
    usecase_folder("other")


def answers(ground: Ground) -> list[tuple[str, str]]:
    rows = ground.connection.execute("select answer, person from release.approval order by approval_id").fetchall()
    return [(row["answer"], row["person"]) for row in rows]


@pytest.mark.parametrize(
    "command",
    [
        ("approve", "demo", "--reason", "x"),
        ("reject", "demo"),
        ("promote", "demo", "--decision", "1"),
        ("rollback", "demo", "--why", "x", "--to", "1"),
    ],
    ids=lambda command: command[0],
)
def test_the_environment_says_nothing_about_who_one_is(ground: Ground, command: tuple[str, ...]) -> None:
    ground.decide()
    error = nightshift(ground.settings, *command, ends_with=1, environ=REVIEWER)["error"]
    assert "nobody is logged in" in error["what"]
    assert "nightshift login" in error["next"]
    assert answers(ground) == []
    assert nightshift(ground.settings, "whoami", ends_with=1, environ=REVIEWER)["name"] == persons.of_process()


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "{}",
        "[]",
        '{"user": "reviewer"}',
        json.dumps(SESSION | {"expires_at": "2999-01-01T00:00:00+00:00"}),
        json.dumps(SESSION | {"expires_at": "2000-01-01T00:00:00+00:00"}),
    ],
)
def test_a_file_that_says_who_one_is_says_nothing(settings: Settings, kept: str) -> None:
    session.file(settings).parent.mkdir(parents=True, exist_ok=True)
    session.file(settings).write_text(kept)
    found = nightshift(settings, "whoami", ends_with=1, environ=REVIEWER)
    assert (found["name"], found["logged_in"]) == (persons.of_process(), False)


def test_a_login_of_ones_own_answers_at_the_command_line(ground: Ground, own_settings: Callable[..., Settings]) -> None:
    decision = ground.decide()
    engineer, reviewer = own_settings("engineer"), own_settings("reviewer")
    found = nightshift(engineer, "whoami", environ=REVIEWER)
    assert (found["name"], found["by"]) == ("engineer", "database")
    found = nightshift(engineer, "approve", "demo", "--reason", "mine", ends_with=1, environ=REVIEWER)
    assert (found["answer"], found["person"]) == ("refused", "engineer")
    assert "cannot approve" in found["message"]
    found = nightshift(reviewer, "approve", "demo", "--reason", "sound", "--decision", str(decision))
    assert (found["answer"], found["person"], found["decision"]) == ("approve", "reviewer", decision)
    assert answers(ground) == [("refused", "engineer"), ("approve", "reviewer")]
    assert "nothing waits" in nightshift(reviewer, "reject", "demo", ends_with=1)["error"]["what"]


def test_a_password_that_is_typed_is_a_login_too(ground: Ground, own_settings: Callable[..., Settings]) -> None:
    ground.decide()
    url = psycopg.conninfo.conninfo_to_dict(str(own_settings("reviewer").database_url))
    command = ("reject", "demo", "--login", str(url["user"]))
    assert "does not answer" in nightshift(ground.settings, *command, typed="guess\n", ends_with=3)["error"]["what"]
    assert nightshift(ground.settings, *command, typed=f"{url['password']}\n")["person"] == "reviewer"
    assert answers(ground) == [("reject", "reviewer")]


@pytest.mark.parametrize("login", ["approver", "pipeline", "reader"])
def test_a_workers_login_is_no_persons(ground: Ground, login: str) -> None:
    ground.decide()
    password = (ground.settings.logins / login).read_text()
    error = nightshift(ground.settings, "reject", "demo", "--login", login, typed=password, ends_with=2)["error"]
    assert "worker's login" in error["what"]
    assert answers(ground) == []


@pytest.mark.parametrize("command", [("approve", "other", "--reason", "x"), ("reject", "other"), ("promote", "other")])
def test_a_decision_of_another_use_case_is_bad_input(
    ground: Ground, own_settings: Callable[..., Settings], command: tuple[str, ...]
) -> None:
    decision = ground.decide()
    reviewer = own_settings("reviewer")
    error = nightshift(reviewer, *command, "--decision", str(decision), ends_with=2)["error"]
    assert "other" in error["what"]
    assert answers(ground) == []
    assert ground.connection.execute("select from lineage.deployment").fetchall() == []


def test_who_is_no_person_who_is_known_answers_for_nothing(
    ground: Ground, own_settings: Callable[..., Settings]
) -> None:
    decision = ground.decide()
    stranger = own_settings("stranger", known=False)
    assert not nightshift(stranger, "whoami", ends_with=1)["logged_in"]
    for command in (("approve", "demo", "--reason", "x"), ("promote", "demo", "--decision", str(decision))):
        assert "nobody is logged in" in nightshift(stranger, *command, ends_with=1)["error"]["what"]


def test_the_superusers_login_is_no_persons(ground: Ground, administration: Settings) -> None:
    ground.decide()
    assert "nobody is logged in" in nightshift(administration, "reject", "demo", ends_with=1)["error"]["what"]
    added: Any = nightshift(administration, "person", "add", "maria", "--airflow", "7", "--alias", "os:maria")
    assert added == {"person": "maria", "password_file": None}
    error = nightshift(ground.settings, "person", "add", "mallory", ends_with=3)["error"]
    assert "superuser" in error["what"]
    names = {person["name"] for person in nightshift(ground.settings, "person", "list")["persons"]}
    assert "maria" in names
    assert "mallory" not in names
    assert nightshift(administration, "person", "end", "maria") == {"ended": "maria"}


def test_what_is_not_said_anew_of_a_person_stays(administration: Settings) -> None:
    nightshift(administration, "person", "add", "vera", "--no-approver", "--data-owner", "--privacy-reviewer")
    nightshift(administration, "person", "add", "vera", "--no-approver", "--alias", "os:vera", "--no-data-owner")
    listed = nightshift(administration, "person", "list")["persons"]
    (vera,) = [person for person in listed if person["name"] == "vera"]
    assert (vera["approver"], vera["data_owner"], vera["privacy_reviewer"]) == (False, False, True)
    assert vera["aliases"] == ["os:vera"]
