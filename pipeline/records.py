"""Records as JSON: what stages hand on, what is stored as an artifact, and rows of the database.

A record is a frozen dataclass. `plain` makes JSON of it, `load` reads it again and checks every field's type; `write`
and `read` do the same for a stored file, which carries the version of its format, so that an older one can be read.
"""

import functools
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from pipeline import canonical, parsing
from pipeline.errors import BadInput, NotAvailable

T = TypeVar("T")
_KEY = "format"
# A stored record may be large: an evaluation has an entry a case.
_BOUNDS = parsing.Bounds(size=256 << 20, nodes=20_000_000)


class Stored(Protocol):
    """A record that is stored as a file."""

    FORMAT: ClassVar[int]  # counts from 1

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the fields of this format, from those of an older version."""
        ...


S = TypeVar("S", bound=Stored)


def plain(value: Any) -> Any:
    """Returns a value as JSON can hold it: a record as an object of its fields, times in ISO 8601, UTC."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, date):
        return (value.astimezone(UTC) if isinstance(value, datetime) else value).isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value) if isinstance(value, UUID | Path) else value


def load(kind: type[T], value: object) -> T:
    """Returns the record that `plain` made this of. Raises BadInput that names the first field which does not fit."""
    try:
        record: T = _adapter(kind).validate_python(value)  # type: ignore[arg-type]  # a class is hashable
        return record
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "all of it"
        raise BadInput(
            f"this is not a {kind.__name__}", where=place, allowed=first["msg"], next_step="run the step again"
        ) from None


def write(record: Stored) -> bytes:
    """Returns the bytes of a record's file, canonical JSON."""
    return canonical.dumps({_KEY: record.FORMAT, **plain(record)}).encode()


def read(kind: type[S], data: bytes, where: str) -> S:
    """Returns the record of a stored file, of this format or an older one.

    Raises BadInput, naming `where`, for a file that is none; NotAvailable for one of a later version than this.
    """
    try:
        value = parsing.parse_json(data, _BOUNDS)
    except parsing.ParseError as error:
        raise BadInput("this record cannot be read", where=where, found=error.problem) from None
    if not isinstance(value, dict):
        raise BadInput(f"this is not a {kind.__name__}", where=where, found=type(value).__name__, allowed="an object")
    version = value.pop(_KEY, 1)
    if not isinstance(version, int) or version < 1:
        raise BadInput("this record has no valid format", where=where, found=version, allowed=f"1 to {kind.FORMAT}")
    if version > kind.FORMAT:
        raise NotAvailable(
            "this record was written by a later version of Nightshift",
            where=where,
            found=f"format {version}",
            allowed=f"1 to {kind.FORMAT}",
            next_step="install that version",
        )
    try:
        return load(kind, value if version == kind.FORMAT else kind.upgrade(value, version))
    except BadInput as error:
        raise BadInput(
            f"{error.what}, format {version}",
            where=f"{where}: {error.details['where']}",
            allowed=error.details["allowed"],
        ) from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
