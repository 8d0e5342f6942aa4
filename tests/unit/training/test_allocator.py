"""When freed memory goes back to the system, and that it does."""

import subprocess
import sys

import pytest

from pipeline.training import allocator
from pipeline.training.records import Plan

pytestmark = pytest.mark.unit
PROGRAM = """
import sys
from pipeline.training import allocator
if sys.argv[1] == "give":
    assert allocator.give_back()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
blocks = [bytearray(b"x") * (3 << 20) for _ in range(100)]
keep = blocks[::10]
del blocks
print(resident())
"""


def plan(expected: int, budget: int) -> Plan:
    return Plan(8, 1, False, expected, budget, 60, 1000, 10)


def test_memory_is_given_back_where_more_than_half_of_it_is_taken() -> None:
    assert allocator.is_tight(plan(600, 1000))
    assert not allocator.is_tight(plan(400, 1000))
    assert not allocator.is_tight(None)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_large_blocks_go_back_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "give"], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30 + 100  # ten blocks of three MiB are kept, of a hundred
