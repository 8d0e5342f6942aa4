"""Searches, their audit and their sessions, attacked with the logins that have them."""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector

from pipeline import database, retrieval
from pipeline.context import Context
from pipeline.errors import Refused
from pipeline.settings import Settings
from pipeline.steps import Origin
from tests.pg.conftest import name_principals
from tests.pg.retrieval.conftest import DOCUMENTS, Library, changed, rows
from tests.pg.sql.test_rag import QUERY, READ, SEARCH, found, last_audit, rows_of, token

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.pg


@pytest.fixture
def retriever(live: Library) -> "Iterator[psycopg.Connection[Any]]":
    with database.connect(live.settings, "retriever") as connection:
        yield connection


def read(connection: psycopg.Connection[Any], given: str, audit: int) -> list[Any]:
    """Returns the text of a search."""
    with database.translate_errors():
        return connection.execute(READ, [given, audit, QUERY]).fetchall()


def test_a_search_gives_no_text(live: Library, retriever: psycopg.Connection[Any]) -> None:
    answer = found(retriever, token(live, "inspector"))
    assert answer.keys() == {"audit_id", "route", "reason", "chunk_ids"}
    assert "granted" not in str(answer)


@pytest.mark.parametrize("how", ["same", "savepoint", "subtransaction", "released"])
def test_text_is_not_given_against_a_search_that_is_not_committed(
    live: Library, retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any], how: str
) -> None:
    """begin; search; read; rollback left no trace of what was read."""
    inspector = token(live, "inspector")
    before = rows(attacker, "select count(*) from rag.retrieval_audit")

    def search_and_read() -> None:
        with retriever.transaction(force_rollback=True):
            if how == "same":
                audit = found(retriever, inspector)["audit_id"]
            elif how in ("savepoint", "released"):
                with retriever.transaction(force_rollback=how == "savepoint"):
                    audit = found(retriever, inspector)["audit_id"]
            else:
                audit = retriever.execute(
                    b"with s as materialized (select * from rag.search(%s, %s, 'x', 10)) select audit_id from s",
                    [inspector, QUERY],
                ).fetchall()[0]["audit_id"]
            read(retriever, inspector, audit)

    with pytest.raises(Refused, match="not to be had"):
        search_and_read()
    assert rows(attacker, "select count(*) from rag.retrieval_audit") == before


def test_text_is_not_given_in_the_statement_that_searches(
    live: Library, retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any]
) -> None:
    inspector = token(live, "inspector")
    statement = b"select h.* from rag.search(%s, %s, 'x', 10) s cross join lateral rag.read_hits(%s, s.audit_id, %s) h"
    with pytest.raises(psycopg.Error, match="not to be had"):
        retriever.execute(statement, [inspector, QUERY, inspector, QUERY])


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_an_older_snapshot_neither_searches_nor_reads(
    live: Library, retriever: psycopg.Connection[Any], isolation: str
) -> None:
    """What was withdrawn, or erased, since the snapshot would still be in it."""
    inspector = token(live, "inspector")
    audit = found(retriever, inspector)["audit_id"]

    def in_an_older_snapshot(statement: bytes, arguments: list[Any]) -> None:
        with retriever.transaction(force_rollback=True):
            retriever.execute(f"set transaction isolation level {isolation}".encode())
            retriever.execute("select 1")
            retriever.execute(statement, arguments)

    for statement, arguments in ((SEARCH, [inspector, QUERY, 10]), (READ, [inspector, audit, QUERY])):
        with pytest.raises(psycopg.Error, match="read committed"):
            in_an_older_snapshot(statement, arguments)
    assert len(read(retriever, inspector, audit)) == 3


@pytest.mark.parametrize("withdrawn", ["withdraw", "erase"])
def test_what_is_withdrawn_between_search_and_reading_is_not_read(
    live: Library, retriever: psycopg.Connection[Any], withdrawn: str
) -> None:
    inspector = token(live, "inspector")
    audit = found(retriever, inspector)["audit_id"]
    with database.connect(live.settings, "pipeline") as connection:
        database.call(connection, f"rag.{withdrawn}", "demo", "leave", "a person asked")
    assert "leave" not in [row["document_key"] for row in read(retriever, inspector, audit)]


def test_text_is_given_once_to_the_session_and_the_login_that_searched(
    live: Library, retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any]
) -> None:
    inspector, other = token(live, "inspector"), token(live, "inspector")
    audit = found(retriever, inspector)["audit_id"]
    with pytest.raises(Refused, match="not to be had"):
        read(retriever, other, audit)
    with database.connect(live.settings, "evaluator") as connection, pytest.raises(Refused, match="not to be had"):
        read(connection, inspector, audit)
    with pytest.raises(Refused, match="not to be had"):
        read(retriever, inspector, audit + 1000)
    assert len(read(retriever, inspector, audit)) == 3
    with pytest.raises(Refused, match="not to be had"):
        read(retriever, inspector, audit)
    assert rows(attacker, "select read_at is not null from rag.retrieval_audit where audit_id = %s", audit) == [(True,)]


