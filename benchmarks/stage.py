"""The data stage as a night runs it: fetch, check and commit, each a process of its own, over an installation with an
embedded Postgres and nothing else. `python -m benchmarks.stage STEP USE_CASE FOLDER` is one of these processes."""

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import processes
from benchmarks.processes import Cost
from pipeline import data, usecase
from pipeline import settings as settings_module
from pipeline.context import Context
from pipeline.operations import migrations
from pipeline.records import load, plain
from pipeline.services import postgres
from pipeline.settings import Settings
from pipeline.steps import Origin

STEPS = ("fetch", "check", "commit")


@dataclass(frozen=True)
class Installation:
    """An installation with its Postgres."""

    settings: Settings
    postgres: int  # id of the server's first process
    profiles: Path | None = None  # where each process leaves its profile; None: it has none

    def write_usecase(self, name: str, keys: Mapping[str, Any]) -> Path:
        """Returns the folder of a use case, whose YAML holds these keys beside those that it must have."""
        folder = self.settings.usecases / name
        folder.mkdir(parents=True)
        content = {"name": name, "title": "A benchmark", "owner": "bench@example.org", "risk_tier": "limited", **keys}
        (folder / "usecase.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return folder


@dataclass(frozen=True)
class Night:
    """One run of the data stage."""

    costs: Mapping[str, Cost]  # by step
    reused: Mapping[str, bool]  # by step: whether an earlier run answered
    committed: data.Committed

    @property
    def whole(self) -> Cost:
        """Returns what the three steps cost together."""
        return processes.total(list(self.costs.values()))


def settings_of(folder: Path) -> Settings:
    """Returns the settings of the installation below a folder."""
    homes = {"NIGHTSHIFT_HOME": str(folder / "home"), "NIGHTSHIFT_USECASES": str(folder / "usecases")}
    return settings_module.from_environment(homes)


@contextmanager
def installation(folder: Path, profiles: Path | None = None) -> Iterator[Installation]:
    """Yields a new installation below a folder. Its Postgres is stopped at the end, also where this process is told to
    end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    settings = settings_of(folder)
    postgres.start(settings)
    try:
        migrations.upgrade(settings)
        server = int((settings.pgdata / "postmaster.pid").read_text().splitlines()[0])
        yield Installation(settings, server, profiles)
    finally:
        postgres.stop(settings)


def night(installed: Installation, name: str, title: str) -> Night:
    """Returns what fetch, check and commit of a use case cost. `title` names the night among the profiles."""
    folder = installed.settings.usecases / name
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTSHIFT_")}
    costs = {}
    for step in STEPS:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.stage", step, name, str(folder)]
        if installed.profiles is not None:
            profile = installed.profiles / f"{title}-{step}.prof"
            command[3:4] = ["-m", "cProfile", "-o", str(profile), "-m"]
        environ |= installed.settings.environment()
        costs[step] = processes.run(command, environ=environ, postgres=installed.postgres).cost
    records = {step: json.loads(_record(folder, step).read_text()) for step in STEPS}
    reused = {step: bool(record["reused"]) for step, record in records.items()}
    return Night(costs, reused, load(data.Committed, records["commit"]))


def _record(folder: Path, step: str) -> Path:
    """Returns the file in which a process leaves what its step returned, as a task leaves it for the next one."""
    return folder / f"{step}.json"


def main() -> None:
    """Runs one step, and writes down what it returned."""
    step, name, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    settings = settings_module.from_environment()
    context = Context(settings, usecase.find(settings, name), Origin("cli", "benchmark"))
    result: data.Fetched | data.Checked | data.Committed
    if step == "fetch":
        result = data.fetch(context)
    elif step == "check":
        result = data.check(context, load(data.Fetched, json.loads(_record(folder, "fetch").read_text())))
    else:
        result = data.commit(context, load(data.Checked, json.loads(_record(folder, "check").read_text())))
    _record(folder, step).write_text(json.dumps(plain(result)))


if __name__ == "__main__":
    main()
