"""An orderly stop: a signal ends the work that is going on as interrupted, so that its attempt is no failure.

An exception that a signal's handler raises comes up wherever the work happens to be, also inside a library that tries
an optional import and goes on without it, or that raises an error of its own in its place. So it is raised again until
somebody says that it was heard, and what ends the work meanwhile counts as the stop, whatever its class.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from pipeline.errors import Interrupted, NightshiftError

REPEAT_SECONDS = 2.0  # longer than a clean-up takes: it is raised there, too
# What ends work from outside, by the names of its classes: Airflow's own are never imported by this package.
_OUTSIDE = frozenset({"KeyboardInterrupt", "SystemExit", "GeneratorExit", "AirflowTaskTerminated"})


class _Signals:
    """The signals that end the work of this process, and which of them came."""

    def __init__(self, errors: dict[int, Callable[[], NightshiftError]]) -> None:
        self.errors = errors
        self.came: int | None = None
        self.heard = threading.Event()

    def handle(self, number: int, frame: FrameType | None) -> NoReturn:
        if self.came is None:
            self.came = number
            # Another signal must not cut short what the first began.
            for other in self.errors.keys() - {number}:
                signal.signal(other, signal.SIG_IGN)
            threading.Thread(target=self._repeat, args=(number, self.heard), name="stop", daemon=True).start()
        raise self.errors[self.came]()

    def _repeat(self, number: int, heard: threading.Event) -> None:
        while not heard.wait(REPEAT_SECONDS):
            os.kill(os.getpid(), number)


_blocks: list[_Signals] = []  # those that the main thread is in, the innermost last


def stopped() -> Interrupted:
    """Returns the error of work that was asked to stop."""
    return Interrupted("the work was asked to stop", next_step="running it again is safe")


def is_interruption(error: BaseException) -> bool:
    """Returns whether an error says that the work was stopped from outside, not that it failed."""
    return (
        isinstance(error, Interrupted)
        or type(error).__name__ in _OUTSIDE
        or (bool(_blocks) and _blocks[-1].came == signal.SIGTERM)
    )


def heard() -> None:
    """Says that the work has ended, and its end is being recorded: no signal that ends work cuts that short. Without a
    signal before, later ones still end what comes next."""
    if _blocks and _blocks[-1].came is not None:
        for number in _blocks[-1].errors:
            signal.signal(number, signal.SIG_IGN)
        _blocks[-1].heard.set()


@contextmanager
def interruptible(errors: dict[int, Callable[[], NightshiftError]] | None = None) -> Iterator[None]:
    """Raises the error that belongs to a signal (by default Interrupted, on SIGTERM) inside the block when this process
    gets it. Outside the main thread, where nobody may listen, it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    block = _Signals({signal.SIGTERM: stopped} if errors is None else errors)
    _blocks.append(block)
    previous = {number: signal.signal(number, block.handle) for number in block.errors}
    try:
        yield
    except NightshiftError:
        raise
    except BaseException as error:
        if block.came is not None:
            raise block.errors[block.came]() from error
        raise
    finally:
        heard()
        for number, handler in previous.items():
            signal.signal(number, handler)
        _blocks.pop()
