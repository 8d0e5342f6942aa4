"""Where files may be read from: a source's own folder, and nothing that leads out of it or into this installation's
secrets."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import NotAvailable
from pipeline.settings import Settings


class Outside(Exception):
    """A file that is not the source's own; the message says why."""


def walk(root: Path) -> Iterator[Path]:
    """Yields the paths below a folder; hidden ones are left out, and folders that are links are not entered but
    yielded, so that somebody hears of it."""
    for folder, names, files in os.walk(root, followlinks=False):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in [*names]:
            if (Path(folder) / name).is_symlink():
                names.remove(name)
                yield Path(folder) / name
        for name in files:
            if not name.startswith("."):
                yield Path(folder) / name


class Root:
    """A source's folder, of which files are read: what must not be read is resolved once, for all of them."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._root = os.path.realpath(root)
        self._usecases, self._home = os.path.realpath(settings.usecases), os.path.realpath(settings.home)
        artifacts = [] if "://" in settings.artifacts else [settings.artifacts]
        self._own = [os.path.realpath(place) for place in (str(settings.logins), *artifacts)]

    @contextmanager
    def opened(self, path: Path) -> Iterator[BinaryIO]:
        """Yields a regular file that stands, links resolved, in the source and in no place of this installation's own,
        to be read from its beginning.

        The file that was opened is what is judged, not its name, so that nobody can exchange it in between. Raises
        Outside, or NotAvailable where it cannot be read.
        """
        try:
            # A pipe or a device must not keep the night waiting.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if path.is_symlink() and not path.exists():
                raise Outside("a link that leads nowhere") from None
            raise NotAvailable(
                "the file cannot be read", where=path, found=error.strerror, next_step="put it there, or fix the path"
            ) from None
        with _closing(descriptor):
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise Outside("it is no regular file")
            real = os.path.realpath(path)
            now = os.stat(real, follow_symlinks=False)
            if (now.st_dev, now.st_ino) != (state.st_dev, state.st_ino):
                raise Outside("it was exchanged while it was opened")
            if not _within(real, self._root):
                raise Outside("a link that leads out of the source's folder")
            if state.st_nlink > 1:
                raise Outside("a hard link: its content has another place, which nobody can tell")
            if self._ours(real):
                raise Outside("a file of this installation's own")
            with open(descriptor, "rb", closefd=False) as file:
                yield file

    def _ours(self, real: str) -> bool:
        """Returns whether a file is part of this installation's state: its database, logins, keys, artifacts, logs."""
        if any(_within(real, place) for place in self._own):
            return True
        # The use cases may stand in the home folder; nothing else there is a document.
        usecase = self._usecases != self._home and _within(real, self._usecases)
        return _within(real, self._home) and not usecase


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _within(path: str, folder: str) -> bool:
    """Returns whether a path is a folder's or below it; both are absolute and resolved."""
    return path == folder or path.startswith(folder if folder.endswith(os.sep) else folder + os.sep)


def name(path: Path, folder: Path) -> str:
    """Returns what a file or a source is called in findings: its path, relative to the use case's folder where it
    stands in it."""
    known = path.relative_to(folder) if path.is_relative_to(folder) else path
    # A file's name may hold bytes that are not UTF-8; a finding's may not.
    return known.as_posix().encode("utf-8", "backslashreplace").decode()
