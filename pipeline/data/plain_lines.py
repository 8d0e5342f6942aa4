"""Rows of a plain text file, for pretraining: one text a line."""

import json
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.data import jsonrows
from pipeline.data.rows import NOT_UTF8, Problem, Raw


def of_text(stream: BinaryIO, name: str = "") -> Iterator[Raw]:
    """Yields each line as {"text"}; blank ones are no rows."""
    for row in jsonrows.of_lines(stream, name):
        if row.problem is not None:
            yield row
            continue
        try:
            text = row.text.decode()
        except UnicodeDecodeError:
            yield Raw(row.line, b"", Problem(*NOT_UTF8))
        else:
            yield Raw(row.line, json.dumps({"text": text}, ensure_ascii=False).encode())
