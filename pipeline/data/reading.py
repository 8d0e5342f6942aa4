"""Rows of a file, each with its line, read in pieces: a file need not fit into memory. A row that cannot be read is a
row with a problem: it is neither lost nor does it stop the ones after it."""

import io
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from pipeline.data import files, jsonrows, plain_lines, tables
from pipeline.data.rows import Problem, Raw, Row

_READERS: Mapping[str, Callable[[BinaryIO, str], Iterator[Raw]]] = {
    "lines": jsonrows.of_lines,
    "array": lambda stream, name: map(jsonrows.encoded, jsonrows.of_array(stream, name)),
    "csv": lambda stream, name: map(jsonrows.encoded, tables.of_text(stream, name, None)),
    "tsv": lambda stream, name: map(jsonrows.encoded, tables.of_text(stream, name, "\t")),
    "plain": plain_lines.of_text,
    "parquet": lambda stream, name: map(jsonrows.encoded, tables.of_parquet(stream, name)),
}


def read(data: bytes | BinaryIO, name: str = "") -> Iterator[Row]:
    """Yields the rows of a file in their order: objects of a JSON array or one a line, records of a CSV, TSV or Parquet
    table, lines of a plain text; compressed or not.

    Rules of problems: `malformed`, `not_utf8`, `not_storable`, `columns`, `long_line`, and `truncated` where nothing
    after the row can be read. Raises BadInput for what is no file of rows.
    """
    return map(jsonrows.decoded, raw(io.BytesIO(data) if isinstance(data, bytes) else data, name))


def raw(stream: BinaryIO, name: str) -> Iterator[Raw]:
    """Yields the same rows as JSON on one line each. Those of a JSONL file are as they stand there, and may be no JSON:
    only `decoded` shows that."""
    opened = files.unpacked(stream, name)
    line = 1
    try:
        for row in _READERS[opened.container](opened.stream, name):
            line = row.line
            yield row
    except files.Truncated as error:
        yield Raw(line, b"", Problem("truncated", f"after this row: {error}"))
