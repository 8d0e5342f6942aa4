"""Rows of a JSON array or a JSONL file, each with its line. A row that cannot be read is a row with a problem: it is
neither lost nor does it stop the ones after it."""

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
    """Reads a JSON array element by element, going on after an element that is not JSON."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.start = start
        self.ends = [match.start() for match in re.finditer("\n", text)]

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        position, comma = _skip(self.text, self.start + 1), True
        while position < len(self.text):
            line = self._line(position)
            if self.text[position] == "]":
                if _skip(self.text, position + 1) < len(self.text):
                    rows.append(Row(line, None, Problem("malformed", "something follows the end of the array")))
                return rows
            try:
                if not comma:
                    raise _Damaged("malformed", "no comma stands before this row")
                value, end = _decode(self.text, position)
                rows.append(Row(line, value))
            except _Damaged as damaged:
                rows.append(Row(line, None, damaged.problem))
                end = self._after(position, damaged.problem)
                if end < 0:
                    break
                position, comma = end, True
                continue
            position = _skip(self.text, end)
            comma = self.text[position : position + 1] == ","
            position = _skip(self.text, position + 1) if comma else position
        rows.append(
            Row(self._line(len(self.text)), None, Problem("truncated", "the array does not end: rows are missing"))
        )
        return rows

    def _after(self, position: int, problem: Problem) -> int:
        """Returns where the row after a damaged one begins, or the array's end; -1 where neither is found.

        A row that is JSON is stepped over. After any other, the next row is the next line that begins with an object as
        deep as this one: deeper ones are parts of it.
        """
        try:
            _, end = json.JSONDecoder().raw_decode(self.text, position)
        except (ValueError, RecursionError):
            end = -1
        if end >= 0 and problem.rule != "malformed":
            end = _skip(self.text, end)
            return _skip(self.text, end + 1) if self.text[end : end + 1] == "," else end
        begin = self.text.rfind("\n", 0, position) + 1
        depth = self.text[begin:position]
        depth = re.escape(depth) if not depth.strip() else "[ \t]*"
        following = re.compile(rf"\n{depth}(?=\{{)").search(self.text, position)
        if following:
            return following.end()
        closing = re.compile(r"\][ \t\r\n]*\Z").search(self.text, position)
        return closing.start() if closing else -1

    def _line(self, position: int) -> int:
        return bisect_right(self.ends, position - 1) + 1
