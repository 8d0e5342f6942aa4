"""Process trees: components in sessions of their own, found again by id and start time, and stopped for good."""

import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.settings import write_secret

# They outlive this process by intent; Python warns of an object that is dropped while its process runs.
_started: list[subprocess.Popen[bytes]] = []


def start(commands: Mapping[str, Sequence[str]], env: Mapping[str, str], logs: Path, record: Path) -> None:
    """Starts every command in a session of its own, its output appended to `logs`/<name>.log, and adds it to `record`.

    The record names the process id and the start time of each, so that a process that got the same id later is not
    taken for ours.
    """
    logs.mkdir(parents=True, exist_ok=True)
    known: dict[str, dict[str, float]] = json.loads(record.read_text()) if record.exists() else {}
    for name, command in commands.items():
        with (logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                list(command),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _started.append(process)
        known[name] = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
        write_secret(record, json.dumps(known) + "\n")  # after each: what was started is known whatever comes next


def alive(record: Path) -> dict[str, psutil.Process | None]:
    """Returns the recorded processes by name, None where one has ended; nothing where there is no record."""
    if not record.exists():
        return {}
    processes: dict[str, psutil.Process | None] = {}
    for name, entry in json.loads(record.read_text()).items():
        processes[name] = None
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(entry["pid"]))
            same = abs(process.create_time() - entry["started"]) < 1
            processes[name] = process if same and process.status() != psutil.STATUS_ZOMBIE else None
    return processes


def tree(record: Path) -> set[psutil.Process]:
    """Returns all living processes that came of the recorded ones: their descendants, and whoever shares a session with
    them, since a task outlives the process that began it."""
    recorded = json.loads(record.read_text()) if record.exists() else {}
    sessions = {int(entry["pid"]): float(entry["started"]) for entry in recorded.values()}
    processes: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            begun = sessions.get(os.getsid(process.pid))
            if begun is not None and process.create_time() >= begun - 1 and process.status() != psutil.STATUS_ZOMBIE:
                processes |= {process, *process.children(recursive=True)}
    return processes


def stop(record: Path, patience: float = 40.0, last: Iterable[str] = ()) -> int:
    """Stops everything that came of the recorded processes: asked first, then killed. Returns how many there were.

    The recorded ones are asked first, so that the scheduler starts nothing new; tasks follow, by their own signal,
    because they stand in process groups of their own. Those named in `last` are asked after the tasks: a task that is
    stopped reports to the API server how it ended.
    """
    leaders = {name: process for name, process in alive(record).items() if process is not None}
    kept = {leaders[name] for name in last if name in leaders}
    serving = kept.union(*(_children(process) for process in kept))
    seen = tree(record)
    _send(signal.SIGTERM, set(leaders.values()) - kept, 5.0)
    seen |= tree(record)  # what was started since is among those asked next
    _send(signal.SIGTERM, seen - serving, patience)
    seen |= tree(record)
    _send(signal.SIGTERM, seen, 5.0)
    seen |= tree(record)
    _send(signal.SIGKILL, seen, 5.0)
    _started[:] = [process for process in _started if process.poll() is None]
    record.unlink(missing_ok=True)
    return len(seen)


def _send(number: signal.Signals, those: Iterable[psutil.Process], seconds: float) -> None:
    """Sends a signal to those that live, and waits so long for them to end."""
    left = [process for process in those if _lives(process)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    psutil.wait_procs(left, timeout=seconds)


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def memory(processes: Iterable[psutil.Process]) -> int:
    """Returns the bytes of memory that the processes take together, shared pages counted once where the system tells
    (proportional set size), else each process's resident set."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            full = process.memory_full_info()
            total += int(getattr(full, "pss", 0) or full.rss)
    return total
