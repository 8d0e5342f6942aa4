"""What a process costs: time by the clock, processor time and peak memory, and apart from it what Postgres costs
meanwhile."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.settings import ROOT

_PAUSE = 0.5  # seconds between two looks at the memory of a tree of processes: a look at Postgres takes some 10 ms
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Cost:
    """What one process cost, from its start to its end, imports included."""

    seconds: float  # by the clock
    processor: float  # seconds of its threads and of the processes that it waited for
    megabytes: float  # peak resident memory of it and of the processes below it
    postgres_processor: float = 0.0  # seconds
    postgres_megabytes: float = 0.0  # peak memory of the server's processes, what they share counted once


@dataclass(frozen=True)
class Done:
    """A process that ended well."""

    output: str
    cost: Cost


@dataclass
class _Peak:
    tree: int = 0  # bytes
    postgres: int = 0


# Starts the command and waits for it. A process of its own, since the kernel counts to the peak of a new process what
# the one that started it held (exec keeps `maxrss`, and vfork shares the memory): this one holds next to nothing.
_LAUNCHER = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
_, status, usage = os.wait4(subprocess.Popen(sys.argv[2:]).pid, 0)
seconds = time.perf_counter() - begun
usage = os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
with open(sys.argv[1], "w") as file:
    json.dump(usage, file)
"""


def run(
    command: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    postgres: int | None = None,
) -> Done:
    """Returns what a command wrote to its standard output and what it cost. `postgres` is the id of the server's first
    process, where one serves the command. Raises CalledProcessError where the command fails."""
    before = _processor(postgres)
    with tempfile.TemporaryDirectory() as scratch:
        usage, output = Path(scratch) / "usage.json", Path(scratch) / "output"
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(usage), *command]
        with output.open("wb") as file:
            process = subprocess.Popen(launcher, stdout=file, env=environ, cwd=folder)
            with _watched(process.pid, postgres) as peak:
                process.wait()
        text = output.read_text()
        code, seconds, processor, largest = json.loads(usage.read_text())
    if code:
        raise subprocess.CalledProcessError(code, list(command), text)
    # The kernel knows the peak of each process, however short; of a tree of them only looking tells.
    resident = max(peak.tree, largest)
    server = _processor(postgres) - before
    return Done(text, Cost(seconds, processor, resident / _MEGABYTE, server, peak.postgres / _MEGABYTE))


def total(costs: Sequence[Cost]) -> Cost:
    """Returns what processes cost that ran one after another: the sum of times, the largest of peaks."""
    return Cost(
        sum(cost.seconds for cost in costs),
        sum(cost.processor for cost in costs),
        max(cost.megabytes for cost in costs),
        sum(cost.postgres_processor for cost in costs),
        max(cost.postgres_megabytes for cost in costs),
    )


@contextmanager
def _watched(process: int, postgres: int | None) -> Iterator[_Peak]:
    """Yields the peaks of memory while the block runs: of all below `process`, and of a server."""
    peak, ended = _Peak(), threading.Event()

    def watch() -> None:
        while True:
            peak.tree = max(peak.tree, sum(_resident(each) for each in _tree(process)[1:]))
            if postgres is not None:
                peak.postgres = max(peak.postgres, sum(_proportional(each) for each in _tree(postgres)))
            if ended.wait(_PAUSE):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _tree(process: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(process)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _proportional(process: psutil.Process) -> int:
    """Returns the bytes of a process, of those that it shares with others its share; all of them where the system does
    not say how many share."""
    try:
        memory = process.memory_full_info()
    except psutil.NoSuchProcess:
        return 0
    return int(getattr(memory, "pss", memory.rss))


def _processor(postgres: int | None) -> float:
    """Returns the processor seconds of a server so far: of its processes, and of those that ended."""
    seconds = 0.0
    for process in _tree(postgres) if postgres is not None else []:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
        if process.pid == postgres:
            seconds += times.children_user + times.children_system
    return seconds
