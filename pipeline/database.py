"""Connections. Each kind of work logs in as its own role; the superuser serves `db upgrade` alone (migrations.py)."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql as psycopg_sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from pipeline import sql
from pipeline.errors import BadInput, FencedOut, NightshiftError, NotAvailable, Refused, Stale
from pipeline.settings import Settings

Role = Literal["pipeline", "trainer", "evaluator", "retriever", "reader", "auditor", "approver", "gatekeeper"]
ROLES: tuple[Role, ...] = (
    "pipeline",
    "trainer",
    "evaluator",
    "retriever",
    "reader",
    "auditor",
    "approver",
    "gatekeeper",
)
DATABASE = "nightshift"
Connection = psycopg.Connection[DictRow]

# What the functions under sql/ raise, by their SQLSTATE.
_ERRORS: dict[str, type[NightshiftError]] = {"NS001": FencedOut, "NS002": Stale, "NS021": BadInput}


def connect(settings: Settings, role: Role) -> Connection:
    """Returns an autocommitting connection logged in as `role`, rows as dictionaries; pgvector's types are known to it.

    Raises NotAvailable where the server does not answer or the role's password is not on this machine.
    """
    return open_connection(_login(settings, role), application_name=f"nightshift/{role}")


def sqlalchemy_url(settings: Settings, role: Role, folder: Path) -> str:
    """Returns the URL by which SQLAlchemy logs in as `role`, for what a library opens by itself. The password is not in
    it but in a file in `folder`, as libpq reads it. Raises NotAvailable as `connect` does.

    Source: https://www.postgresql.org/docs/current/libpq-pgpass.html
    """
    parts = conninfo_to_dict(_login(settings, role))
    user, password = (re.sub(r"([\\:])", r"\\\1", str(parts.pop(name))) for name in ("user", "password"))
    passfile = folder / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"*:*:*:{user}:{password}\n")
    others = {key: str(value) for key, value in parts.items() if value is not None}
    # What stands in the query counts; some libraries ask for a host before it.
    return f"postgresql+psycopg://{quote(user)}@localhost/?" + urlencode(
        {**others, "passfile": str(passfile)}, quote_via=quote
    )


def _login(settings: Settings, role: Role) -> str:
    password_file = settings.logins / role
    if not password_file.exists():
        raise NotAvailable(
            f"this machine has no login for the role {role}",
            where=password_file,
            next_step="`nightshift db upgrade` writes the logins; copy this role's file to machines that work as it",
        )
    return make_conninfo(location(settings), user=role, password=password_file.read_text().strip())


def connect_any(settings: Settings, roles: Sequence[Role]) -> Connection:
    """Returns a connection as the first of these roles whose login this machine has. Raises NotAvailable as `connect`
    does."""
    return connect(settings, next((role for role in roles if (settings.logins / role).exists()), roles[0]))


def superuser_dsn(settings: Settings) -> str:
    """Returns the superuser's conninfo: the embedded server's, or the one in NIGHTSHIFT_DATABASE_URL."""
    if settings.database_url:
        if "user" not in conninfo_to_dict(settings.database_url):
            raise NotAvailable(
                "`db upgrade` needs a superuser once",
                where="NIGHTSHIFT_DATABASE_URL",
                next_step="put the superuser's name and password into the URL for this one command",
            )
        return settings.database_url
    return make_conninfo(location(settings), user="postgres", password=settings.superuser_file.read_text().strip())


def open_connection(dsn: str, application_name: str) -> Connection:
    """Returns an autocommitting connection to `dsn`. Raises NotAvailable, without the password, where it fails."""
    try:
        connection = psycopg.connect(
            dsn, autocommit=True, row_factory=dict_row, application_name=application_name, connect_timeout=10
        )
    except psycopg.OperationalError as error:
        parts = conninfo_to_dict(dsn)
        host, port, name, user = (parts.get(key) for key in ("host", "port", "dbname", "user"))
        raise NotAvailable(
            "the database does not answer",
            where=f"{host}:{port or 5432}, database {name}, as {user}",
            found=str(error).strip().splitlines()[-1],
            next_step="`make up` starts the embedded server; for your own, check NIGHTSHIFT_DATABASE_URL",
        ) from None
    if psycopg.types.TypeInfo.fetch(connection, "vector") is not None:
        from pgvector.psycopg import register_vector

        register_vector(connection)
    return connection


def location(settings: Settings) -> str:
    """Returns where the database is, as a conninfo without user and password.

    Raises NotAvailable where the embedded server is not running.
    """
    if settings.database_url:
        parts = conninfo_to_dict(settings.database_url)
        return make_conninfo("", **{key: value for key, value in parts.items() if key not in ("user", "password")})
    return make_conninfo(host=str(socket_folder(settings.pgdata)), dbname=DATABASE)


def as_url(conninfo: str) -> str:
    """Returns a conninfo as a URL. A blank is %20 in it: libpq takes a plus sign for one."""
    parts = {key: str(value) for key, value in conninfo_to_dict(conninfo).items() if value is not None}
    return "postgresql:///?" + urlencode(parts, quote_via=quote)


def socket_folder(pgdata: Path) -> Path:
    """Returns the folder of the embedded server's socket, from the file the server keeps while it runs."""
    try:
        return Path((pgdata / "postmaster.pid").read_text().splitlines()[4])
    except (FileNotFoundError, IndexError):
        raise NotAvailable(
            "the embedded Postgres is not running", where=pgdata, next_step="start it with `make up`"
        ) from None


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turns what the functions under sql/ raise (SQLSTATE NS…) into this package's errors."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None or not error.sqlstate.startswith("NS"):
            raise
        raise _ERRORS.get(error.sqlstate, Refused)(error.diag.message_primary or str(error)) from None


def fetch(connection: Connection, file: str, name: str, /, **parameters: Any) -> list[DictRow]:
    """Returns all rows of the named query sql/queries/`file`.sql: `name`."""
    with translate_errors():
        return connection.execute(sql.query(file, name), parameters).fetchall()


def fetch_one(connection: Connection, file: str, name: str, /, **parameters: Any) -> DictRow | None:
    """Returns the first row of a named query, or None."""
    with translate_errors():
        return connection.execute(sql.query(file, name), parameters).fetchone()


def execute(connection: Connection, file: str, name: str, /, **parameters: Any) -> int:
    """Runs a named query that returns no rows. Returns how many it touched."""
    with translate_errors():
        return connection.execute(sql.query(file, name), parameters).rowcount


def call(connection: Connection, function: str, *arguments: Any) -> list[DictRow]:
    """Returns the rows of `schema.function(arguments…)`. Raises this package's errors for those the function raises."""
    statement = psycopg_sql.SQL("select * from {}({})").format(
        psycopg_sql.Identifier(*function.split(".")),
        psycopg_sql.SQL(", ").join(psycopg_sql.Placeholder() * len(arguments)),
    )
    with translate_errors():
        return connection.execute(statement, arguments).fetchall()
