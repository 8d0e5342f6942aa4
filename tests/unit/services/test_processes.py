"""Processes are found again and stopped for good."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.services import processes

pytestmark = pytest.mark.unit

# A component that ignores a first request, and starts a child in a process group of its own as Airflow does with tasks.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print(child.pid, flush=True)
time.sleep(600)
"""
# A component that ends and leaves its child behind.
DESERTER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print(child.pid, flush=True)
"""


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Path]:
    """Where processes are recorded; whatever runs at the end is killed."""
    file = tmp_path / "processes.json"
    yield file
    for process in processes.tree(file):
        process.kill()


def start(record: Path, **sources: str) -> None:
    """Starts Python programs as components."""
    commands = {name: [sys.executable, "-c", source] for name, source in sources.items()}
    processes.start(commands, os.environ, record.parent / "logs", record)


def said(record: Path, name: str) -> int:
    """Returns the process id that a component wrote to its log."""
    log = record.parent / "logs" / f"{name}.log"
    deadline = time.monotonic() + 30
    while not (text := log.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(text)


def test_nothing_is_left_of_stubborn_components_and_their_children(record: Path) -> None:
    start(record, stubborn=STUBBORN)
    child = said(record, "stubborn")
    leader = processes.alive(record)["stubborn"]
    assert leader is not None
    assert {process.pid for process in processes.tree(record)} == {leader.pid, child}
    assert processes.stop(record, patience=1.0) == 2
    assert not psutil.pid_exists(child)
    assert not leader.is_running()
    assert not record.exists()


def test_a_child_that_was_left_behind_is_found_by_its_session(record: Path) -> None:
    start(record, deserter=DESERTER)
    child = said(record, "deserter")
    leader = json.loads(record.read_text())["deserter"]["pid"]
    psutil.wait_procs([psutil.Process(leader)] if psutil.pid_exists(leader) else [], timeout=10)
    assert processes.alive(record) == {"deserter": None}
    assert {process.pid for process in processes.tree(record)} == {child}
    processes.stop(record)
    assert not psutil.pid_exists(child)


def test_another_process_with_the_same_id_is_not_ours(record: Path) -> None:
    record.write_text(json.dumps({"scheduler": {"pid": os.getpid(), "started": 1.0}}))
    assert processes.alive(record) == {"scheduler": None}


def test_stopping_what_never_ran_is_nothing(record: Path) -> None:
    assert processes.alive(record) == {}
    assert processes.stop(record) == 0


def test_memory_counts_what_runs() -> None:
    assert processes.memory([psutil.Process()]) > 2**20


# A component that writes down when it was asked to end, and ends.
POLITE = """
import signal, sys, time
from pathlib import Path
def end(*_):
    Path(sys.argv[1]).write_text(str(time.monotonic()))
    sys.exit()
signal.signal(signal.SIGTERM, end)
print(1, flush=True)
time.sleep(600)
"""
# The same with a task in a process group of its own, which takes a moment to end.
WORKING = """
import signal, subprocess, sys, time
from pathlib import Path
task = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], process_group=0, stdout=subprocess.PIPE)
task.stdout.readline()
print(task.pid, flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


def test_what_serves_is_asked_after_the_tasks_that_report_to_it(record: Path, tmp_path: Path) -> None:
    served, worked = tmp_path / "served", tmp_path / "worked"
    commands = {
        "api": [sys.executable, "-c", POLITE, str(served)],
        "scheduler": [sys.executable, "-c", WORKING, str(worked), POLITE],
    }
    processes.start(commands, os.environ, record.parent / "logs", record)
    said(record, "api")
    said(record, "scheduler")
    assert processes.stop(record, patience=5.0, last=("api",)) >= 3
    assert float(worked.read_text()) < float(served.read_text())


def test_components_that_start_later_are_recorded_beside_the_earlier(record: Path) -> None:
    start(record, first=DESERTER)
    said(record, "first")
    start(record, second=DESERTER)
    said(record, "second")
    assert set(processes.alive(record)) == {"first", "second"}
    assert processes.stop(record) >= 2
