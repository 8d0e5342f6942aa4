"""The files that Airflow is started from: airflow.cfg with its secrets, the users' passwords, the ports.

All of it stands under <home>/airflow and can be read by its owner alone, so that
`AIRFLOW_HOME=<home>/airflow airflow …` works without further settings, and no secret stands in an environment."""

import base64
import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from configparser import ConfigParser
from io import StringIO
from pathlib import Path
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict

from pipeline import database
from pipeline.errors import NotAvailable
from pipeline.settings import ROOT, Settings, secret, write_secret

# Airflow's own roles: op may trigger, answer and see the configuration; user may trigger and answer; viewer reads.
USERS: Mapping[str, str] = {"engineer": "op", "reviewer": "user", "auditor": "viewer"}
LOGIN = "airflow"  # the database role that Airflow logs in as, and the name of its database


def folder(settings: Settings) -> Path:
    """Returns AIRFLOW_HOME."""
    return settings.home / "airflow"


def password_file(settings: Settings) -> Path:
    """Returns the file with the users' passwords, as JSON."""
    return folder(settings) / "passwords.json"


def passwords(settings: Settings) -> dict[str, str]:
    """Returns the users' passwords, made on first use."""
    path = password_file(settings)
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = [user for user in USERS if user not in known]
    if missing:
        known |= {user: secrets.token_urlsafe(12) for user in missing}
        write_secret(path, json.dumps(known, indent=2) + "\n")
    return known


def ports(settings: Settings) -> dict[str, int]:
    """Returns the ports of this installation, kept while they are free: two checkouts do not disturb each other.

    Raises NotAvailable where the port that NIGHTSHIFT_AIRFLOW_PORT names is taken.
    """
    path = folder(settings) / "ports.json"
    known: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    if settings.airflow_port is not None and not free(settings.airflow_port):
        raise NotAvailable(
            "the port is in use by another process",
            where="environment variable NIGHTSHIFT_AIRFLOW_PORT",
            found=settings.airflow_port,
            next_step="choose another port, or unset the variable and a free one is taken",
        )
    chosen: dict[str, int] = {}
    for name, wanted in (("api", settings.airflow_port), ("worker_logs", None), ("trigger_logs", None)):
        port = wanted or known.get(name)
        taken = port is None or port in chosen.values() or (wanted is None and not free(port))
        chosen[name] = _any_free(chosen) if taken or port is None else port
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(chosen) + "\n")
    return chosen


def free(port: int) -> bool:
    """Returns whether nothing listens on a local port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_free(chosen: Mapping[str, int]) -> int:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in chosen.values():
            return port


def connection(settings: Settings) -> str:
    """Returns the SQLAlchemy URL of Airflow's own database, for its sync and its async engine alike."""
    parts = conninfo_to_dict(database.location(settings))
    login = secret(folder(settings) / "database_password")
    parts = {key: str(value) for key, value in parts.items() if key != "dbname" and value is not None}
    query = urlencode(parts, quote_via=quote)
    return f"postgresql+psycopg://{LOGIN}:{quote(login, safe='')}@/{LOGIN}?{query}"


def sections(settings: Settings, port: Mapping[str, int]) -> dict[str, dict[str, str]]:
    """Returns airflow.cfg, by section."""
    home = folder(settings)
    url = f"http://127.0.0.1:{port['api']}"
    database_url = connection(settings)
    return {
        "core": {
            "dags_folder": str(ROOT / "dags"),
            "plugins_folder": str(ROOT / "plugins"),
            "executor": "LocalExecutor",
            "parallelism": "8",
            "load_examples": "False",
            "dags_are_paused_at_creation": "True",
            "fernet_key": _fernet_key(home / "fernet_key"),
            "hostname_callable": "socket.gethostname",  # a name server that does not answer delays every start
            "execution_api_server_url": f"{url}/execution/",
            "simple_auth_manager_users": ",".join(f"{user}:{role}" for user, role in USERS.items()),
            "simple_auth_manager_passwords_file": str(password_file(settings)),
        },
        "database": {
            "sql_alchemy_conn": database_url,
            "sql_alchemy_conn_async": database_url,
        },
        "logging": {
            "base_log_folder": str(home / "logs"),
            "worker_log_server_port": str(port["worker_logs"]),
            "trigger_log_server_port": str(port["trigger_logs"]),
        },
        "api": {
            "host": "127.0.0.1",
            "port": str(port["api"]),
            "base_url": url,
            "workers": "1",
            "secret_key": secret(home / "api_secret"),
        },
        "api_auth": {"jwt_secret": _jwt_secret(home / "jwt_secret"), "jwt_issuer": "nightshift"},
        "scheduler": {
            # A chain of tasks goes on at half a second instead of one a task; at a fifth, the loop takes an eighth of a
            # core from whoever trains.
            "scheduler_idle_sleep_time": "0.5",
            "task_instance_heartbeat_timeout": "60",  # so long until a task that was killed is tried again
            "enable_health_check": "False",
        },
        # Five seconds, the default, are too short while a training keeps every core busy: a task failed as it began.
        "workers": {"execution_api_timeout": "60.0"},
        "dag_processor": {"parsing_processes": "1", "min_file_process_interval": "30", "refresh_interval": "30"},
    }


def write(settings: Settings, port: Mapping[str, int]) -> None:
    """Writes airflow.cfg. It holds secrets: its owner alone can read it."""
    passwords(settings)
    parser = ConfigParser(interpolation=None)
    for section, values in sections(settings, port).items():
        # Airflow reads the file with interpolation: a percent sign is written twice.
        parser[section] = {key: value.replace("%", "%%") for key, value in values.items()}
    text = StringIO()
    text.write("# Written anew by every `make up`.\n")
    parser.write(text)
    write_secret(folder(settings) / "airflow.cfg", text.getvalue())


def _fernet_key(path: Path) -> str:
    """Returns the key that Airflow encrypts connections with: 32 bytes, in the form that Fernet reads."""
    if not path.exists():
        write_secret(path, base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    return path.read_text().strip()


def _jwt_secret(path: Path) -> str:
    """Returns the key that tokens are signed with: 64 bytes, as HMAC with SHA-512 wants (RFC 7518, 3.2)."""
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(64))
    return path.read_text().strip()


def environment(settings: Settings) -> dict[str, str]:
    """Returns the environment of Airflow's processes: this installation, and never a superuser's password.

    Airflow's and libpq's own variables of the calling shell are left out: they belong to another installation.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "NIGHTSHIFT_", "PG"))}
    ours = settings.environment()
    if settings.database_url:
        ours["NIGHTSHIFT_DATABASE_URL"] = database.as_url(database.location(settings))
    local = ",".join(filter(None, [kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1", "localhost"]))
    return {
        **kept,
        **ours,
        "AIRFLOW_HOME": str(folder(settings)),
        "NO_PROXY": local,
        "no_proxy": local,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
    }
