"""Least privilege: what each login can do, read from the server's own catalog and tried."""

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pipeline import database
from pipeline.database import Role
from pipeline.settings import Settings

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg

SCHEMAS = ("lineage", "catalog", "rag", "eval", "release", "audit")
# Where text of documents, examples, prompts or answers stands.
TEXT = {
    "catalog.document_version": "body",
    "catalog.example": "content",
    "catalog.locked_example": "content",
    "eval.suite_case": "question",
    "eval.result": "answer",
    "rag.chunk": "body",
}


def test_no_login_is_more_than_a_login(attacker: psycopg.Connection[Any]) -> None:
    rows = attacker.execute(
        "select rolname, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication, rolinherit from pg_roles"
        " where rolname = any (%s)",
        [list(database.ROLES)],
    ).fetchall()
    assert len(rows) == len(database.ROLES)
    assert not [row for row in rows if any(row[1:])]
    members = attacker.execute(
        "select m.rolname, g.rolname, a.set_option, a.admin_option from pg_auth_members a"
        " join pg_roles m on m.oid = a.member join pg_roles g on g.oid = a.roleid where m.rolname = any (%s)",
        [list(database.ROLES)],
    ).fetchall()
    # It may have the server write a checkpoint, which an erasure ends with, and become nobody by it.
    assert members == [("pipeline", "pg_checkpoint", False, False)], "a member could become its group"
    assert attacker.execute("select rolcanlogin from pg_roles where rolname = 'nightshift_owner'").fetchone() == (
        False,
    )


def test_everything_belongs_to_the_owner_whom_nobody_logs_in_as(attacker: psycopg.Connection[Any]) -> None:
    others = attacker.execute(
        "select c.relname from pg_class c join pg_roles r on r.oid = c.relowner"
        " where c.relnamespace = any (%s::regnamespace[]) and r.rolname <> 'nightshift_owner'",
        [list(SCHEMAS)],
    ).fetchall()
    assert others == []
    functions = attacker.execute(
        "select p.proname from pg_proc p join pg_roles r on r.oid = p.proowner"
        " where p.pronamespace = any (%s::regnamespace[]) and r.rolname <> 'nightshift_owner'",
        [list(SCHEMAS)],
    ).fetchall()
    assert functions == []


def test_functions_with_their_owners_rights_have_a_fixed_search_path(attacker: psycopg.Connection[Any]) -> None:
    rows = attacker.execute(
        "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = any (%s::regnamespace[])"
        " and p.prosecdef and not exists (select from unnest(p.proconfig) c where c like 'search_path=%%pg_temp')",
        [list(SCHEMAS)],
    ).fetchall()
    assert rows == []


def test_nobody_may_do_what_is_not_granted_to_a_name(attacker: psycopg.Connection[Any]) -> None:
    rows = attacker.execute(
        "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = any (%s::regnamespace[])"
        " and has_function_privilege('public', p.oid, 'execute')",
        [list(SCHEMAS)],
    ).fetchall()
    # The policy on chunks is evaluated with the rights of whoever asks; these two answer to a token alone.
    assert {name for (name,) in rows} <= {"rag.token_tenant()", "rag.token_acl_ids()"}


@pytest.mark.parametrize("role", database.ROLES)
def test_nobody_writes_the_lineage_but_through_its_functions(attacker: psycopg.Connection[Any], role: Role) -> None:
    rows = attacker.execute(
        "select c.relname, p.privilege"
        " from pg_class c, unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p (privilege)"
        " where c.relnamespace = 'lineage'::regnamespace and c.relkind in ('r', 'v', 'p')"
        " and has_table_privilege(%s, c.oid, p.privilege)",
        [role],
    ).fetchall()
    assert rows == []


@pytest.mark.parametrize(
    ("role", "readable"),
    [
        ("trainer", {"catalog.example"}),
        ("evaluator", {"catalog.example", "eval.suite_case", "eval.result"}),
        ("retriever", set()),
        ("reader", set()),
        ("auditor", set()),
        ("approver", set()),
    ],
)
def test_who_reads_text(attacker: psycopg.Connection[Any], role: Role, readable: set[str]) -> None:
    found = {
        table
        for table, column in TEXT.items()
        if (
            attacker.execute("select has_column_privilege(%s, %s, %s, 'select')", [role, table, column]).fetchone()
            or (0,)
        )[0]
    }
    assert found == readable


def test_chunks_are_granted_to_nobody(world: "World", attacker: psycopg.Connection[Any]) -> None:
    rows = attacker.execute(
        "select c.relname, r.rolname from pg_class c, pg_roles r where c.relnamespace = 'rag'::regnamespace"
        " and (c.relname = 'chunk' or c.relname like 'chunk\\_%%') and c.relkind in ('r', 'p')"
        " and r.rolname = any (%s) and has_table_privilege(r.oid, c.oid, 'select, insert, update, delete')",
        [list(database.ROLES)],
    ).fetchall()
    assert rows == []


@pytest.mark.parametrize(
    "table", ["catalog.locked_example", "catalog.document_version", "eval.suite_case", "rag.chunk"]
)
def test_the_trainer_is_turned_away(world: "World", table: str) -> None:
    with (
        database.connect(world.settings, "trainer") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"select * from {table}".encode())


def test_the_trainer_sees_no_document_by_a_view(attacker: psycopg.Connection[Any]) -> None:
    rows = attacker.execute(
        "select c.oid::regclass::text from pg_class c where c.relkind = 'v'"
        " and c.relnamespace = any (%s::regnamespace[]) and has_table_privilege('trainer', c.oid, 'select')"
        " and exists (select from pg_attribute a"
        "             where a.attrelid = c.oid and a.attname in ('title', 'body', 'content'))",
        [list(SCHEMAS)],
    ).fetchall()
    assert rows == []


def test_the_reader_sees_every_view_and_no_table_with_text(world: "World", attacker: psycopg.Connection[Any]) -> None:
    views = attacker.execute(
        "select c.oid::regclass::text, has_table_privilege('reader', c.oid, 'select') from pg_class c"
        " where c.relkind = 'v' and c.relnamespace = any (%s::regnamespace[])",
        [list(SCHEMAS)],
    ).fetchall()
    assert [view for view, readable in views if not readable] == []
    with database.connect(world.settings, "reader") as connection:
        for view, _ in views:
            rows = connection.execute(f"select * from {view}".encode()).fetchall()
            assert "secret" not in str(rows), view
            assert "title leave" not in str(rows), view


def test_nobody_leaves_objects_behind(settings: Settings) -> None:
    for role in database.ROLES:
        with database.connect(settings, role) as connection:
            for schema in ("public", *SCHEMAS):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"create table {schema}.mine (n int)".encode())
