"""Who may begin and finish which job and make which artifact: attacked with the roles' own logins."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pipeline import database
from pipeline.database import Connection, Role
from pipeline.errors import FencedOut, Refused
from pipeline.settings import Settings

pytestmark = pytest.mark.pg


def begin(connection: Connection, job: str, use_case: str = "demo", run: UUID | None = None, key: str = "k") -> Any:
    """Returns the begun run's row."""
    (row,) = database.call(
        connection, "lineage.begin_run", run or uuid4(), use_case, job, "cli", None, None, None, -1, "engineer",
        Jsonb({}), Jsonb([]), key, Jsonb({}), Jsonb({}),
    )  # fmt: skip
    return row


def finish(connection: Connection, row: Any, kind: str | None, reused: UUID | None = None) -> None:
    output = {"role": "o", "kind": kind, "name": "n", "digest": "ab" * 32, "size_bytes": 1, "private": False}
    database.call(
        connection,
        "lineage.finish_run",
        row["run_id"],
        row["fence"],
        Jsonb([] if reused else [output]),
        Jsonb({}),
        reused,
    )


@pytest.mark.parametrize(
    ("login", "job"),
    [
        ("trainer", "evaluation.evaluate"),
        ("trainer", "release.gate"),
        ("trainer", "data.commit"),
        ("trainer", "Training.sft"),
        ("trainer", "training.sft "),
        ("evaluator", "training.dpo"),
        ("evaluator", "release.gate"),
        ("evaluator", "retrieval.build"),
        ("pipeline", "evaluation.evaluate"),
        ("pipeline", "training.sft"),
        ("pipeline", "training.preflight"),
        ("pipeline", "of my own"),
        ("approver", "release.gate"),
        ("approver", "evaluation.evaluate"),
    ],
)
def test_no_login_begins_the_work_of_another(settings: Settings, login: Role, job: str) -> None:
    with database.connect(settings, login) as connection, pytest.raises(Refused, match=f"{login} may not do the job"):
        begin(connection, job)


@pytest.mark.parametrize(
    ("login", "job", "kind"),
    [
        ("trainer", "training.sft", "evaluation"),
        ("trainer", "training.dpo", "gate_report"),
        ("trainer", "training.preflight", "adapter"),
        ("trainer", "training.sft", None),
        ("evaluator", "evaluation.evaluate", "adapter"),
        ("evaluator", "evaluation.evaluate", "packet"),
        ("pipeline", "data.commit", "evaluation"),
        ("pipeline", "retrieval.build", "adapter"),
        ("pipeline", "governance.packet", "gate_report"),
    ],
)
def test_no_job_makes_what_another_is_to_make(settings: Settings, login: Role, job: str, kind: str | None) -> None:
    with database.connect(settings, login) as connection:
        row = begin(connection, job)
        with pytest.raises(Refused, match="does not make"):
            finish(connection, row, kind)
        assert connection.execute("select from lineage.run_output").fetchall() == []


@pytest.mark.parametrize("act", ["begin", "hold", "finish", "fail", "heartbeat"])
def test_a_run_is_its_login_s_own(settings: Settings, act: str) -> None:
    with database.connect(settings, "evaluator") as evaluator, database.connect(settings, "trainer") as trainer:
        row = begin(evaluator, "evaluation.evaluate")
        before = evaluator.execute("select heartbeat_at from lineage.attempt").fetchall()
        run, fence = row["run_id"], row["fence"]
        if act == "heartbeat":
            database.call(trainer, "lineage.heartbeat", run, fence)
        else:
            attack: Callable[[], Any] = {
                "begin": lambda: begin(trainer, "training.sft", run=run),
                "hold": lambda: database.call(trainer, "lineage.hold_attempt", run, fence),
                "finish": lambda: finish(trainer, row, "adapter"),
                "fail": lambda: database.call(trainer, "lineage.fail_run", run, fence, "Error", None, False),
            }[act]
            with pytest.raises(Refused, match=r"another login's|is not one of trainer"):
                attack()
        found = evaluator.execute("select state, login, fence, heartbeat_at from lineage.attempt").fetchall()
        assert found == [{"state": "running", "login": "evaluator", "fence": 1, **before[0]}]


@pytest.mark.parametrize("difference", ["use case", "job", "key", "state", "login"])
def test_a_run_answers_for_another_of_the_same_work_alone(
    settings: Settings, attacker: psycopg.Connection[Any], difference: str
) -> None:
    with database.connect(settings, "trainer") as connection:
        job = "training.sft" if difference == "job" else "training.dpo"
        old = begin(connection, job, "other" if difference == "use case" else "demo", key="key of old")
        if difference != "state":
            finish(connection, old, "adapter")
        if difference == "login":  # what a login that had the right then has made
            attacker.execute("update lineage.attempt set login = 'pipeline'")
        new = begin(connection, "training.dpo", key="another" if difference == "key" else "key of old")
        with pytest.raises(Refused, match="cannot answer for"):
            finish(connection, new, None, old["run_id"])


