"""The files of a use case's sources: which there are, by their content's digest, and what each is called."""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from pipeline.data import files, paths, remote
from pipeline.data.rows import Problem
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.settings import Settings
from pipeline.usecase import DocumentSource, ExampleSource

_BLOCK = 1 << 20  # bytes that are read at a time


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, as it was when its digest was taken."""

    where: str  # for errors
    open: Callable[[], AbstractContextManager[BinaryIO]]  # and nothing outside the source
    name: str  # relative to the use case's folder where it stands in it: what findings call it
    group: str  # its source
    sha256: str  # empty where the file is refused
    refused: Problem | None = None  # why it is not read

    def content(self) -> bytes:
        """Returns the file's bytes. Raises as `opened` does."""
        with self.opened() as file:
            return file.read()

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Yields the file's bytes, to be read once. Raises Refused at the end where they changed since the digest was
        taken."""
        try:
            with self.open() as file:
                hashing = _Hashing(file)
                yield cast("BinaryIO", io.BufferedReader(hashing, _BLOCK))
                while hashing.readinto(memoryview(bytearray(_BLOCK))):
                    pass
        except paths.Outside as outside:
            raise Refused("the file changed while it was being read", where=self.where, found=outside) from None
        if hashing.sha256.hexdigest() != self.sha256:
            raise Refused("the file changed while it was being read", where=self.where, next_step="run the fetch again")


class _Hashing(io.RawIOBase):
    """A file's bytes, hashed as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Returns how many bytes were read into the buffer; none at the end."""
        size: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self.sha256.update(buffer[:size])
        return size


def name(source: DocumentSource | ExampleSource, folder: Path) -> str:
    """Returns what a source is called: its URL, or its path, relative to the use case's folder if it is in it."""
    if source.path is not None:
        return paths.name(source.path, folder)
    return source.label


def of_documents(source: DocumentSource, folder: Path, settings: Settings) -> list[SourceFile]:
    """Returns the files of a document source in the order of their paths; hidden ones are left out.

    Raises NotAvailable where the source is not there: a share that is not mounted is no empty source.
    """
    group, suffix = _called(source.path, folder), ".md" if source.format == "markdown" else ".txt"
    if not source.path.is_dir():
        return [_own(source.path, group, settings)]
    root = paths.Root(source.path, settings)
    inside = sorted(path for path in paths.walk(source.path) if path.name.endswith(suffix))
    return [_one_of_many(path, root, folder, group) for path in inside]


def of_examples(source: ExampleSource, folder: Path, settings: Settings) -> list[SourceFile]:
    """Returns the files of a source of examples in the order of their paths; hidden ones are left out. What else stands
    in a folder of them is refused, so that somebody hears of it.

    Raises NotAvailable where the source, or a file of it, cannot be read; BadInput for a folder without any.
    """
    if source.url is not None:
        return [_file(partial(remote.opened, source.url), source.url, source.url, source.url)]
    if source.path is None:
        raise ValueError("a source of examples without a place")
    group = _called(source.path, folder)
    if not source.path.is_dir():
        return [_own(source.path, group, settings)]
    root, inside = paths.Root(source.path, settings), sorted(paths.walk(source.path))
    if not any(files.is_called_rows(path.name) for path in inside):
        raise BadInput(
            "the folder has no files of rows",
            where=source.path,
            found=f"{len(inside)} other files",
            allowed=files.ALLOWED,
            next_step="write them there, or take the source out of usecase.yaml",
        )
    return [_of_rows(path, root, folder, group) for path in inside]


def _of_rows(path: Path, root: paths.Root, folder: Path, group: str) -> SourceFile:
    """Returns a file of a folder of rows. Raises NotAvailable for one that cannot be read: its rows would be missed."""
    opening, called = partial(root.opened, path), paths.name(path, folder)
    if files.is_called_rows(path.name):
        return _file(opening, str(path), called, group)
    problem = Problem("no_rows", f"not called a file of rows: {files.ALLOWED}")
    return SourceFile(str(path), opening, called, group, "", problem)


def _called(path: Path, folder: Path) -> str:
    """Returns what a source is called. Raises NotAvailable where it is not there."""
    if not path.exists():
        raise NotAvailable("the source is not there", where=path, next_step="mount it, or take it out of usecase.yaml")
    return paths.name(path, folder)


def _own(path: Path, called: str, settings: Settings) -> SourceFile:
    """Returns a file that the YAML names itself. Raises BadInput where it leads elsewhere."""
    file = _file(partial(paths.Root(path.parent, settings).opened, path), str(path), called, called)
    if file.refused is not None:
        raise BadInput(
            "this file is not read", where=path, found=file.refused.detail, allowed="a file or folder of its own"
        )
    return file


def _one_of_many(path: Path, root: paths.Root, folder: Path, group: str) -> SourceFile:
    """Returns a file of a folder. One that cannot be read does not stop the others."""
    opening, called = partial(root.opened, path), paths.name(path, folder)
    try:
        return _file(opening, str(path), called, group)
    except NotAvailable as error:
        return SourceFile(str(path), opening, called, group, "", _outside(error.details["found"]))


def _file(opening: Callable[[], AbstractContextManager[BinaryIO]], where: str, called: str, group: str) -> SourceFile:
    try:
        with opening() as file:
            hashing = hashlib.sha256()
            while block := file.read(_BLOCK):
                hashing.update(block)
    except paths.Outside as outside:
        return SourceFile(where, opening, called, group, "", _outside(outside))
    return SourceFile(where, opening, called, group, hashing.hexdigest())


def _outside(why: object) -> Problem:
    return Problem("outside", f"it is not read: {why}")
