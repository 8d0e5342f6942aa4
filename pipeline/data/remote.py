"""Files of rows that stand elsewhere, read through fsspec as they come."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import BadInput, NotAvailable
from pipeline.usecase import SCHEMES, Url

_BLOCK = 1 << 20  # bytes that are asked for at a time
_SILENCE = 60.0  # seconds that a server may keep anybody waiting


def require(url: str) -> str:
    """Returns the URL. Raises BadInput for one that is not read; see `Url`."""
    try:
        return TypeAdapter(Url).validate_python(url)
    except ValidationError:
        # What was given is not shown: it may hold a password.
        raise BadInput(
            "this URL is not read",
            allowed=f"one file's, by {', '.join(SCHEMES)}, without a login, a query and a fragment",
            next_step="let the login come from the environment, as the fsspec package for this kind of URL reads it",
        ) from None


@contextmanager
def opened(url: str) -> Iterator[BinaryIO]:
    """Yields the bytes that stand at a URL, to be read once from the beginning.

    Raises NotAvailable where they cannot be read, here or in the middle.
    """
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0]
    web = scheme in ("http", "https")
    try:
        system, path = url_to_fs(url, **(_web_options() if web else {}))
        # The web's as a stream: not every server gives parts of a file.
        file = system.open(path, "rb", block_size=0 if web else _BLOCK)
    except ImportError as error:
        raise NotAvailable(
            f"{scheme}:// cannot be read here",
            where=url,
            found=error,
            next_step="install the package that it names beside Nightshift",
        ) from None
    except Exception as error:  # each of fsspec's packages raises errors of its own
        raise _unread(url, error) from None
    with file:
        yield cast("BinaryIO", io.BufferedReader(_Remote(url, file), _BLOCK))


class _Remote(io.RawIOBase):
    """A file elsewhere, whose failures have one name."""

    def __init__(self, url: str, file: BinaryIO) -> None:
        self._url, self._file = url, file

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Returns how many bytes were read into the buffer; none at the end."""
        try:
            block = self._file.read(len(buffer))
        except Exception as error:  # as above
            raise _unread(self._url, error) from None
        buffer[: len(block)] = block
        return len(block)


def _web_options() -> Mapping[str, Any]:
    import aiohttp

    # A large file takes longer than the five minutes after which fsspec would end it.
    limits = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    return {"client_kwargs": {"timeout": limits, "trust_env": True}}


def _unread(url: str, error: Exception) -> NotAvailable:
    # Not what the library says of it: that may hold where a server sent it on to, with a signature.
    status = getattr(error, "status", None)
    return NotAvailable(
        "the file cannot be read",
        where=url,
        found=type(error).__name__ if status is None else f"{type(error).__name__}, status {status}",
        next_step="see that it is there, and that this machine may read it",
    )
