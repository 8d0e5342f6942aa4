"""An orderly stop: SIGTERM ends the work that is going on as interrupted, so that its attempt is no failure."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from pipeline.errors import Interrupted

# What ends work from outside, by the names of its classes: Airflow's own are never imported by this package.
_OUTSIDE = frozenset({"KeyboardInterrupt", "SystemExit", "GeneratorExit", "AirflowTaskTerminated"})


def is_interruption(error: BaseException) -> bool:
    """Returns whether an error says that the work was stopped from outside, not that it failed."""
    return isinstance(error, Interrupted) or type(error).__name__ in _OUTSIDE


@contextmanager
def interruptible() -> Iterator[None]:
    """Raises Interrupted inside the block when this process gets SIGTERM. Outside the main thread, where nobody may
    listen, it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        # A second one must not cut short what the first began: recording the end.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Interrupted("the work was told to stop", next_step="running it again is safe")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
