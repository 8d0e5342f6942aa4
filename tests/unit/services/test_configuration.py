"""The files and the environment that Airflow is started from."""

import json
import os
import socket
import stat
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import make_url

from pipeline import database
from pipeline import settings as settings_module
from pipeline.errors import NotAvailable
from pipeline.services import configuration
from pipeline.settings import Settings, write_secret

pytestmark = pytest.mark.unit


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Settings of an installation whose embedded server seems to run."""
    settings = settings_module.from_environment({"NIGHTSHIFT_HOME": str(tmp_path / "home")})
    settings.pgdata.mkdir(parents=True)
    (settings.pgdata / "postmaster.pid").write_text(f"1\n{settings.pgdata}\n0\n5432\n{tmp_path}/socket\n")
    write_secret(settings.superuser_file, "the-superusers-password")
    return settings


def read(settings: Settings) -> ConfigParser:
    """Returns airflow.cfg as Airflow reads it, with interpolation."""
    parser = ConfigParser()
    parser.read(configuration.folder(settings) / "airflow.cfg")
    return parser


def test_secrets_can_be_read_by_their_owner_alone(here: Settings) -> None:
    configuration.write(here, configuration.ports(here))
    for name in ("airflow.cfg", "passwords.json", "fernet_key", "jwt_secret", "api_secret", "database_password"):
        assert stat.S_IMODE((configuration.folder(here) / name).stat().st_mode) == 0o600, name


def test_users_keep_their_passwords(here: Settings) -> None:
    first = configuration.passwords(here)
    assert set(first) == {"engineer", "reviewer", "auditor"}
    assert len(set(first.values())) == 3
    assert configuration.passwords(here) == first


def test_airflow_logs_in_as_itself_over_the_socket(here: Settings, tmp_path: Path) -> None:
    configuration.write(here, configuration.ports(here))
    for key in ("sql_alchemy_conn", "sql_alchemy_conn_async"):
        url = urlsplit(read(here)["database"][key])
        assert (url.scheme, url.username, url.path) == ("postgresql+psycopg", "airflow", "/airflow")
        assert parse_qs(url.query) == {"host": [f"{tmp_path}/socket"]}


def test_a_percent_sign_in_a_path_survives(tmp_path: Path) -> None:
    settings = settings_module.from_environment({"NIGHTSHIFT_HOME": str(tmp_path / "100%(x)s")})
    settings.pgdata.mkdir(parents=True)
    (settings.pgdata / "postmaster.pid").write_text(f"1\nx\n0\n5432\n{tmp_path}\n")
    configuration.write(settings, configuration.ports(settings))
    assert read(settings)["logging"]["base_log_folder"] == str(settings.home / "airflow" / "logs")


def test_no_superuser_and_no_other_installation_in_the_environment(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "the-superusers-password")
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/elsewhere")
    monkeypatch.setenv("NIGHTSHIFT_HOME", "/elsewhere")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    found = configuration.environment(here)
    assert "the-superusers-password" not in found.values()
    assert not [name for name in found if name.startswith(("AIRFLOW__", "PG"))]
    assert found["AIRFLOW_HOME"] == str(here.home / "airflow")
    assert {name: value for name, value in found.items() if name.startswith("NIGHTSHIFT_")} == here.environment()
    assert found["NO_PROXY"] == "internal.example,127.0.0.1,localhost"


def test_the_superuser_in_the_database_url_is_not_passed_on(tmp_path: Path) -> None:
    settings = settings_module.from_environment(
        {
            "NIGHTSHIFT_HOME": str(tmp_path),
            "NIGHTSHIFT_DATABASE_URL": "postgresql://root:hunter2@db.example:6543/nightshift?sslmode=require",
        }
    )
    passed = configuration.environment(settings)["NIGHTSHIFT_DATABASE_URL"]
    assert "hunter2" not in passed
    assert "root" not in passed
    assert settings_module.from_environment({"NIGHTSHIFT_DATABASE_URL": passed}).database_url == passed
    assert parse_qs(urlsplit(passed).query) == {
        "host": ["db.example"],
        "port": ["6543"],
        "dbname": ["nightshift"],
        "sslmode": ["require"],
    }


def test_ports_are_kept_while_they_are_free(here: Settings) -> None:
    first = configuration.ports(here)
    assert len(set(first.values())) == 3
    assert configuration.ports(here) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["api"]))
        other.listen()
        second = configuration.ports(here)
    assert second["api"] != first["api"]
    assert json.loads((configuration.folder(here) / "ports.json").read_text()) == second


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = settings_module.from_environment(
            {"NIGHTSHIFT_HOME": str(tmp_path), "NIGHTSHIFT_AIRFLOW_PORT": str(port)}
        )
        with pytest.raises(NotAvailable, match=f"found: {port}"):
            configuration.ports(settings)
    assert not (configuration.folder(settings) / "ports.json").exists()


def test_every_option_is_known_to_the_installed_airflow(here: Settings, tmp_path: Path) -> None:
    configuration.write(here, configuration.ports(here))
    options = [[section, option] for section in read(here).sections() for option in read(here)[section]]
    source = """
import json, sys
from airflow.configuration import conf
known = conf.configuration_description
print(json.dumps([asked for asked in json.loads(sys.argv[1])
                  if asked[1] not in known.get(asked[0], {}).get("options", {})]))
"""
    done = subprocess.run(
        [sys.executable, "-c", source, json.dumps(options)],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path / "airflow")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("name", ["a b", "ümlaut", "100%", "a+b", "a#b?c=d&e", "it's"])
def test_a_home_of_any_name_gives_urls_that_lead_back(tmp_path: Path, name: str) -> None:
    folder = str(tmp_path / name)
    url = database.as_url(make_conninfo(host=folder, dbname="nightshift"))
    assert conninfo_to_dict(url) == {"host": folder, "dbname": "nightshift"}
    assert make_url(url.replace("postgresql", "postgresql+psycopg", 1)).query["host"] == folder
