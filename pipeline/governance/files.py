"""A packet's files, from a folder or a zip file."""

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import BadInput, NotAvailable

# The smallest time that a zip file can hold: the same files give the same zip file on any day.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
# What a damaged zip file may raise, by where the damage is: its structure, a method, a flag, a name, or a stream.
_UNREADABLE = (
    zipfile.BadZipFile,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
    OverflowError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """Returns a zip file of these files: sorted, stored as they are, without times, so that equal contents are equal
    bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _NO_TIME)
            entry.create_system = 3  # Unix, wherever it was written
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents[name])
    return buffer.getvalue()


def read_folder(folder: Path) -> dict[str, bytes]:
    """Returns the files below a folder by their relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(path: Path) -> tuple[dict[str, bytes], list[str]]:
    """Returns the files of a packet and what is wrong with their wrapping: a zip file that holds other bytes than these
    files give. Raises NotAvailable where there is nothing, and BadInput for what is neither a folder nor a zip file."""
    if not path.exists():
        raise NotAvailable("there is no such packet", where=path)
    if path.is_dir():
        # Looked at first: a folder that is none may be somebody's home.
        if not any((path / name).is_file() for name in ("manifest.json", "evidence.json")):
            raise BadInput(
                "this folder is not a packet", where=path, found="neither manifest.json nor evidence.json",
                next_step="name a packet's folder, such as <home>/packets/<use case>/<decision>/final",
            )  # fmt: skip
        return read_folder(path), []
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            contents = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except _UNREADABLE as error:
        if not data.startswith(b"PK") and path.suffix != ".zip":
            raise BadInput("a packet is a folder or a zip file", where=path) from None
        return {}, [f"the zip file cannot be read: {error}"]
    return contents, [] if zipped(contents) == data else ["the zip file holds other bytes than its files give"]
