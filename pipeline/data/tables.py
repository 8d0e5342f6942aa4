"""Rows in tables: CSV, TSV and Parquet. A row is an object of its columns; an empty cell is no value."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from pipeline.data import jsonrows
from pipeline.data.rows import MAX_ROW, NOT_STORABLE, NOT_UTF8, Damaged, Problem, Row, storable, undecodable
from pipeline.errors import BadInput

_BATCH = 1_000
_DELIMITERS = ",;\t|"
# Columns whose cells may hold JSON: a table has no other way to say a list.
_JSON_COLUMNS = frozenset({"messages", "conversations", "prompt", "chosen", "rejected", "documents", "history"})


def of_text(stream: BinaryIO, name: str, delimiter: str | None) -> Iterator[Row]:
    """Yields the rows of a CSV file under its line of column names; `delimiter` None: the one that splits that line.

    Raises BadInput where a column has no name, or two have the same.
    """
    csv.field_size_limit(MAX_ROW)
    text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    first = text.readline(MAX_ROW)
    sign = delimiter or max(_DELIMITERS, key=first.count)
    lines = _Lines(first, text)
    reader = csv.reader(lines, delimiter=sign, strict=True)
    names = _names(reader, name)
    while True:
        line = lines.number + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            ended = "unexpected end" in str(error)
            rule, detail = ("truncated", "a quoted cell does not end") if ended else ("malformed", f"not CSV: {error}")
            yield Row(line, None, Problem(rule, detail))
            if ended:
                return
            continue
        if cells is None:
            return
        if any(cells):
            yield _row(cells, names, line)


def of_parquet(stream: BinaryIO, name: str) -> Iterator[Row]:
    """Yields the rows of a Parquet file, numbered from 1. Raises BadInput where it is damaged."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(io.BytesIO(stream.read()))
        number = 0
        for batch in table.iter_batches(_BATCH):
            for value in batch.to_pylist():
                number += 1
                usable = storable(value)
                yield Row(number, value if usable else None, None if usable else Problem(*NOT_STORABLE))
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(
            "the Parquet file cannot be read", where=name, found=type(error).__name__, next_step="write it again"
        ) from None


class _Lines:
    """The lines of a file, counted: csv's own count is that of the record before."""

    def __init__(self, first: str, rest: io.TextIOWrapper) -> None:
        self.number = 0
        self._first: str | None = first
        self._rest = rest

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line, self._first = self._first if self._first is not None else self._rest.readline(MAX_ROW), None
        if not line:
            raise StopIteration
        self.number += 1
        return line


def _names(reader: Iterator[list[str]], name: str) -> list[str]:
    try:
        names = [cell.strip() for cell in next(reader, [])]
    except csv.Error as error:
        raise BadInput("the line of column names is not CSV", where=f"{name}:1", found=error) from None
    twice = [place + 1 for place, cell in enumerate(names) if Counter(names)[cell] > 1]
    if len(names) < 2 or not all(names) or twice or any(map(undecodable, names)):
        raise BadInput(
            "the first line is no line of column names",
            where=f"{name}:1",
            found=f"columns {', '.join(map(str, twice))} have one name" if twice else f"{len(names)} columns",
            allowed="two columns or more, each with a name of its own",
        )
    return names


def _row(cells: list[str], names: list[str], line: int) -> Row:
    if len(cells) != len(names):
        detail = f"the row has {len(cells)} cells; the line of column names has {len(names)}"
        return Row(line, None, Problem("columns", detail))
    if any(map(undecodable, cells)):
        return Row(line, None, Problem(*NOT_UTF8))
    if any("\0" in cell for cell in cells):
        return Row(line, None, Problem(*NOT_STORABLE))
    try:
        return Row(line, {name: _cell(name, cell) for name, cell in zip(names, cells, strict=True)})
    except Damaged as damaged:
        return Row(line, None, damaged.problem)


def _cell(name: str, cell: str) -> Any:
    if not cell:
        return None
    return (
        jsonrows.value_of(cell.strip())
        if name in _JSON_COLUMNS and cell.lstrip()[:2] in ("[{", '["', "[]", "[[")
        else cell
    )