def test_text_is_given_for_a_minute(
    live: Library, retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any]
) -> None:
    inspector = token(live, "inspector")
    for shift in ("- interval '61 seconds'", "+ interval '1 hour'"):
        audit = found(retriever, inspector)["audit_id"]
        attacker.execute(f"update rag.retrieval_audit set at = at {shift} where audit_id = {audit}".encode())
        with pytest.raises(Refused, match="not to be had"):
            read(retriever, inspector, audit)


WRONG: dict[str, tuple[Any, Any, Any, str]] = {
    "no text": (QUERY, None, 10, "no text"),
    "no vector": (None, "x", 10, "no vector"),
    "twice the length": (HalfVector(QUERY.to_numpy() * 2), "x", 10, "length 1"),
    "no length": (HalfVector(np.zeros(384)), "x", 10, "length 1"),
    "another space": (HalfVector(np.eye(1, 100)[0]), "x", 10, "384 dimensions"),
    "no k": (QUERY, "x", None, "k is not"),
    "k of none": (QUERY, "x", 0, "k is not"),
    "k of all": (QUERY, "x", 2**31 - 1, "k is not"),
}


def test_a_search_that_makes_no_sense_is_refused_and_written_down(
    live: Library, retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any]
) -> None:
    inspector = token(live, "inspector")
    for name, (vector, text, k, reason) in WRONG.items():
        (answer,) = retriever.execute(
            b"select * from rag.search(%s, %s::halfvec, %s, %s)", [inspector, vector, text, k]
        ).fetchall()
        assert (answer["route"], answer["chunk_ids"]) == ("refused", []), name
        route, written, principal, returned, _ = last_audit(attacker)
        assert (route, principal, returned) == ("refused", "inspector", 0), name
        assert reason in written, name


def test_nobody_names_the_deployment_of_his_search(settings: Settings) -> None:
    for role in database.ROLES:
        with database.connect(settings, role) as connection:
            assert connection.execute(
                "select count(*) as n from pg_proc where pronamespace = 'rag'::regnamespace and proname = 'run_search'"
                " and has_function_privilege(oid, 'execute')"
            ).fetchall() == [{"n": 0}]


def sync_principals(library: Library, **changes: dict[str, Any] | None) -> None:
    """Makes the principals those of the use case with these changes; None takes one away."""
    wanted = {name: entry.model_dump(mode="json") for name, entry in library.usecase.principals.items()}
    for name, change in changes.items():
        if change is None:
            del wanted[name]
        else:
            wanted[name] = wanted.get(name, {}) | change
    principals = {name: (entry["tenant"], entry["groups"], entry["clearance"]) for name, entry in wanted.items()}
    name_principals(library.settings, "demo", principals)


def test_a_session_has_the_rights_of_the_moment(live: Library, retriever: psycopg.Connection[Any]) -> None:
    inspector = token(live, "inspector")
    assert len(rows_of(retriever, inspector, 10)) == 3
    audit = found(retriever, inspector)["audit_id"]
    sync_principals(live, inspector={"clearance": "public"})
    assert len(rows_of(retriever, inspector, 10)) < 3
    assert len(read(retriever, inspector, audit)) < 3, "what was searched before is read with the rights of now"
    sync_principals(live, inspector={"groups": [], "clearance": "restricted"})
    assert "hazard" not in [row["document_key"] for row in rows_of(retriever, inspector, 10)]
    sync_principals(live, inspector={"tenant": "other"})
    assert "leave" not in [row["document_key"] for row in rows_of(retriever, inspector, 10)]


