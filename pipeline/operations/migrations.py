"""`db upgrade`: applies sql/migrations as the superuser and gives every role its password."""

import psycopg
from psycopg import sql

from pipeline import database
from pipeline.settings import ROOT, Settings, secret


def upgrade(settings: Settings) -> list[str]:
    """Applies the migrations that are missing and sets the roles' passwords.

    Returns the names of the migrations applied. Each is one transaction. Raises NotAvailable where the server does not
    answer or its pgvector is absent.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    dsn = database.superuser_dsn(settings)
    database.open_connection(dsn, "nightshift/upgrade").close()
    config = Config()
    config.set_main_option("script_location", str(ROOT / "sql" / "migrations").replace("%", "%%"))
    applied: list[str] = []
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=NullPool)
    with engine.connect() as connection:
        before = _head(connection)
        config.attributes["connection"] = connection
        script = ScriptDirectory.from_config(config)
        known = [revision.revision for revision in reversed(list(script.walk_revisions()))]
        command.upgrade(config, "head")
        connection.commit()
        applied = known[known.index(before) + 1 :] if before in known else known
    engine.dispose()
    _passwords(settings, dsn)
    return applied


def _head(connection: object) -> str | None:
    from alembic.runtime.migration import MigrationContext

    head = MigrationContext.configure(connection).get_current_revision()  # type: ignore[arg-type]
    return head


def _passwords(settings: Settings, dsn: str) -> None:
    """Gives each role the password in its file, made on first use. The server gets the scram verifier alone, so that no
    password stands in its log."""
    settings.logins.mkdir(parents=True, exist_ok=True, mode=0o700)
    with database.open_connection(dsn, "nightshift/upgrade") as connection:
        for role in database.ROLES:
            password = secret(settings.logins / role)
            verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            connection.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(verifier)))
