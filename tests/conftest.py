"""Fixtures that every tier shares. The pg tier runs on one embedded server a session, each test in a database of its
own, cloned from a migrated one."""

import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import make_conninfo
from xdist.scheduler import LoadScopeScheduling

from pipeline import database
from pipeline import settings as settings_module
from pipeline.operations import migrations
from pipeline.people import persons
from pipeline.people.persons import Person
from pipeline.services import postgres
from pipeline.settings import ROOT, Settings
from pipeline.steps import Origin

_serial = itertools.count(1)
_MEMORY = Path("/dev/shm")
_ROOM = 4 * 2**30  # bytes that a session may need at once, on both of two workers

PERSONS = (
    Person("engineer", "engineer", None, True, ("os:engineer",)),
    Person("reviewer", "reviewer", None, True, data_owner=True, privacy_reviewer=True),
    Person("second", None, None, True),
    Person("auditor", "auditor", None, False),
    Person("oncall", None, None, False),
)


def pytest_configure(config: pytest.Config) -> None:
    """Lets temporary files be in memory where it has the room: to clone a database is to copy five hundred files, which
    takes a disk twenty times as long. A TMPDIR that is set stays."""
    if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM:
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None


class _ByInstallation(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps each file's tests on one worker, for the fixtures that they share, and Airflow's all on one: there is one
    installation for them. (xdist 3.8's own groups are lost under pytest 9.2, which keeps the id of a test.)"""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "e2e" if "/e2e/" in file else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Returns how tests are spread over the workers."""
    return _ByInstallation(config, log)


@pytest.fixture(scope="session")
def installation(own_folder: Path) -> Iterator[Settings]:
    """A running embedded server with a migrated database, which tests clone and do not write to."""
    settings = settings_module.from_environment({"NIGHTSHIFT_HOME": str(own_folder / "installation")})
    postgres.start(settings)
    try:
        _without_fsync(settings)
        migrations.upgrade(settings)
        for person in PERSONS:
            persons.add(settings, person)
        yield settings
    finally:
        postgres.stop(settings)


def _without_fsync(settings: Settings) -> None:
    """Spares the disk: what a test writes need not outlive a power cut. Killed processes lose nothing by it."""
    with superuser(settings) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(name)))
        connection.execute("select pg_reload_conf()")


@pytest.fixture(scope="session")
def own_folder() -> Iterator[Path]:
    """A folder for servers that run for a whole session. Not below pytest's own: a second session would close that to
    the embedded server, which runs as another user where the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="nightshift-tests-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def superuser(settings: Settings, dbname: str = "postgres") -> psycopg.Connection[Any]:
    """Returns a superuser's connection: for setting tests up, and for playing the attacker."""
    dsn = make_conninfo(database.superuser_dsn(settings), dbname=dbname)
    return psycopg.connect(dsn, autocommit=True)


def nightshift(
    settings: Settings, *arguments: str, ends_with: int = 0, typed: str = "", environ: Mapping[str, str] | None = None
) -> Any:
    """Returns the JSON that a command prints for an installation, with what is typed on its standard input. Fails where
    its exit code is another than `ends_with`."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments, "--json"],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            **settings.environment(),
            **(environ or {}),
        },
        input=typed,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == ends_with, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def settings(request: pytest.FixtureRequest, installation: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings of an installation of the test's own: a fresh database, an empty store, no use cases. A test that asks
    for a fixture with a template (`<fixture>_template`, the settings that it was built in) gets a copy of that."""
    template: Settings | None = None
    for name in sorted({"world", "live"} & set(request.fixturenames)):
        template = request.getfixturevalue(f"{name}_template").settings
    with own_installation(installation, tmp_path, template) as settings:
        yield settings


@contextmanager
def own_installation(installation: Settings, folder: Path, template: Settings | None = None) -> Iterator[Settings]:
    """Yields settings over a database and a home folder of their own, empty or copied from a template."""
    name = f"test_{next(_serial)}"
    source = database.DATABASE
    if template is not None:
        assert template.database_url is not None
        source = template.database_url.removeprefix("postgresql:///").split("?")[0]
        shutil.copytree(template.home, folder / "home")
    with superuser(installation) as connection:
        connection.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(source)
            )
        )
    (folder / "usecases").mkdir()
    try:
        yield replace(
            settings_module.from_environment({"NIGHTSHIFT_HOME": str(folder / "home")}),
            database_url=f"postgresql:///{name}?host={database.socket_folder(installation.pgdata)}",
            usecases=folder / "usecases",
            logins=installation.logins,
        )
    finally:
        with superuser(installation) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def attacker(installation: Settings, settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection to the test's own database: what the guards are tested against."""
    assert settings.database_url is not None
    name = settings.database_url.removeprefix("postgresql:///").split("?")[0]
    with superuser(installation, name) as connection:
        yield connection


@pytest.fixture
def administration(installation: Settings, settings: Settings) -> Settings:
    """The test's own installation, for whoever holds the superuser's login."""
    assert settings.database_url is not None
    password = installation.superuser_file.read_text().strip()
    return replace(settings, database_url=settings.database_url.replace("///", f"//postgres:{password}@/", 1))


@pytest.fixture
def own_settings(
    installation: Settings, settings: Settings, administration: Settings
) -> Iterator[Callable[..., Settings]]:
    """A function that returns the settings of a person who has a database login of his own, or of a login that may
    answer and is nobody's who is known. Logins belong to the whole server: they are named after the test's database."""
    assert settings.database_url is not None
    url = settings.database_url
    suffix = url.removeprefix("postgresql:///").split("?")[0]
    logins: list[str] = []

    def own(name: str, known: bool = True) -> Settings:
        login = f"{name}_{suffix}"
        logins.append(login)
        if known:
            file = persons.add(administration, Person(name, None, login, True))
            assert file is not None
            assert file.stat().st_mode & 0o077 == 0
            password = file.read_text()
        else:
            password = "x"
            with superuser(installation) as connection:
                statement = sql.SQL("create role {} login password 'x' in role approvers")
                connection.execute(statement.format(sql.Identifier(login)))
        return replace(settings, database_url=url.replace("///", f"//{login}:{quote(password)}@/", 1))

    yield own
    with superuser(installation) as connection:
        for login in logins:
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(login)))


@pytest.fixture
def origin() -> Origin:
    """An origin at the command line."""
    return Origin("cli", "tester")


def write_usecase(usecases: Path, name: str = "demo", /, **keys: Any) -> Path:
    """Returns the folder of a use case, written: its YAML, given as keys, over a sound minimum."""
    folder = usecases / name
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    examples = folder / "sft.jsonl"
    if not examples.exists():
        examples.write_text("")
    content: dict[str, Any] = {
        "name": name,
        "title": "A use case of the tests",
        "owner": "tests@example.org",
        "risk_tier": "limited",
        "documents": [{"path": "documents"}],
        "examples": [{"path": "sft.jsonl", "kind": "sft"}],
    }
    (folder / "usecase.yaml").write_text(yaml.safe_dump({**content, **keys}, sort_keys=False))
    return folder


@pytest.fixture
def usecase_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a use case under tmp_path/usecases."""
    return functools.partial(write_usecase, tmp_path / "usecases")
