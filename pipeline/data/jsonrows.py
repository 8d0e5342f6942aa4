"""Rows in JSON: the objects of an array, or one a line.

An array is read past its damage: where an element is not JSON, the next one begins where an object stands behind a
closing brace that has the keys of the rows around it. What stands after the end of the array is counted row by row and
is never used: whoever wrote it may have meant something else by it.
"""

import codecs
import json
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from pipeline.data.rows import MAX_ROW, NOT_STORABLE, NOT_UTF8, Damaged, Problem, Raw, Row, storable, undecodable

_CHUNK = 1 << 18
_WHITE = b" \t\r\n"  # as JSON has it
_BLANKS = re.compile(r"[ \t\r\n]*")
_BOUNDARY = re.compile(r"\}[ \t\r\n]*,?[ \t\r\n]*(?=\{)")
_FIRST_KEY = re.compile(r"""\{[ \t\r\n]*["'`\u201c]?([^"'`\u201d:,]+)""")
_LAST = re.compile(r"\}[ \t\r\n]*,?[ \t\r\n]*\][ \t\r\n]*\Z")
_LITERAL = 16  # characters that a number, a word or an escape may lack at the end of what was read
_LOOKED_AT = 50  # objects that may be the next row, where none was read before


def of_lines(stream: BinaryIO, name: str = "") -> Iterator[Raw]:
    """Yields the lines of a JSONL file as they stand there; blank ones are no rows."""
    number = 0
    # Not splitlines(): it also splits at characters which may stand inside a row's text.
    while line := stream.readline(MAX_ROW + 1):
        number += 1
        if len(line) > MAX_ROW and not line.endswith(b"\n"):
            while rest := stream.readline(_CHUNK):
                if rest.endswith(b"\n"):
                    break
            yield Raw(number, b"", Problem("long_line", f"the line has more than {MAX_ROW >> 20} MiB"))
            continue
        text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).strip(_WHITE)
        if text:
            yield Raw(number, text)


def decoded(raw: Raw) -> Row:
    """Returns a row with its value, or with the problem that it has."""
    if raw.problem is not None:
        return Row(raw.line, None, raw.problem)
    return _line(raw.text.decode("utf-8", "surrogateescape"), raw.line)


def encoded(row: Row) -> Raw:
    """Returns a row as one line of JSON. What JSON has no form for is null where it is no number, else an object: it is
    never mistaken for a text."""
    if row.problem is not None:
        return Raw(row.line, b"", row.problem)
    try:
        text = _dumps(row.value)
    except ValueError:
        text = _dumps(_finite(row.value))
    except RecursionError:
        return Raw(row.line, b"", Problem("malformed", "nesting too deep"))
    return Raw(row.line, text.encode())


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_strange)


def _strange(value: Any) -> dict[str, str]:
    return {"type": type(value).__name__}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def of_array(stream: BinaryIO, name: str = "") -> Iterator[Row]:
    """Yields the elements of a JSON array."""
    return _Array(stream).rows()


def value_of(text: str) -> Any:
    """Returns the one JSON value that a text is. Raises Damaged."""
    if undecodable(text):
        raise Damaged(*NOT_UTF8)
    value, end = _decode(text, 0)
    if end < len(text):
        raise Damaged("malformed", "not JSON: something follows the row on its line")
    return value


