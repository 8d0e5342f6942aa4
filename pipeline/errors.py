"""What can go wrong for a user, as one vocabulary: the class says whose turn it is, the message says what to do."""

import difflib
from collections.abc import Iterable
from typing import Self


class NightshiftError(Exception):
    """Something a person has to know about. `exit_code` is what the command line ends with."""

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        found: object = None,
        allowed: object = None,
        next_step: str | None = None,
    ) -> None:
        self.what = what
        self.details = {"where": where, "found": found, "allowed": allowed, "next": next_step}
        lines = [what] + [f"  {name}: {_text(value)}" for name, value in self.details.items() if value is not None]
        super().__init__("\n".join(lines))

    def reworded(self, what: str, *, next_step: str | None = None) -> Self:
        """Returns an error of the same class about the same place and value, in other words."""
        kept = {name: self.details[name] for name in ("where", "found", "allowed")}
        return type(self)(what, **kept, next_step=next_step)


def _text(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


class Refused(NightshiftError):
    """The answer is no: a check, a gate or a rule said so."""

    exit_code = 1


class BadInput(NightshiftError):
    """A value, a file or a command that cannot be what its author meant."""

    exit_code = 2


class NotAvailable(NightshiftError):
    """Something that is needed is not there: a server, a model, a file, a device."""

    exit_code = 3


class Interrupted(NotAvailable):
    """The machinery was stopped in good order while the work went on: nothing about the work is wrong."""


class FencedOut(Refused):
    """A newer attempt of the same run has taken over; this one may not write."""


class Stale(Refused):
    """Something else went live since the decision was made; it has to be made again."""


def nearest(wanted: str, allowed: Iterable[str]) -> str:
    """Returns the allowed spellings as text, the nearest one to `found` named first where there is one."""
    names = sorted(allowed)
    close = difflib.get_close_matches(wanted, names, n=1)
    listed = ", ".join(names)
    return f"{listed} (did you mean {close[0]}?)" if close else listed
