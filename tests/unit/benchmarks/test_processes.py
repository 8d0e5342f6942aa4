"""What a process costs is what it took, its children included."""

import subprocess
import sys

import pytest

from benchmarks import processes

pytestmark = pytest.mark.unit

_HOLDS = "import sys, time; held = bytearray(b'x') * 60_000_000; print(len(held))"


def test_the_peak_is_that_of_the_process_however_short() -> None:
    done = processes.run([sys.executable, "-c", _HOLDS])
    assert done.output == "60000000\n"
    assert 60 < done.cost.megabytes < 200
    assert done.cost.processor > 0
    assert done.cost.seconds > 0


def test_the_memory_of_processes_below_it_counts_and_that_of_whoever_measures_does_not() -> None:
    held = bytearray(b"x") * 300_000_000
    child = f"{_HOLDS}; time.sleep(2)"
    parent = f"{_HOLDS}; import subprocess; subprocess.run([sys.executable, '-c', {child!r}])"
    assert 120 < processes.run([sys.executable, "-c", parent]).cost.megabytes < 250
    assert len(held) == 300_000_000


def test_processor_time_is_not_time_by_the_clock() -> None:
    cost = processes.run([sys.executable, "-c", "import time; time.sleep(0.5)"]).cost
    assert cost.seconds >= 0.5
    assert cost.processor < 0.4


def test_a_command_that_fails_measures_nothing() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        processes.run([sys.executable, "-c", "raise SystemExit(3)"])
