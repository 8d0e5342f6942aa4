"""How freed memory is kept: by default for later, in gaps of the heap, which takes up to half as much again, and half
the time. A training that has not much room gives it back at once."""

import ctypes

from pipeline.training.records import Plan

_M_MMAP_THRESHOLD = -3  # of mallopt, as malloc.h of glibc has it
_LARGE = 1 << 20  # bytes of a block that is mapped by itself
_ROOM = 2  # times what is expected: with more, memory is kept


def is_tight(plan: Plan | None) -> bool:
    """Returns whether a training takes more than half of the memory that it may."""
    return plan is not None and _ROOM * plan.memory_mib > plan.budget_mib


def give_back() -> bool:
    """Has large blocks given back to the system as soon as they are freed, in this process, from now on. Returns
    whether the C library does that: glibc does."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE))
    except (AttributeError, OSError):
        return False
