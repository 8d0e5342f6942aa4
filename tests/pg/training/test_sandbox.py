"""The training process: what it holds and what it does not, and that it may die at any moment."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import database, training
from pipeline.context import Context
from pipeline.errors import NightshiftError, NotAvailable, Refused
from pipeline.records import plain
from pipeline.settings import ROOT, Settings
from pipeline.steps import Origin, Version
from pipeline.training import sandbox
from pipeline.usecase import UseCase

pytestmark = pytest.mark.pg

MakeCase = Callable[..., UseCase]
Commit = Callable[..., Version]
TASK = Origin("airflow", "engineer", "demo_retrain", "manual__1", "sft")

# Run as the training process is: what it says is what code inside could do.
PROBE = """
import json, os
import psycopg
from pipeline import database
from pipeline.errors import NotAvailable
from pipeline.settings import from_environment

settings = from_environment()
found = {"environment": sorted(os.environ), "logins": sorted(path.name for path in settings.logins.iterdir())}
try:
    database.connect(settings, "pipeline")
    found["pipeline"] = "connected"
except NotAvailable as error:
    found["pipeline"] = error.what
with database.connect(settings, "trainer") as connection:
    found["login"] = connection.execute("select session_user as it").fetchone()["it"]
    for table in ("locked_example", "document", "document_version", "finding", "tombstone"):
        try:
            connection.execute(f"select * from catalog.{table}")
            found[table] = "read"
        except psycopg.errors.InsufficientPrivilege:
            found[table] = "refused"
    for statement in ("update catalog.example set content = null", "delete from lineage.run", "set role pipeline"):
        try:
            connection.execute(statement)
            found[statement] = "done"
        except psycopg.errors.InsufficientPrivilege:
            found[statement] = "refused"
print(json.dumps(found))
"""


def test_it_holds_the_trainers_login_and_no_other(settings: Settings) -> None:
    parent = {
        **os.environ,
        "AIRFLOW__CORE__FERNET_KEY": "secret",
        "PGPASSWORD": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "NIGHTSHIFT_LOGINS": str(settings.logins),
    }
    with sandbox.sandbox(settings, parent) as environment:
        home = Path(environment["NIGHTSHIFT_HOME"])
        modes = [path.stat().st_mode & 0o777 for path in (home, home / "logins", home / "logins" / "trainer")]
        done = subprocess.run(
            [sys.executable, "-c", PROBE], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        told = " ".join(environment.values())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert modes == [0o700, 0o700, 0o600]
    assert found["logins"] == ["trainer"]
    assert found["login"] == "trainer"
    assert found["pipeline"] == "this machine has no login for the role pipeline"
    assert {name: answer for name, answer in found.items() if answer == "refused"}.keys() == {
        *("locked_example", "document", "document_version", "finding", "tombstone"),
        *("update catalog.example set content = null", "delete from lineage.run", "set role pipeline"),
    }
    # Nothing of the caller's surroundings comes along, nor where the other logins are.
    assert not any(name.startswith(("AIRFLOW", "PG", "AWS")) for name in found["environment"])
    assert str(settings.logins) not in told
    assert "secret" not in told
    assert not home.exists()


def test_without_the_login_it_says_so(settings: Settings, tmp_path: Path) -> None:
    from dataclasses import replace

    with (
        pytest.raises(NotAvailable, match="no login for the role trainer"),
        sandbox.sandbox(replace(settings, logins=tmp_path)),
    ):
        pass


def test_what_killed_callers_left_is_removed_and_what_others_hold_is_not(settings: Settings) -> None:
    with sandbox.sandbox(settings) as other:
        held = Path(other["NIGHTSHIFT_HOME"])
        left, fresh = settings.scratch / "training-left", settings.scratch / "training-fresh"
        for folder in (left, fresh):
            folder.mkdir()
        for folder in (left, held):
            os.utime(folder, (1, 1))
        with sandbox.sandbox(settings):
            assert not left.exists()
            assert held.exists()
            assert fresh.exists()


def test_errors_that_are_not_ours_come_back_as_their_class_alone(
    settings: Settings, origin: Origin, usecase: MakeCase, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(NightshiftError, match="training failed with KeyError"):
        sandbox.call(Context(settings, usecase(), origin), "preflight", **{"text of a row": {}})
    log = caplog.text
    assert "KeyError" in log
    assert "worker.py" in log
    assert "text of a row" not in log


def workers() -> list[psutil.Process]:
    """Returns the training processes that this test's own process has started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "pipeline.training.worker" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def attempts(settings: Settings) -> list[dict[str, Any]]:
    with database.connect(settings, "trainer") as connection:
        return connection.execute(
            "select a.fence, a.state, a.login, r.state as run from lineage.attempt a join lineage.run r using (run_id)"
            " join lineage.job using (job_id) where name = 'training.sft' order by a.started_at"
        ).fetchall()


CALLER = """
import json, sys
from pathlib import Path
from pipeline import training
from pipeline.context import Context
from pipeline.records import load
from pipeline.steps import Origin
from pipeline.settings import Settings
from pipeline.usecase import UseCase
from tests.pg.training.conftest import write_tokenizer

told = json.load(sys.stdin)
settings = Settings(**{name: Path(value) if name in ("home", "usecases", "logins") else value
                       for name, value in told["settings"].items()})
context = Context(settings, UseCase.model_validate(told["usecase"]), Origin("cli", "tester"))
training.sft(context, load(training.Prepared, told["prepared"]))
"""


def test_it_is_stopped_when_told_when_its_caller_is_gone_and_when_its_time_is_up(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(40)
    case = usecase(sft={"max_steps": 100_000, "eval_steps": 2, "patience": 10_000})
    prepared = training.preflight(Context(settings, case, origin))
    told = {
        "settings": {name: str(value) for name, value in vars(settings).items() if value is not None},
        "usecase": case.model_dump(mode="json"),
        "prepared": plain(prepared),
    }
    for number, status in ((signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)):
        shutil.rmtree(settings.checkpoints, ignore_errors=True)
        with subprocess.Popen([sys.executable, "-c", CALLER], stdin=subprocess.PIPE, cwd=ROOT) as caller:
            assert caller.stdin is not None
            caller.stdin.write(json.dumps(told).encode())
            caller.stdin.close()
            wait_for(lambda: list(settings.checkpoints.glob("*/*/checkpoint-*")))
            (worker,) = workers()
            caller.send_signal(number)
            assert caller.wait() == status
            wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)  # noqa: B023
        # Whoever is told to stop cleans up; what the killed one left goes with the next call.
        assert bool(list(settings.scratch.iterdir())) == (number == signal.SIGKILL)
    assert [row["state"] for row in attempts(settings)] == ["interrupted", "running"]

    for folder in settings.scratch.iterdir():
        os.utime(folder, (1, 1))

    shutil.rmtree(settings.checkpoints)

    def overdue(descriptor: int, deadline: float) -> None:
        wait_for(lambda: list(settings.checkpoints.glob("*/*/checkpoint-*")))

    monkeypatch.setattr(sandbox, "_read", overdue)
    with pytest.raises(Refused, match="longer than it may"):
        training.sft(Context(settings, case, origin), prepared)
    assert "failed" in [row["state"] for row in attempts(settings)][-1]
    assert list(settings.scratch.iterdir()) == []
