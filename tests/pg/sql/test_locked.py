"""The locked test split: each reading is on record before a row is handed out."""

from typing import TYPE_CHECKING

import psycopg
import pytest

from pipeline import database
from pipeline.errors import BadInput, Refused
from pipeline.evaluation import recording

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg

ANNOUNCE = b"select catalog.announce_locked_reading(%s) as reading"
READ = b"select * from catalog.read_locked(%s)"


@pytest.fixture
def artifact(own_world: "World") -> int:
    return own_world.versions["dataset-1.dataset"].version_id


def test_no_login_but_the_one_that_commits_selects_the_locked_rows(own_world: "World") -> None:
    logins: tuple[database.Role, ...] = (
        "trainer",
        "evaluator",
        "retriever",
        "reader",
        "auditor",
        "approver",
        "gatekeeper",
    )
    for login in logins:
        with database.connect(own_world.settings, login) as connection, pytest.raises(psycopg.Error, match="denied"):
            connection.execute("select content from catalog.locked_example")


def test_a_reading_is_on_record_and_given_once(own_world: "World", artifact: int) -> None:
    with database.connect(own_world.settings, "evaluator") as connection:
        rows = recording.locked_rows(connection, own_world.versions["dataset-1.dataset"])
        assert len(rows) == 1
        (reading,) = connection.execute(ANNOUNCE, [artifact]).fetchall()
        assert len(connection.execute(READ, [reading["reading"]]).fetchall()) == 1
        with pytest.raises(psycopg.Error, match="given once"):
            connection.execute(READ, [reading["reading"]])
    with database.connect(own_world.settings, "auditor") as connection:
        kept = connection.execute("select login, version, rows, read_at from catalog.locked_readings").fetchall()
    assert [(row["login"], row["version"], row["rows"]) for row in kept] == [("evaluator", 1, 1)] * 2
    assert all(row["read_at"] for row in kept)


def test_rows_are_not_given_against_a_reading_that_could_be_rolled_back(own_world: "World", artifact: int) -> None:
    with database.connect(own_world.settings, "evaluator") as connection:
        with connection.transaction(force_rollback=True):
            (reading,) = connection.execute(ANNOUNCE, [artifact]).fetchall()
            with pytest.raises(psycopg.Error, match="after that was committed"), connection.transaction():
                connection.execute(READ, [reading["reading"]])
        (reading,) = connection.execute(ANNOUNCE, [artifact]).fetchall()
        with connection.transaction(force_rollback=True):
            assert connection.execute(READ, [reading["reading"]]).fetchall()
        (kept,) = connection.execute("select count(*) as n from catalog.example_member where split = 'test'").fetchall()
        assert kept["n"]
    with database.connect(own_world.settings, "auditor") as connection:
        (row,) = connection.execute("select announced_at, read_at from catalog.locked_readings").fetchall()
    assert row["read_at"] is None, "what was read in a transaction that was rolled back is announced all the same"


def test_a_reading_is_its_login_s_own_and_of_examples(
    own_world: "World", artifact: int, attacker: psycopg.Connection[tuple[object, ...]]
) -> None:
    with database.connect(own_world.settings, "evaluator") as connection:
        (reading,) = connection.execute(ANNOUNCE, [artifact]).fetchall()
        attacker.execute("update catalog.locked_reading set login = 'somebody'")
        with pytest.raises(Refused, match="to the login that announced"):
            database.fetch(connection, "evaluation", "locked_rows", reading=reading["reading"])
        with pytest.raises(BadInput, match="no version of examples"):
            database.call(connection, "catalog.announce_locked_reading", own_world.versions["corpus.corpus"].version_id)
    with database.connect(own_world.settings, "trainer") as connection, pytest.raises(psycopg.Error, match="denied"):
        connection.execute(ANNOUNCE, [artifact])
