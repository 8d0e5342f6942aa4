"""The migrations, applied in order, give the schema as written."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pipeline import database
from pipeline.operations import migrations
from pipeline.services import postgres
from pipeline.settings import ROOT, Settings
from tests.conftest import superuser

pytestmark = pytest.mark.pg


@pytest.fixture
def written(installation: Settings) -> Iterator[str]:
    """The name of a database made of sql/schema/*.sql alone."""
    name = "as_written"
    with superuser(installation) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    try:
        with superuser(installation, name) as connection, connection.transaction():
            for path in sorted((ROOT / "sql" / "schema").glob("*.sql")):
                connection.execute(path.read_bytes())
        yield name
    finally:
        with superuser(installation) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def dump(settings: Settings, name: str) -> list[str]:
    """Returns the statements of a database's schema, sorted, as pg_dump writes them."""
    told = conninfo_to_dict(database.superuser_dsn(settings))
    password = str(told.pop("password"))
    dsn = make_conninfo("", **{**told, "dbname": name})
    program = postgres.programs() / "pg_dump"
    done = subprocess.run(
        [program, "--schema-only", "--exclude-table=public.alembic_version", dsn],
        env={**os.environ, "PGPASSWORD": password},
        capture_output=True,
        text=True,
        check=True,
    )
    # \restrict carries a key that is new each time; the rest of what is dropped are comments.
    text = re.sub(r"^(--|\\).*$", "", done.stdout, flags=re.MULTILINE)
    # Grants on one object stand in the order in which they were given, which says nothing.
    return sorted(
        "\n".join(sorted(piece.splitlines())) if piece.startswith("GRANT") else piece
        for piece in map(str.strip, re.split(r"\n\n+", text))
        if piece
    )


def test_migrations_give_the_schema(installation: Settings, written: str) -> None:
    migrated, as_written = dump(installation, database.DATABASE), dump(installation, written)
    assert len(as_written) > 100
    assert migrated == as_written


def test_upgrading_again_applies_nothing(installation: Settings) -> None:
    assert migrations.upgrade(installation) == []


def test_an_installation_with_a_history_is_upgraded_whole(installation: Settings) -> None:
    """What an older version wrote stays, counts from then on as it stood, and its sealed events still verify."""
    versions = sorted((ROOT / "sql" / "migrations" / "versions").glob("*.sql"))
    name = "grown"
    with superuser(installation) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    try:
        with superuser(installation, name) as connection:
            for path in versions[:2]:
                with connection.transaction():
                    connection.execute(path.read_bytes())
            connection.execute(
                "insert into catalog.example (use_case, digest, kind, split, content, source)"
                " values ('demo', 'a', 'sft', 'train', '{\"messages\": []}', 's'),"
                " ('demo', 'b', 'sft', 'train', null, 's')"
            )
            connection.execute("insert into catalog.document (use_case, document_key) values ('demo', 'leave')")
            connection.execute(
                "insert into rag.withdrawal (use_case, document_key, reason) values ('demo', 'leave', 'x')"
            )
            connection.execute(
                "insert into release.policy (use_case, digest, content, sealed_by)"
                " values ('demo', 'd', '{}', 'engineer')"
            )
            assert connection.execute("select events from audit.seal()").fetchall() != []
            for path in versions[2:]:
                with connection.transaction():
                    connection.execute(path.read_bytes())
            assert connection.execute("select * from audit.verify()").fetchall() == []
            assert connection.execute("select * from audit.verify_rows()").fetchall() == []
            connection.execute("update release.policy set content = '{\"asks_a_person\": false}'")
            assert connection.execute("select * from audit.verify_rows()").fetchall() == [], "it is an event"
            connection.execute("alter table release.policy disable trigger user")
            connection.execute("update release.policy set content = '{}'")
            assert len(connection.execute("select * from audit.verify_rows()").fetchall()) >= 1
    finally:
        with superuser(installation) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
