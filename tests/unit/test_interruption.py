"""An orderly stop: it is heard whatever a library does with the exception that it raises."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from pipeline import interruption
from pipeline.errors import Interrupted, NightshiftError, Refused
from pipeline.interruption import heard, interruptible, is_interruption

pytestmark = pytest.mark.unit


def ask(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "REPEAT_SECONDS", 0.05)


def test_it_is_raised_in_the_work_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted), interruptible():
        ask()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("times", [1, 3])
def test_a_library_that_swallows_it_hears_it_again(times: int) -> None:
    """As an optional import does that is tried, or a hook whose errors are ignored."""
    reached = []

    def work() -> None:
        for number in range(times):
            with suppress(Exception):
                ask()
            reached.append(number)
        time.sleep(5)
        raise AssertionError("it was never raised again")

    with pytest.raises(Interrupted):
        interruptible()(work)()
    assert len(reached) == times


def test_a_library_that_raises_its_own_in_its_place_is_a_stop_all_the_same() -> None:
    """As a lazy import does, which says that it failed."""
    inside = []

    def work() -> None:
        try:
            ask()
        except Exception as error:
            own = RuntimeError("failed to import it")
            inside.append(is_interruption(own))
            raise own from error

    with pytest.raises(Interrupted) as caught:
        interruptible()(work)()
    assert inside == [True]
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not is_interruption(RuntimeError("later, and of its own")), "the stop is over with its block"


def test_what_was_heard_is_not_raised_again() -> None:
    with interruptible():
        with suppress(Interrupted):
            ask()
        heard()
        ask()
        time.sleep(0.2)


def test_without_a_signal_nothing_was_heard_and_the_next_one_ends_the_work() -> None:
    def work() -> None:
        heard()
        ask()

    with pytest.raises(Interrupted):
        interruptible()(work)()


@pytest.mark.parametrize(("first", "second"), [(signal.SIGALRM, signal.SIGTERM), (signal.SIGTERM, signal.SIGALRM)])
def test_the_first_signal_says_why_it_ended(first: int, second: int) -> None:
    errors: dict[int, Callable[[], NightshiftError]] = {
        signal.SIGTERM: interruption.stopped,
        signal.SIGALRM: lambda: Refused("it took too long"),
    }

    def work() -> None:
        try:
            ask(first)
        finally:
            ask(second)

    with pytest.raises(Refused if first == signal.SIGALRM else Interrupted) as caught:
        interruptible(errors)(work)()
    assert is_interruption(caught.value) == (first == signal.SIGTERM)


def test_an_error_of_the_works_own_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="of its own"), interruptible():
        raise ValueError("of its own")


def test_outside_the_main_thread_it_does_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    inside: list[object] = []

    def work() -> None:
        with interruptible():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]
