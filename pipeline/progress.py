"""How far a long piece of work is, in its log: step x of y, rate and time left, at most a line every ten seconds."""

import logging
import re
import time
from collections.abc import Callable

_EVERY = 10.0  # seconds
_LINE = re.compile(r": \d+ of \d+ \w+, [\d.]+ a second")


class Progress:
    """Logs the progress of work that is done in `total` steps of what `unit` says."""

    def __init__(
        self,
        log: logging.Logger,
        what: str,
        total: int,
        unit: str = "steps",
        clock: Callable[[], float] = time.monotonic,
        done: int = 0,
    ) -> None:
        """`done` steps are done already, by whoever was at it before."""
        self._log, self._what, self._total, self._unit, self._clock = log, what, total, unit, clock
        self._begun = self._logged = clock()
        self._before = self._done = done

    def reach(self, done: int) -> None:
        """Notes that so many steps are done in all, and logs a line where the last is ten seconds old."""
        self._done = done
        now = self._clock()
        if done < self._total and now - self._logged < _EVERY:
            return
        if done >= self._total and self._logged == self._begun:
            return  # it was over before there was anything to say
        self._logged = now
        passed = now - self._begun
        rate = (done - self._before) / passed if passed > 0 else 0.0
        left = f", {_time((self._total - done) / rate)} left" if rate and done < self._total else ""
        self._log.info("%s: %s of %s %s, %.2f a second%s", self._what, done, self._total, self._unit, rate, left)

    def advance(self, steps: int = 1) -> None:
        """Notes that so many more steps are done."""
        self.reach(self._done + steps)


def is_line(text: str) -> bool:
    """Returns whether a line of a log is one of a Progress."""
    return _LINE.search(text) is not None


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
