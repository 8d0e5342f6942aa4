"""Airflow: its own database, its components, its health. This package never imports it; it runs it."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql

from pipeline import database
from pipeline.errors import NotAvailable
from pipeline.services import configuration, processes, rest
from pipeline.settings import Settings, secret

# A person's answer needs no triggerer since Airflow 3.3, and nothing else here does. It runs all the same: without one
# Airflow's home page shows a fault for ever, and real ones are overlooked beside it.
COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),  # the API server reads the logs from the same disk
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
HEALTHY_SECONDS = 180.0
DAGS_SECONDS = 120.0


def record(settings: Settings) -> Path:
    """Returns the file that names the running processes."""
    return configuration.folder(settings) / "processes.json"


def logs(settings: Settings) -> Path:
    """Returns the folder of the components' logs."""
    return configuration.folder(settings) / "logs" / "components"


def prepare_database(settings: Settings) -> bool:
    """Makes Airflow's database and its login, unless they are there. Returns whether the database is new.

    The login owns that database and may not connect to Nightshift's. Raises NotAvailable where that takes a superuser
    whom NIGHTSHIFT_DATABASE_URL does not name.
    """
    login, name = configuration.LOGIN, sql.Identifier(configuration.LOGIN)
    if settings.database_url and not _answers(settings):
        database.superuser_dsn(settings)  # raises, with the next step, where the URL names nobody
    elif settings.database_url:
        return False
    password = secret(configuration.folder(settings) / "database_password")
    with psycopg.connect(database.superuser_dsn(settings), autocommit=True) as connection:
        verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
        if connection.execute("select from pg_roles where rolname = %s", [login]).fetchone() is None:
            connection.execute(sql.SQL("create role {} login nosuperuser nocreatedb nocreaterole").format(name))
        connection.execute(sql.SQL("alter role {} password {}").format(name, sql.Literal(verifier)))
        if connection.execute("select from pg_database where datname = %s", [login]).fetchone() is not None:
            return False
        connection.execute(sql.SQL("create database {} owner {}").format(name, name))
        connection.execute(sql.SQL("revoke all on database {} from public").format(name))
        return True


def _answers(settings: Settings) -> bool:
    """Returns whether Airflow's login opens its database."""
    try:
        psycopg.connect(configuration.connection(settings).replace("+psycopg", "", 1), connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True


def migrate(settings: Settings, *, new: bool) -> None:
    """Brings Airflow's tables to the installed version, unless they are known to be. Raises NotAvailable."""
    stamp = configuration.folder(settings) / "migrated"
    wanted = version("apache-airflow")
    if not new and stamp.exists() and stamp.read_text() == wanted:
        return
    log = logs(settings) / "migrate.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=configuration.environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise NotAvailable("Airflow's database could not be migrated", where=log, found=_tail(log))
    stamp.write_text(wanted)


def start(settings: Settings) -> None:
    """Starts the components and waits until they are healthy. Raises NotAvailable, with nothing left running.

    The scheduler comes last, and the triggerer with it: a task that starts before the API server listens is lost, and
    with it one of its tries.
    """
    commands = {name: (sys.executable, "-m", "airflow", *arguments) for name, arguments in COMPONENTS.items()}
    later = {name: commands.pop(name) for name in ("scheduler", "triggerer")}
    file, env = record(settings), configuration.environment(settings)
    try:
        processes.start(commands, env, logs(settings), file)
        _await(settings, lambda: _answers_health(settings) is not None)
        processes.start(later, env, logs(settings), file)
        _await(settings, lambda: healthy(settings))
    except BaseException:
        processes.stop(file)
        raise


def _await(settings: Settings, until: Callable[[], bool]) -> None:
    """Waits until it is so. Raises NotAvailable where a component ended meanwhile, or it takes too long."""
    if rest.wait(lambda: until() or bool(_ended(settings)), HEALTHY_SECONDS) and not _ended(settings):
        return
    ended = _ended(settings)
    name = ended[0] if ended else "api-server"
    what = f"Airflow's {name} ended at once" if ended else "Airflow did not become healthy"
    raise NotAvailable(what, where=logs(settings) / f"{name}.log", found=_tail(logs(settings) / f"{name}.log"))


def stop(settings: Settings) -> int:
    """Stops the components and all their tasks, the API server last. Returns how many processes there were."""
    return processes.stop(record(settings), last=("api-server",))


def _ended(settings: Settings) -> list[str]:
    return [name for name, process in processes.alive(record(settings)).items() if process is None]


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n    ".join(lines[-12:]) or "no log"


def healthy(settings: Settings) -> bool:
    """Returns whether all components run and say that they are well."""
    components = processes.alive(record(settings))
    if set(components) != set(COMPONENTS) or None in components.values():
        return False
    health = _answers_health(settings)
    return health is not None and all(
        health[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "dag_processor")
    )


def _answers_health(settings: Settings) -> dict[str, Any] | None:
    """Returns what the API server says of the components, or None while it does not answer."""
    try:
        answer = httpx.get(f"{url(settings)}/api/v2/monitor/health", timeout=10.0, trust_env=False)
    except httpx.HTTPError:
        return None
    return None if answer.is_error else dict(answer.json())


def url(settings: Settings) -> str:
    """Returns the address of the API server and the UI, as they were started last."""

    port = json.loads((configuration.folder(settings) / "ports.json").read_text())["api"]
    return f"http://127.0.0.1:{port}"


def session(settings: Settings, user: str) -> rest.Airflow:
    """Returns a session as one of the users."""
    return rest.Airflow(url(settings), user, configuration.passwords(settings)[user])


def set_up(settings: Settings, dag_ids: set[str]) -> set[str]:
    """Makes the pool of the training tasks and waits for the DAGs. Returns those that did not appear in time."""
    with session(settings, "engineer") as airflow:
        try:
            airflow.call("POST", "pools", {"name": "gpu", "slots": 1, "description": "one training at a time"})
        except rest.Answered as answered:
            if answered.status != httpx.codes.CONFLICT:  # it is there, perhaps with a size of the owner's choice
                raise

        def missing() -> set[str]:
            return dag_ids - {dag["dag_id"] for dag in airflow.everything("dags", "dags")}

        rest.wait(lambda: not missing(), DAGS_SECONDS)
        return missing()
