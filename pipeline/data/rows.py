"""One row of a file, as it was read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_ROW = 1 << 24  # bytes or characters of one row: 16 MiB
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Problem:
    """Why a row or a document cannot be used. `detail` never quotes the row."""

    rule: str
    detail: str


@dataclass(frozen=True)
class Row:
    """One row of a file."""

    line: int  # where it begins, counted from 1
    value: Any  # what was read; None where there is a problem
    problem: Problem | None = None


@dataclass(frozen=True)
class Raw:
    """One row of a file that was not looked into."""

    line: int
    text: bytes  # JSON on one line; empty where there is a problem
    problem: Problem | None = None


class Damaged(Exception):
    """A row that cannot be read, with its rule and detail."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(rule, detail)


NOT_UTF8 = ("not_utf8", "the row holds bytes that are not UTF-8")
NOT_STORABLE = ("not_storable", "the row holds a NUL character or half of a surrogate pair")


def undecodable(text: str) -> bool:
    """Returns whether a text that was decoded with `surrogateescape` holds bytes that are not UTF-8."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def storable(value: Any) -> bool:
    """Returns whether every text in a value, at any depth, can be stored: Postgres takes no NUL, UTF-8 no surrogate."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            if "\0" in part or undecodable(part):
                return False
        elif isinstance(part, Mapping):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            waiting += part
    return True