def _line(text: str, line: int) -> Row:
    try:
        return Row(line, value_of(text))
    except Damaged as damaged:
        return Row(line, None, damaged.problem)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the object of these pairs. Of a key that stands twice one value would be lost."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise Damaged("malformed", "a key stands twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise Damaged("malformed", f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
# Takes what is unusable and yet has an end: NaN, a key twice, a raw tab in a text.
_LENIENT = json.JSONDecoder(strict=False)


def _decode(text: str, start: int) -> tuple[Any, int]:
    """Returns the value that begins at `start` and where it ends. Raises Damaged."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise Damaged("malformed", f"not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise Damaged("malformed", "not JSON that can be read: a number too long or nesting too deep") from None
    written = text[start:end]
    if undecodable(written):
        raise Damaged(*NOT_UTF8)
    # Raw NULs are no JSON: what cannot be stored was written as an escape.
    if "\\u" in written and not storable(value):
        raise Damaged(*NOT_STORABLE)
    return value, end


def _may_go_on(error: ValueError, text: str) -> bool:
    """Returns whether an error is no more than that the text ends here."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(text) - _LITERAL


class _Array:
    """Reads an array in pieces: `text` is what was read and not yet used, from `at` on."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text, self.at, self.line, self.ended = "", 0, 1, False
        self.counted = 0  # up to where lines were counted
        self.keys: frozenset[str] = frozenset()  # of the last row that was read

    def rows(self) -> Iterator[Row]:
        self._next()
        self.at += 1
        first = True
        while True:
            sign = self._next()
            line = self._line()
            if sign == "]":
                self.at += 1
                yield from self._behind()
                return
            if not sign:
                yield Row(line, None, Problem("truncated", "the array does not end"))
                return
            comma = sign == ","
            if comma:
                self.at += 1
                following = self._next()
                if first or following == ",":
                    yield Row(line, None, Problem("malformed", "a comma stands where a row is missing"))
                first = False
                if following in (",", "]", ""):
                    continue
            rows = list(self._element())
            if not (comma or first) and rows[0].problem is None:
                rows[0] = Row(rows[0].line, None, Problem("malformed", "no comma stands before this row"))
            first = False
            yield from rows
            if _lost(rows[-1]):
                return

    def _element(self) -> Iterator[Row]:
        """Yields the row that begins here, or its problem, with those of the rows that are lost with it."""
        line = self._line()
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except Damaged as damaged:
                problem = damaged.problem
                try:
                    end = _LENIENT.raw_decode(self.text, self.at)[1]
                except (ValueError, RecursionError) as error:
                    if isinstance(error, ValueError) and _may_go_on(error, self.text) and self._grow():
                        continue
                    yield Row(line, None, problem)
                    yield from self._resume()
                    return
                yield Row(line, None, problem)
            else:
                # A number may go on behind what was read.
                if end == len(self.text) and self._grow():
                    continue
                self.keys = frozenset(value) if isinstance(value, dict) else self.keys
                yield Row(line, value)
            self.at = end
            return

    def _resume(self) -> Iterator[Row]:
        """Goes to the next row behind an element that is not JSON. Yields a problem for each damaged one on the way,
        and `truncated` where no row can be made out any more."""
        while True:
            keys = self.keys or self._likely()
            for match in _BOUNDARY.finditer(self.text, self.at):
                value, whole = self._object(match.end())
                if whole and _alike(keys, frozenset(value)):
                    self.at = match.start() + 1
                    return
                if whole is None and not self.ended and len(self.text) - self.at <= MAX_ROW:
                    break  # it may be whole in what follows
                if not value and _begins_like(self.text, match.end(), keys):
                    line = self._line_of(match.end())
                    self.at = match.start() + 1
                    yield Row(line, None, Problem("malformed", "not JSON, like the row before it"))
            if not self._grow():
                break
        if self.ended and _LAST.search(self.text, self.at):
            self.at = self.text.rindex("]")
            return
        yield Row(self._line(), None, Problem("truncated", "the array is not JSON from here on"))

    def _object(self, place: int) -> tuple[dict[str, Any], bool | None]:
        """Returns the object at a place and whether a row could end behind it; None where it may go on."""
        try:
            value, end = _LENIENT.raw_decode(self.text, place)
        except (ValueError, RecursionError) as error:
            return {}, None if isinstance(error, ValueError) and _may_go_on(error, self.text) else False
        behind = _skip(self.text, end)
        return value, self.text[behind : behind + 1] in (",", "]", "{", "")

    def _likely(self) -> frozenset[str]:
        """Returns the keys of the longest object that may be a row: one that stands in a row is shorter than it."""
        longest, keys = 0, frozenset[str]()
        for number, match in enumerate(_BOUNDARY.finditer(self.text, self.at)):
            if number == _LOOKED_AT:
                break
            try:
                value, end = _LENIENT.raw_decode(self.text, match.end())
            except (ValueError, RecursionError):
                continue
            if end - match.end() > longest:
                longest, keys = end - match.end(), frozenset(value)
        return keys

    def _behind(self) -> Iterator[Row]:
        """Yields a problem for each row that stands after the end of the array."""
        problem = Problem("malformed", "it stands after the end of the array")
        if not self._next():
            return
        line, counted = self._line(), False
        while sign := self._next():
            if sign in ",[]":
                self.at += 1
                continue
            for row in self._element():
                counted = True
                yield row if row.problem is not None else Row(row.line, None, problem)
                if _lost(row):
                    return
        if not counted:
            yield Row(line, None, problem)

    def _next(self) -> str:
        """Returns the next sign that is no blank, or nothing at the end. `at` stands at it."""
        while True:
            self.at = _skip(self.text, self.at)
            if self.at == 0 and self.text.startswith("\ufeff"):
                self.at = 1
                continue
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._grow():
                return ""

    def _grow(self) -> bool:
        """Reads on: as much again as is waiting. Returns whether there was anything, and room for it."""
        waiting = len(self.text) - self.at
        if self.ended or waiting > MAX_ROW:
            return False
        block = self.stream.read(max(_CHUNK, waiting))
        self.ended = not block
        self._line()
        self.text = self.text[self.at :] + self.decoder.decode(block, final=self.ended)
        self.at = self.counted = 0
        return True

    def _line(self) -> int:
        """Returns the line of `at`."""
        if self.at > self.counted:
            self.line += self.text.count("\n", self.counted, self.at)
            self.counted = self.at
        return self.line

    def _line_of(self, place: int) -> int:
        return self._line() + self.text.count("\n", self.at, place)


def _lost(row: Row) -> bool:
    """Returns whether nothing behind a row can be read."""
    return row.problem is not None and row.problem.rule == "truncated"


def _skip(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position


def _alike(keys: frozenset[str], others: frozenset[str]) -> bool:
    """Returns whether two objects are rows of one file: they share half of the keys of the one with more."""
    return bool(keys & others) and 2 * len(keys & others) >= max(len(keys), len(others))


def _begins_like(text: str, place: int, keys: frozenset[str]) -> bool:
    """Returns whether the object at a place begins with a key that rows have."""
    first = _FIRST_KEY.match(text, place)
    return first is not None and first[1] in keys
