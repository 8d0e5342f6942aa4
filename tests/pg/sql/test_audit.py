"""The audit trail: complete, nobody's to change, and in nobody's way."""

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pipeline import database
from pipeline.settings import Settings

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg

WITHDRAW = "insert into rag.withdrawal (use_case, document_key, reason) values ('demo', %s, 'test')"


def test_sixteen_writers_and_a_long_transaction_do_not_wait_for_one_another(
    settings: Settings, attacker: psycopg.Connection[Any]
) -> None:
    """The sixteen commit and are sealed while the seventeenth is open: were one waiting for another, the joins below
    would not return."""
    attacker.execute(
        "insert into catalog.document (use_case, document_key)"
        " select 'demo', 'long' union all select 'demo', 'document ' || n from generate_series(0, 15) n"
    )
    with database.connect(settings, "auditor") as sealer:
        database.call(sealer, "audit.seal")  # the persons whom every test finds
    with database.connect(settings, "pipeline") as long:
        long.autocommit = False
        long.execute("select rag.withdraw('demo', 'long', 'test')")
        (before,) = attacker.execute("select count(*) from audit.events where block_no is null").fetchone() or (None,)
        assert before == 0, "an open transaction's events are nobody's to see"
        barrier = threading.Barrier(16)
        failures: list[BaseException] = []

        def write(number: int) -> None:
            try:
                with database.connect(settings, "pipeline") as connection, connection.transaction():
                    connection.execute("set local lock_timeout = '20s'")
                    connection.execute("select rag.withdraw('demo', %s, 'test')", [f"document {number}"])
                    barrier.wait(60)  # all sixteen have written and none has committed
            except BaseException as error:
                failures.append(error)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(16)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(120)
        assert not any(writer.is_alive() for writer in writers)
        assert failures == []
        with database.connect(settings, "auditor") as sealer:
            (first,) = database.call(sealer, "audit.seal")
            assert (first["block_no"], first["events"]) == (2, 16)
            long.commit()
            (second,) = database.call(sealer, "audit.seal")
            assert (second["block_no"], second["events"]) == (3, 1)
            assert database.call(sealer, "audit.verify") == []
            assert database.call(sealer, "audit.seal") == []
            rows = sealer.execute("select event_id, block_no from audit.events order by event_id").fetchall()
    oldest = next(row for row in rows if row["block_no"] > 1)
    assert oldest["block_no"] == 3, "the long transaction's event is the oldest and stands in the later block"


def test_writing_needs_no_lock_but_that_of_its_own_row(settings: Settings, attacker: psycopg.Connection[Any]) -> None:
    attacker.execute("insert into catalog.document (use_case, document_key) values ('demo', 'a document')")
    with database.connect(settings, "pipeline") as connection, connection.transaction():
        connection.execute("select rag.withdraw('demo', 'a document', 'test')")
        held = attacker.execute(
            "select l.locktype, l.mode, c.relname from pg_locks l left join pg_class c on c.oid = l.relation"
            " where l.pid = %s and (l.relation is null or c.relnamespace = 'audit'::regnamespace)",
            [connection.info.backend_pid],
        ).fetchall()
    strong = {"ShareLock", "ShareUpdateExclusiveLock", "ShareRowExclusiveLock", "AccessExclusiveLock"}
    assert not [row for row in held if row[2] is not None and row[1] in strong | {"ExclusiveLock"}], held
    assert not [row for row in held if row[0] == "advisory" and row[1] == "ExclusiveLock"], held


