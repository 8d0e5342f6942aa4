"""The audit trail: complete, nobody's to change, and in nobody's way."""

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pipeline import database
from pipeline.settings import Settings
from tests.pg.conftest import PRINCIPALS, name_principals

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


NOT_COVERED = {
    "rag.chunk": "its content stands under the generation's digest",
    "rag.embedding_cache": "a cache",
    "lineage.training_step": "what a person looks at meanwhile; the adapter's own figures are under its digest",
    "catalog.staged_row": "stands while a check looks at it; what came of that is in the report",
    "rag.session": "ended within the hour; each search by one is covered",
    "audit.event": "chained",
    "audit.block": "chained",
    "audit.block_member": "chained",
}


def covered(connection: psycopg.Connection[Any]) -> dict[str, dict[str, list[str]]]:
    """Returns the covered tables with the columns that an event tells apart."""
    rows = connection.execute("select object, row_key, shown, erasable, ignored from audit.covered").fetchall()
    return {row[0]: dict(zip(("row_key", "shown", "erasable", "ignored"), row[1:], strict=True)) for row in rows}


def test_every_table_is_covered_or_named_with_a_reason(settings: Settings, attacker: psycopg.Connection[Any]) -> None:
    tables = attacker.execute(
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname in ('lineage', 'catalog', 'rag', 'eval', 'release', 'audit') and c.relkind in ('r', 'p')"
        " and not c.relispartition"
    ).fetchall()
    assert {table for (table,) in tables} == covered(attacker).keys() | NOT_COVERED.keys()


def test_every_act_on_a_covered_table_is_one_event_with_its_keys(
    world: "World", attacker: psycopg.Connection[Any]
) -> None:
    _rare_acts(world)
    written = set()
    for table, columns in covered(attacker).items():
        rows = [row for (row,) in attacker.execute(f"select to_jsonb(t) from {table} t".encode()).fetchall()]
        events = attacker.execute(
            "select key, row_key, digest from audit.event where object = %s and operation in ('INSERT', 'COVER')",
            [table],
        ).fetchall()
        assert len(events) == len(rows), table
        assert all(set(key) == set(columns["shown"]) for key, _, _ in events), table
        keys = sorted(str({column: row[column] for column in sorted(columns["row_key"])}) for row in rows)
        assert keys == sorted(str(dict(sorted(row_key.items()))) for _, row_key, _ in events), table
        assert all(len(digest) == 64 for _, _, digest in events), table
        written |= {table} if rows else set()
    assert written >= {
        "lineage.run", "lineage.deployment", "lineage.artifact_version", "catalog.dataset_version",
        "catalog.document_version", "catalog.steward_decision", "catalog.tombstone", "rag.generation", "rag.withdrawal",
        "rag.principal", "eval.evaluation", "release.policy", "release.decision", "release.approval", "release.waiver",
    }  # fmt: skip
    assert attacker.execute("select * from audit.verify_rows()").fetchall() == []


# What an owner of the database would change with the triggers off, so that no event tells of it.
FORGERIES = {
    "an approver": "update release.approval set person = 'auditor' where answer = 'approve'",
    "a refusal": "delete from release.approval where answer = 'refused'",
    "checks": "update release.decision set checks = '[]'",
    "evidence": "update release.decision set evidence = '{}'",
    "that it needed a person": "update release.decision set needs_person = false",
    "a promoter": "update lineage.deployment set promoted_by = 'auditor' where valid_to is null",
    "a score": "update eval.evaluation set metrics = jsonb_set(metrics, '{correct}', '1')",
    "facts": "update lineage.run set facts = '{\"rows\": 1}'",
    "who asked": "update lineage.run set requested_by = 'schedule'",
    "whose login it was": "update lineage.attempt set login = 'evaluator'",
    "what it was made of": "delete from lineage.run_input",
    "a threshold": "update release.policy set content = '{}'",
    "a time": "update release.sealing set sealed_at = sealed_at - interval '1 day'",
    "a right to do a job": "insert into lineage.permission values ('trainer', 'evaluation.evaluate', '{evaluation}')",
    "a person": "insert into release.person (name, approver) values ('mallory', true)",
    "a clearance": "update rag.principal set clearance = 'restricted'",
    "a withdrawal": "delete from rag.withdrawal",
    "a search": "delete from rag.retrieval_audit",
    "a text": "update catalog.document_version set body = body || ' but not on Mondays'",
    "whose document it is": "update catalog.document_version set groups = '{everyone}'",
    "what is covered": "delete from audit.covered where object = 'release.approval'",
    "what is looked at": "update audit.covered set ignored = '{person}' where object = 'release.approval'",
    "an event of a row": "delete from audit.event where object = 'release.approval'",
}


