"""The login that is kept between commands: what its file may say, and what is believed of it."""

import base64
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline import settings as settings_module
from pipeline.errors import NotAvailable
from pipeline.login import session
from pipeline.login.session import Session
from pipeline.people import origins, persons
from pipeline.settings import Settings

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_module.from_environment({"NIGHTSHIFT_HOME": str(tmp_path)})


def keep(settings: Settings, expires_at: datetime) -> Session:
    kept = Session("http://127.0.0.1:9", "reviewer", "token", expires_at.isoformat())
    session.file(settings).write_text(json.dumps(asdict(kept)))
    return kept


def test_a_login_is_of_use_until_it_expires(settings: Settings) -> None:
    now = datetime.now(UTC)
    assert session.current(settings) is None
    kept = keep(settings, now + timedelta(minutes=5))
    assert session.current(settings) == kept
    keep(settings, now - timedelta(seconds=1))
    assert session.current(settings) is None
    assert session.log_out(settings)
    assert not session.log_out(settings)


@pytest.mark.parametrize("content", ["", "null", "3", "[1]", "{", '{"user": "x"}', '{"user": "x", "root": true}'])
def test_a_file_that_is_no_login_is_none(settings: Settings, content: str) -> None:
    session.file(settings).write_text(content)
    assert session.current(settings) is None


@pytest.mark.parametrize("token", ["", "a.b", "a.!.c", "a." + base64.b64encode(b"{}").decode() + ".c", "a.bnVsbA.c"])
def test_a_token_that_says_no_end_has_ended(token: str) -> None:
    assert session._expiry(token) <= datetime.now(UTC)


def test_the_end_of_a_token_is_read_from_it() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 2_000_000_000}).encode()).decode().rstrip("=")
    assert session._expiry(f"x.{claims}.y") == datetime.fromtimestamp(2_000_000_000, UTC)


def test_without_an_airflow_there_is_none_to_log_in_at(settings: Settings) -> None:
    with pytest.raises(NotAvailable, match="no Airflow"):
        session.server(settings)


@pytest.mark.parametrize("variable", ["LOGNAME", "USER", "LNAME", "USERNAME"])
def test_the_environment_does_not_say_whose_process_this_is(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    before = persons.of_process()
    monkeypatch.setenv(variable, "reviewer")
    assert persons.of_process() == before
    assert before.startswith("os:"), "which no name of a person does"
    assert not persons.NAME.fullmatch(before)


@pytest.mark.parametrize(
    "user", ["schedule", "os:root", "login:x", "Jos\N{LATIN SMALL LETTER E WITH ACUTE}", "a b", "%schedule"]
)
def test_a_user_of_airflow_is_never_taken_for_what_is_no_person(user: str) -> None:
    name = origins.of_airflow(user)
    assert name != user
    assert name.isascii()
    assert not set(name) & set(": ")
    assert origins.of_airflow("maria.m@example.org") == "maria.m@example.org"