def test_rights_are_given_by_the_newest_plan_alone(live: Library, attacker: psycopg.Connection[Any]) -> None:
    sync_principals(live, inspector={"clearance": "public"})
    (old,) = rows(attacker, "select run_id from lineage.run order by started_at desc limit 1")[0]
    sync_principals(live, inspector={"clearance": "internal"})
    clearance = "select clearance from rag.principal where name = 'inspector'"
    for login, run in (("pipeline", old), ("pipeline", uuid4()), ("pipeline", None)):
        with database.connect(live.settings, login) as connection, pytest.raises(Refused, match="not the newest plan"):  # type: ignore[arg-type]
            database.call(connection, "rag.sync_principals", run)
    for role in database.ROLES:
        if role != "pipeline":
            with (
                database.connect(live.settings, role) as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                database.call(connection, "rag.sync_principals", old)
    assert rows(attacker, clearance) == [("internal",)]


def test_a_session_goes_with_its_principal_and_does_not_come_back_with_it(
    live: Library, retriever: psycopg.Connection[Any], attacker: psycopg.Connection[Any]
) -> None:
    inspector = token(live, "inspector")
    audit = found(retriever, inspector)["audit_id"]
    sync_principals(live, inspector=None)
    with pytest.raises(Refused, match="not to be had"):
        read(retriever, inspector, audit)
    assert found(retriever, inspector)["route"] == "refused"
    sync_principals(live)
    assert found(retriever, inspector)["route"] == "refused", "who comes back is another"
    assert last_audit(attacker)[1] == "unknown token"
    assert len(rows_of(retriever, token(live, "inspector"), 10)) == 3


def test_sessions_are_revoked_at_once(live: Library, retriever: psycopg.Connection[Any]) -> None:
    two, other = [token(live, "inspector") for _ in range(2)], token(live, "clerk")
    with database.connect(live.settings, "pipeline") as connection:
        assert database.call(connection, "rag.revoke", "demo", "inspector") == [{"revoke": 2}]
        assert database.call(connection, "rag.revoke", "demo", "nobody") == [{"revoke": 0}]
    assert {found(retriever, each)["route"] for each in two} == {"refused"}
    assert found(retriever, other)["route"] == "exact"


def test_no_session_lives_longer_than_an_hour(live: Library) -> None:
    for lifetime in ("100 years", "61 minutes", "1 hour 1 microsecond", "0", "-1 second", "1 month", None, "infinity"):
        for role in ("pipeline", "evaluator"):
            with database.connect(live.settings, role) as connection, pytest.raises(Refused, match="up to an hour"):
                database.call(connection, "rag.open_session", "demo", "clerk", lifetime)


def test_the_hour_is_a_rule_of_the_table(live: Library, attacker: psycopg.Connection[Any]) -> None:
    token(live, "clerk")
    with pytest.raises(psycopg.errors.CheckViolation):
        attacker.execute("update rag.session set expires_at = expires_at + interval '1 hour'")


LOCKS = (
    "pg_advisory_lock({key})",
    "pg_try_advisory_lock({key})",
    "pg_advisory_xact_lock({key})",
    "pg_advisory_lock_shared({key})",
    "pg_try_advisory_xact_lock_shared({key})",
    "pg_advisory_lock(1, 2)",
    "pg_advisory_unlock_all()",
)


def test_no_login_takes_the_locks_that_keep_withdrawals_in_order(settings: Settings) -> None:
    for role in database.ROLES:
        with database.connect(settings, role) as connection:
            for lock in LOCKS:
                statement = lock.format(key="hashtextextended('rag.swap/demo', 0)")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"select {statement}".encode())


def test_no_login_locks_the_rows_that_a_withdrawal_needs(settings: Settings) -> None:
    for role in database.ROLES:
        with database.connect(settings, role) as blocker, blocker.transaction(force_rollback=True):
            for table in ("rag.withdrawal", "catalog.document", "rag.chunk", "rag.generation"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), blocker.transaction():
                    blocker.execute(f"select 1 from {table} for update".encode())
                with pytest.raises(psycopg.errors.InsufficientPrivilege), blocker.transaction():
                    blocker.execute(f"lock table {table} in exclusive mode".encode())


def test_a_session_that_stands_idle_in_a_transaction_is_ended(settings: Settings) -> None:
    with database.connect(settings, "reader") as idle, database.connect(settings, "pipeline") as connection:
        idle.execute("set idle_in_transaction_session_timeout = 0")
        idle.autocommit = False
        idle.execute("select 1")
        assert database.call(connection, "rag.end_idle", "1 hour") == [{"end_idle": 0}]
        assert database.call(connection, "rag.end_idle", "0") == [{"end_idle": 1}]
        with pytest.raises(psycopg.OperationalError):
            idle.execute("select 1")


def test_every_role_has_its_time_limits(installation: Settings) -> None:
    for role in database.ROLES:
        with database.connect(installation, role) as connection:
            for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
                (row,) = connection.execute(f"show {name}".encode()).fetchall()
                assert row[name] != "0", (role, name)


def test_what_is_not_there_cannot_be_withdrawn(live: Library) -> None:
    with database.connect(live.settings, "pipeline") as connection:
        for use_case, key in (
            ("demo", "nobody"),
            ("demo", ""),
            ("demo", "LEAVE"),
            ("demo", "leave "),
            ("other", "leave"),
        ):
            for act in ("withdraw", "erase"):
                with pytest.raises(Refused, match="has no document"):
                    database.call(connection, f"rag.{act}", use_case, key, "x")


def test_withdrawals_count_by_their_order_and_not_by_the_clock(
    live: Library, origin: Origin, attacker: psycopg.Connection[Any]
) -> None:
    """The clock was an hour ahead when the document was withdrawn, and set back before it came again."""
    with database.connect(live.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "leave", "wrong")
    attacker.execute("update rag.withdrawal set at = at + interval '1 hour'")
    live.commit(changed(DOCUMENTS, "leave", text="Leave is granted at once."))
    assert retrieval.sync(Context(live.settings, live.usecase, origin)).swapped is True
    with database.connect(live.settings, "retriever") as connection:
        clerk = token(live, "clerk")
        assert "leave" in [row["document_key"] for row in rows_of(connection, clerk, 10)]
    # The other way round: a version that claims to be of tomorrow is withdrawn all the same.
    attacker.execute("update catalog.document_version set first_seen_at = first_seen_at + interval '1 day'")
    with database.connect(live.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "leave", "wrong again")
    live.commit(changed(DOCUMENTS, "notice", text="The office is open."))
    retrieval.sync(Context(live.settings, live.usecase, origin))
    with database.connect(live.settings, "retriever") as connection:
        assert "leave" not in [row["document_key"] for row in rows_of(connection, clerk, 10)]