@pytest.mark.parametrize("what", FORGERIES)
def test_what_is_changed_with_the_triggers_off_is_found(
    world: "World", attacker: psycopg.Connection[Any], what: str
) -> None:
    _rare_acts(world)
    assert attacker.execute("select * from audit.verify_rows()").fetchall() == []
    table = FORGERIES[what].split()[1 if FORGERIES[what].startswith("update") else 2]
    attacker.execute(f"alter table {table} disable trigger user".encode())
    changed = attacker.execute(FORGERIES[what].encode()).rowcount
    assert changed > 0, "the forgery changed nothing"
    attacker.execute(f"alter table {table} enable trigger user".encode())
    if table in covered(attacker):
        for name in ("insert", "update", "delete"):
            attacker.execute(f"alter table {table} enable always trigger audited_{name}".encode())
    assert attacker.execute("select * from audit.verify()").fetchall() == [], "the chain alone cannot tell"
    assert attacker.execute("select * from audit.verify_rows()").fetchall() != []


def test_triggers_that_are_off_are_found_and_a_replica_s_session_is_recorded(
    world: "World", attacker: psycopg.Connection[Any]
) -> None:
    attacker.execute("set session_replication_role = 'replica'")
    attacker.execute("update release.approval set reason = 'another' where answer = 'approve'")
    assert attacker.execute("select * from audit.verify_rows()").fetchall() == [], "it was recorded as it was written"
    (event,) = attacker.execute(
        "select login from audit.event where object = 'release.approval' and operation = 'UPDATE'"
    ).fetchall()
    assert event == ("postgres",)
    for act in (
        "disable trigger audited_update",
        "enable trigger audited_update",  # which a replica's session passes by
        "enable replica trigger audited_update",
    ):
        attacker.execute(f"alter table release.approval {act}".encode())
        assert attacker.execute("select object, problem from audit.verify_rows()").fetchall() == [
            ("release.approval", "its trigger audited_update is off")
        ]
    attacker.execute("drop trigger audited_update on release.approval")
    assert len(attacker.execute("select * from audit.verify_rows()").fetchall()) == 1


def test_the_trail_stands_after_an_erasure(world: "World", attacker: psycopg.Connection[Any]) -> None:
    with database.connect(world.settings, "auditor") as auditor:
        database.call(auditor, "audit.seal")
    with database.connect(world.settings, "pipeline") as connection:
        connection.execute("update catalog.document_version set body = null")
    assert attacker.execute("select count(*) from catalog.document_version where body is null").fetchone() != (0,)
    with database.connect(world.settings, "auditor") as auditor:
        database.call(auditor, "audit.seal")
        assert database.call(auditor, "audit.verify") == []
        assert database.call(auditor, "audit.verify_rows") == []


@pytest.mark.parametrize(
    "session",
    [
        "set timezone = 'Asia/Kathmandu'",
        "set datestyle = 'German'",
        "set extra_float_digits = -3",
        "set bytea_output = 'escape'",
    ],
)
def test_a_row_hashes_alike_in_every_session(world: "World", attacker: psycopg.Connection[Any], session: str) -> None:
    attacker.execute(session.encode())
    attacker.execute("update eval.evaluation set evaluated_at = evaluated_at + interval '1 hour'")
    attacker.execute("update rag.retrieval_audit set read_at = now()")
    assert attacker.execute("select * from audit.verify_rows()").fetchall() == []
    with database.connect(world.settings, "auditor") as auditor:
        assert database.call(auditor, "audit.verify_rows") == []


def test_a_beat_of_the_heart_is_no_event(world: "World", attacker: psycopg.Connection[Any]) -> None:
    before = attacker.execute("select count(*) from audit.event").fetchone()
    attacker.execute("update lineage.attempt set heartbeat_at = clock_timestamp()")
    assert attacker.execute("select count(*) from audit.event").fetchone() == before
    attacker.execute("update lineage.attempt set heartbeat_at = clock_timestamp(), error = 'x'")
    assert attacker.execute("select count(*) from audit.event").fetchone() != before


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
    with database.connect(world.settings, "retriever") as connection:
        connection.execute("select * from rag.search('no token', null, 'what is there?', 3)")
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
    name_principals(world.settings, "demo", {name: PRINCIPALS[name] for name in ("clerk", "inspector")})
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