def test_the_same_work_answers(settings: Settings) -> None:
    with database.connect(settings, "trainer") as connection:
        old = begin(connection, "training.dpo")
        finish(connection, old, "adapter")
        finish(connection, begin(connection, "training.dpo"), None, old["run_id"])
        states = connection.execute("select state from lineage.run order by started_at").fetchall()
    assert [row["state"] for row in states] == ["succeeded", "reused"]


def test_a_superseded_attempt_of_ones_own_is_fenced_out(settings: Settings) -> None:
    with database.connect(settings, "trainer") as connection:
        first = begin(connection, "training.dpo")
        begin(connection, "training.dpo", run=first["run_id"])
        with pytest.raises(FencedOut):
            finish(connection, first, "adapter")


@pytest.mark.parametrize("login", ["pipeline", "trainer", "evaluator", "approver", "auditor", "reader", "retriever"])
@pytest.mark.parametrize(
    "statement",
    [
        "insert into lineage.permission values ('{login}', 'evaluation.evaluate', '{{evaluation}}')",
        "update lineage.permission set login = '{login}'",
        "insert into lineage.attempt (run_id, fence, state, login, environment) values"
        " (gen_random_uuid(), 1, 'running', 'evaluator', '{{}}')",
        "select lineage.register('demo', '{{}}')",
    ],
)
def test_nobody_gives_himself_a_right(settings: Settings, login: Role, statement: str) -> None:
    with database.connect(settings, login) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.format(login=login).encode())


def stamped(connection: psycopg.Connection[Any]) -> list[tuple[str, str, str]]:
    """Returns schema, table and column of everything that the database fills in with its time or the login."""
    return connection.execute(
        "select table_schema, table_name, column_name from information_schema.columns"
        " where column_default ~ 'clock_timestamp|SESSION_USER|session_user'"
        " and table_schema in ('lineage', 'catalog', 'rag', 'eval', 'release', 'audit')"
    ).fetchall()


@pytest.mark.parametrize("login", ["pipeline", "trainer", "evaluator", "approver", "auditor", "reader", "retriever"])
def test_no_login_chooses_a_time_or_a_login(settings: Settings, attacker: psycopg.Connection[Any], login: Role) -> None:
    columns = stamped(attacker)
    assert {column for _, _, column in columns} >= {
        "login", "decided_at", "granted_at", "evaluated_at", "started_at", "committed_at", "sealed_at", "valid_from",
    }  # fmt: skip
    with database.connect(settings, login) as connection:
        for schema, table, column in columns:
            insert = f"insert into {schema}.{table} ({column}) values (default)"
            for verb in (insert, f"update {schema}.{table} set {column} = default"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(verb.encode())


@pytest.mark.parametrize("wrong", ["no run", "another's run", "another artifact"])
def test_an_evaluation_is_of_the_run_that_made_it(settings: Settings, wrong: str) -> None:
    with database.connect(settings, "trainer") as trainer:
        trained = begin(trainer, "training.dpo")
        finish(trainer, trained, "adapter")
    with database.connect(settings, "evaluator") as connection:
        row = begin(connection, "evaluation.evaluate")
        finish(connection, row, "evaluation")
        versions = connection.execute("select run_id, version_id from lineage.run_output").fetchall()
        artifact = {each["run_id"]: each["version_id"] for each in versions}
        suite = connection.execute(
            "insert into eval.suite (use_case, name, digest, gated, cases) values ('demo', 's', 'd', true, 1)"
            " returning suite_id"
        ).fetchone()
        assert suite is not None
        statement = (
            "insert into eval.evaluation (use_case, run_id, suite_id, subject, model_version_id, artifact_version_id,"
            " metrics) values ('demo', %s, %s, 'candidate', %s, %s, '{}')"
        )
        run = {"no run": uuid4(), "another's run": trained["run_id"]}.get(wrong, row["run_id"])
        made = artifact[trained["run_id"] if wrong != "no run" else row["run_id"]]
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statement, [run, suite["suite_id"], artifact[trained["run_id"]], made])
        assert caught.value.sqlstate == "NS030"
        model = artifact[trained["run_id"]]
        connection.execute(statement, [row["run_id"], suite["suite_id"], model, artifact[row["run_id"]]])
