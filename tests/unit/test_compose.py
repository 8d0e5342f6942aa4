"""docker-compose.yml, as far as it can be tested without Docker."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import database
from pipeline.settings import ROOT, VARIABLES

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file, its anchors merged."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the services."""
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def airflow_commands(compose: dict[str, Any]) -> list[list[str]]:
    """Returns every airflow command that a service or its script runs."""
    direct = [list(service["command"]) for service in services(compose).values() if "command" in service]
    scripts = [
        shlex.split(line)
        for script in (ROOT / "docker").glob("*.sh")
        for line in script.read_text().splitlines()
        if line.startswith("airflow ")
    ]
    return [command[1:] for command in direct + scripts if command[0] == "airflow"]


def examine(path: Path) -> "subprocess.CompletedProcess[str]":
    """Returns what check-jsonschema says of a file, held against the Compose specification that it carries."""
    program = Path(sys.executable).with_name("check-jsonschema")
    command: list[str | Path] = [program, "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_file_follows_the_compose_specification() -> None:
    done = examine(ROOT / "docker-compose.yml")
    assert done.returncode == 0, done.stdout


def test_a_key_that_the_specification_does_not_know_is_found(compose: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "docker-compose.yml"
    path.write_text(yaml.safe_dump({**compose, "services": {"one": {"image": "a:1.0.0", "depend_on": ["two"]}}}))
    done = examine(path)
    assert done.returncode == 1
    assert "depend_on" in done.stdout


def test_what_is_depended_on_and_mounted_exists(compose: dict[str, Any]) -> None:
    for name, service in services(compose).items():
        assert set(service.get("depends_on", {})) <= set(services(compose)), name
        for mount in service.get("volumes", []):
            source = mount["source"] if isinstance(mount, dict) else mount.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in compose["volumes"], name


def test_images_are_pinned_to_exact_releases(compose: dict[str, Any]) -> None:
    base = re.search(r"^FROM (\S+)", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    for image in [service["image"] for service in services(compose).values()] + [base[1]]:
        assert re.search(r":\d+\.\d+\.\d+", image), image
    pgvector = re.fullmatch(r"pgvector/pgvector:(\d+)\.(\d+)\.(\d+)-pg\d+-\w+", services(compose)["postgres"]["image"])
    assert pgvector is not None
    assert tuple(map(int, pgvector.groups())) >= (0, 8, 4)


def test_every_setting_of_ours_is_one_that_exists(compose: dict[str, Any]) -> None:
    used = {name for service in services(compose).values() for name in service.get("environment", {})}
    ours = {name for name in used if name.startswith("NIGHTSHIFT_")}
    assert ours
    assert ours <= set(VARIABLES)


def test_every_airflow_command_and_option_is_known_to_the_installed_airflow(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    options = sorted(
        {
            tuple(name.removeprefix("AIRFLOW__").lower().split("__"))
            for service in services(compose).values()
            for name in service.get("environment", {})
            if name.startswith("AIRFLOW__")
        }
    )
    commands = airflow_commands(compose)
    assert len(commands) >= 7
    source = """
import json, sys
asked = json.loads(sys.argv[1])
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager
ProvidersManager().initialize_providers_configuration()
for command in asked["commands"]:
    get_parser().parse_args(command)
known = conf.configuration_description
print(json.dumps([[section, option] for section, option in asked["options"]
                  if option not in known.get(section, {}).get("options", {})]))
"""
    environment = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    }
    done = subprocess.run(
        [sys.executable, "-c", source, json.dumps({"commands": commands, "options": options})],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_superuser_is_known_to_the_server_and_to_init_alone(compose: dict[str, Any]) -> None:
    knowing = {name for name, service in services(compose).items() if "POSTGRES_PASSWORD" in json.dumps(service)}
    assert knowing == {"postgres", "init"}


def test_a_worker_holds_the_logins_of_its_work_and_no_way_into_airflows_database(compose: dict[str, Any]) -> None:
    script = (ROOT / "docker" / "init.sh").read_text()
    work, release = re.findall(r"^for role in (.*); do$", script, re.MULTILINE)
    assert set(work.split()) == set(database.ROLES) - {"trainer", "gatekeeper", "approver"}
    assert release.split() == ["gatekeeper", "approver", "reader"]
    assert "install --mode 0600 /logins/all/trainer /logins/gpu/" in script
    for name, part in (("worker", "cpu"), ("gpu-worker", "gpu"), ("release-worker", "release")):
        service = services(compose)[name]
        assert "AIRFLOW_DATABASE_PASSWORD" not in json.dumps(service)
        mounts = [m for m in service["volumes"] if isinstance(m, dict) and m["source"] == "logins"]
        assert [mount["volume"]["subpath"] for mount in mounts] == [part]
        assert "logins" not in [m.split(":")[0] for m in service["volumes"] if isinstance(m, str)]
    queues = {name: services(compose)[name]["command"] for name in ("worker", "gpu-worker", "release-worker")}
    assert "release" in queues["release-worker"]
    assert "default" in queues["worker"]
    assert "gpu" in queues["gpu-worker"]


def test_no_secret_has_a_default(compose: dict[str, Any]) -> None:
    for reference in re.findall(r"\$\{[^}]*\}", json.dumps(compose)):
        assert ":?" in reference
