"""Files of rows as bytes: unpacked, and known by their first bytes for what they are. What is no file of rows at all is
refused with one message instead of a finding for each of its lines."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from pipeline.errors import BadInput

Container = Literal["array", "lines", "csv", "tsv", "parquet", "plain"]

HEAD_BYTES = 1 << 16  # that are looked at
_SAMPLE_LINES = 20
_MARK = b"\xef\xbb\xbf"
ALLOWED = "JSON, JSONL, CSV, TSV or Parquet in UTF-8, or a .txt of one text a line, each also compressed as .gz or .zst"
_SUFFIXES = tuple(
    f".{plain}{packed}"
    for plain in ("json", "jsonl", "ndjson", "csv", "tsv", "tab", "parquet")
    for packed in ("", ".gz", ".zst")
)
# First bytes of what is often taken for a file of rows.
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive, or an Office document"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"SQLite format 3", "an SQLite database"),
    (b"ARROW1", "an Arrow file"),
    (b"\x7fELF", "a program"),
    (b"\x80\x04", "a pickle, which is never loaded"),
    (b"\x80\x05", "a pickle, which is never loaded"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"version https://git-lfs", "a pointer of Git LFS: the file itself was not fetched"),
)


class Truncated(Exception):
    """A compressed file that ends early, or that is damaged from here on."""


def is_called_rows(name: str) -> bool:
    """Returns whether a file in a folder is called as files of rows are."""
    return name.lower().endswith(_SUFFIXES)


@dataclass(frozen=True)
class Opened:
    """A file's bytes, unpacked, and what stands in them."""

    stream: io.BufferedReader
    container: Container


def unpacked(raw: BinaryIO, name: str) -> Opened:
    """Returns the bytes of a file of rows, to be read once from the beginning.

    `raw` is read as far as it is needed. Reading raises Truncated where compressed data are damaged. Raises BadInput
    where the first bytes show that it is no file of rows.
    """
    stream = _buffered(_Guarded(raw))
    for _ in range(2):  # what is compressed twice is compressed by mistake
        head = _head(stream, name)
        if head.startswith(b"\x1f\x8b"):
            stream = _buffered(_Guarded(cast("BinaryIO", gzip.GzipFile(fileobj=stream))))
        elif head.startswith(b"\x28\xb5\x2f\xfd"):
            stream = _buffered(_Guarded(_zstd(stream)))
        else:
            break
    head = _head(stream, name)
    return Opened(stream, _container(head, name))


def _container(head: bytes, name: str) -> Container:
    if head.startswith(b"PAR1"):
        return "parquet"
    for mark, what in _FOREIGN:
        if head.startswith(mark):
            raise BadInput("this is no file of rows", where=name, found=what, allowed=ALLOWED)
    if head.count(0) * 8 > len(head):
        raise BadInput("this is no file of rows", where=name, found="binary data, or text in UTF-16", allowed=ALLOWED)
    text = head.removeprefix(_MARK).lstrip(b" \t\r\n")
    if text.startswith(b"["):
        return "array"
    table = _table(name)
    if table and not text.startswith(b"{"):
        return table
    lines = [line.strip() for line in text.split(b"\n")]
    # The last one may go on behind the head.
    whole = lines[:-1] if len(head) >= HEAD_BYTES else lines
    sample = [line for line in whole if line][:_SAMPLE_LINES]
    if sample and not any(line.startswith(b"{") and line.endswith(b"}") for line in sample):
        if _plain(name).endswith(".txt"):
            return "plain"
        raise BadInput(
            "this is no file of rows",
            where=name,
            found=f"lines of which none is a JSON object, the first {len(sample)} of them",
            allowed=ALLOWED,
            next_step="write one object a line, or one array of objects; name a table .csv or .tsv",
        )
    return "lines"


def _table(name: str) -> Literal["csv", "tsv"] | None:
    plain = _plain(name)
    return "csv" if plain.endswith(".csv") else "tsv" if plain.endswith((".tsv", ".tab")) else None


def _plain(name: str) -> str:
    return name.lower().removesuffix(".gz").removesuffix(".zst")


def _head(stream: io.BufferedReader, name: str) -> bytes:
    try:
        return stream.peek(HEAD_BYTES)[:HEAD_BYTES]
    except Truncated as error:
        raise BadInput("the file cannot be unpacked", where=name, found=error, next_step="write it again") from None


def _buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, HEAD_BYTES)


def _zstd(stream: BinaryIO) -> BinaryIO:
    # Imported where it is needed: most files are not compressed.
    import pyarrow

    unpacked: BinaryIO = pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, mode="r"), "zstd")
    return unpacked


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Truncated(f"compressed data that end early or are damaged: {type(error).__name__}") from None
    except OSError as error:  # pyarrow's, which carries no number of the system's
        if error.errno is not None:
            raise
        raise Truncated("compressed data that end early or are damaged") from None


class _Guarded(io.RawIOBase):
    """Bytes whose damage has one name, whatever library unpacks them. Where they come from is not closed with them."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Returns how many bytes were read into the buffer; none at the end."""
        with _damage():
            block = self._packed.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)
