"""Rows of a file, each with its line, read in pieces: a file need not fit into memory. A row that cannot be read is a
row with a problem: it is neither lost nor does it stop the ones after it."""

import io
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.data import files, jsonrows, tables
from pipeline.data.rows import Problem, Row

_READERS = {
    "array": jsonrows.of_array,
    "lines": jsonrows.of_lines,
    "csv": lambda stream, name: tables.of_text(stream, name, None),
    "tsv": lambda stream, name: tables.of_text(stream, name, "\t"),
    "parquet": tables.of_parquet,
}


def read(data: bytes | BinaryIO, name: str = "") -> Iterator[Row]:
    """Yields the rows of a file in their order: objects of a JSON array or one a line, records of a CSV, TSV or Parquet
    table; compressed or not.

    Rules of problems: `malformed`, `not_utf8`, `not_storable`, `columns`, `long_line`, and `truncated` where nothing
    after the row can be read. Raises BadInput for what is no file of rows.
    """
    opened = files.unpacked(io.BytesIO(data) if isinstance(data, bytes) else data, name)
    line = 1
    try:
        for row in _READERS[opened.container](opened.stream, name):
            line = row.line
            yield row
    except files.Truncated as error:
        yield Row(line, None, Problem("truncated", f"after this row: {error}"))
