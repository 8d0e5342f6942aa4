"""Rows of a JSON array or a JSONL file, each with its line. A row that cannot be read is a row with a problem: it is
neither lost nor does it stop the ones after it, unless what is not JSON stands inside an array: nobody knows then where
the next row begins."""

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BLANKS = re.compile(r"[ \t\r\n]*")
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


class _Damaged(Exception):
    """A row that cannot be read, with its rule and detail."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(rule, detail)


def read(data: bytes) -> list[Row]:
    """Returns the rows of a file in their order: the elements where it is a JSON array, else one a line.

    Rules of problems: `malformed`, `not_utf8`, `not_storable`, and `truncated` where nothing after the row can be read.
    """
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    start = _skip(text, 0)
    if text[start : start + 1] == "[":
        return _Array(text, start).rows()
    # Not splitlines(): it also splits at characters which may stand inside a row's text.
    lines = enumerate((line.strip(" \t\r") for line in text.split("\n")), 1)
    return [_row(line, number) for number, line in lines if line]


def storable(value: Any) -> bool:
    """Returns whether every text in a value, at any depth, can be stored: Postgres takes no NUL, UTF-8 no surrogate."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str) and ("\0" in part or _SURROGATE.search(part)):
            return False
        if isinstance(part, Mapping):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            waiting += part
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the object of these pairs. Of a key that stands twice one value would be lost."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _Damaged("malformed", "a key stands twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise _Damaged("malformed", f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _decode(text: str, start: int) -> tuple[Any, int]:
    """Returns the value that begins at `start` and where it ends. Raises _Damaged."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _Damaged("malformed", f"not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise _Damaged("malformed", "not JSON that can be read: a number too long or nesting too deep") from None
    if _SURROGATE.search(text, start, end):
        raise _Damaged("not_utf8", "the row holds bytes that are not UTF-8")
    if not storable(value):
        raise _Damaged("not_storable", "the row holds a NUL character or half of a surrogate pair")
    return value, end


def _row(text: str, line: int) -> Row:
    try:
        if _SURROGATE.search(text):
            raise _Damaged("not_utf8", "the row holds bytes that are not UTF-8")
        value, end = _decode(text, 0)
        if end < len(text):
            raise _Damaged("malformed", "not JSON: something follows the row on its line")
    except _Damaged as damaged:
        return Row(line, None, damaged.problem)
    return Row(line, value)


def _skip(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position


class _Array:
    """Reads a JSON array element by element, so that each has its line."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.start = start
        self.ends = [match.start() for match in re.finditer("\n", text)]

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        position = _skip(self.text, self.start + 1)
        while position < len(self.text) and self.text[position] != "]":
            line = self._line(position)
            try:
                value, end = _decode(self.text, position)
                rows.append(Row(line, value))
            except _Damaged as damaged:
                rows.append(Row(line, None, damaged.problem))
                end = self._end(position)
            if end < 0:
                return [*rows, self._ended("the array is not JSON from here on", position)]
            position = _skip(self.text, end)
            comma = self.text[position : position + 1]
            if comma not in (",", "]"):
                what = (
                    "the array is not JSON from here on: no comma stands before this"
                    if comma
                    else "the array does not end"
                )
                return [*rows, self._ended(what, position)]
            position = _skip(self.text, position + 1) if comma == "," else position
        if position >= len(self.text):
            return [*rows, self._ended("the array does not end", position)]
        if _skip(self.text, position + 1) < len(self.text):
            problem = Problem("malformed", "something follows the end of the array")
            rows.append(Row(self._line(position), None, problem))
        return rows

    def _end(self, position: int) -> int:
        """Returns where an element ends that is JSON and yet cannot be used; -1 where it is not JSON."""
        try:
            return json.JSONDecoder().raw_decode(self.text, position)[1]
        except (ValueError, RecursionError):
            return -1

    def _ended(self, detail: str, position: int) -> Row:
        return Row(self._line(position), None, Problem("truncated", detail))

    def _line(self, position: int) -> int:
        return bisect_right(self.ends, position - 1) + 1