def audited(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Returns the audited tables with the columns that their trigger writes down, read from the catalog."""
    rows = connection.execute(
        "select n.nspname || '.' || c.relname, t.tgargs from pg_trigger t"
        " join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace where t.tgname = 'audited'"
    ).fetchall()
    return {table: bytes(arguments).decode().rstrip("\0").split("\0") for table, arguments in rows}


WRITTEN = {
    "lineage.deployment", "lineage.artifact_version", "catalog.dataset_version", "catalog.document_version",
    "catalog.steward_decision", "catalog.tombstone", "rag.generation", "rag.withdrawal", "rag.principal",
    "release.policy", "release.decision", "release.approval", "release.waiver",
}  # fmt: skip


def test_every_act_on_an_audited_table_is_one_event_with_its_keys(
    world: "World", attacker: psycopg.Connection[Any]
) -> None:
    tables = audited(attacker)
    assert tables.keys() >= WRITTEN
    _rare_acts(world)
    for table, columns in tables.items():
        rows = attacker.execute(f"select to_jsonb(t) from {table} t".encode()).fetchall()
        assert rows, f"nothing was written to {table}: the test does not cover it"
        events = attacker.execute(
            "select key from audit.event where object = %s and operation = 'INSERT' order by event_id", [table]
        ).fetchall()
        assert len(events) == len(rows), table
        assert all(set(key) == set(columns) for (key,) in events), table
        stable = [column for column in columns if column not in ("valid_to", "state", "digest", "purged_at")]
        told = sorted(str({column: row[column] for column in stable}) for (row,) in rows)
        assert told == sorted(str({column: key[column] for column in stable}) for (key,) in events), table


def _rare_acts(world: "World") -> None:
    with database.connect(world.settings, "pipeline") as connection:
        connection.execute(
            "insert into catalog.steward_decision (finding_id, decision, person, reason)"
            " select finding_id, 'reject', 'steward', 'empty' from catalog.finding"
        )
        connection.execute(
            "insert into catalog.tombstone (hmac, use_case, kind, reason) values (%s, 'demo', 'example', 'asked')",
            ["a" * 64],
        )
        database.call(connection, "rag.withdraw", "demo", "leave", "replaced")
    with database.connect(world.settings, "approver") as connection:
        connection.execute(
            "insert into release.waiver (decision_id, check_name, person, reason, expires_at)"
            " values (%s, 'correct', 'reviewer', 'known', now() + interval '1 day')",
            [world.decisions["night-1"]],
        )


def test_updates_and_deletions_are_events_too(world: "World", attacker: psycopg.Connection[Any]) -> None:
    ended = attacker.execute(
        "select key ->> 'valid_to', login from audit.event where object = 'lineage.deployment' and operation = 'UPDATE'"
    ).fetchall()
    assert len(ended) == 1
    assert ended[0][0] is not None
    with database.connect(world.settings, "pipeline") as connection:
        connection.execute("delete from rag.principal where name = 'stranger'")
    (gone,) = attacker.execute("select key ->> 'name', login from audit.event where operation = 'DELETE'").fetchall()
    assert gone == ("stranger", "pipeline")


def test_what_is_rolled_back_leaves_no_event(settings: Settings, attacker: psycopg.Connection[Any]) -> None:
    attacker.execute("insert into catalog.document (use_case, document_key) values ('demo', 'a document')")
    before = attacker.execute("select count(*) from audit.event").fetchone()
    with database.connect(settings, "pipeline") as connection, connection.transaction(force_rollback=True):
        connection.execute("select rag.withdraw('demo', 'a document', 'test')")
    assert attacker.execute("select count(*) from audit.event").fetchone() == before


def test_events_hold_no_text(world: "World", attacker: psycopg.Connection[Any]) -> None:
    (told,) = attacker.execute("select string_agg(key::text, ' ') from audit.event").fetchone() or ("",)
    assert "secret" not in told
    assert "title" not in told


@pytest.mark.parametrize("table", ["event", "block", "block_member"])
def test_no_role_may_change_the_trail(world: "World", attacker: psycopg.Connection[Any], table: str) -> None:
    holders = attacker.execute(
        "select r.rolname, p.privilege"
        " from pg_roles r, unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p (privilege)"
        " where not r.rolsuper and r.rolname not like 'pg\\_%%' and r.rolname <> 'nightshift_owner'"
        " and has_table_privilege(r.rolname, %s, p.privilege)",
        [f"audit.{table}"],
    ).fetchall()
    assert holders == []
    columns = attacker.execute(
        "select grantee, privilege_type from information_schema.column_privileges where table_schema = 'audit'"
        " and table_name = %s and privilege_type in ('UPDATE', 'INSERT') and grantee <> 'nightshift_owner'",
        [table],
    ).fetchall()
    assert columns == []
    for role in database.ROLES:
        with database.connect(world.settings, role) as connection:
            for act in ("delete from audit.{}", "truncate audit.{}", "insert into audit.{} default values"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(act.format(table).encode())
