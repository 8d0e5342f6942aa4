"""What pydantic found wrong, as a person would say it."""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import BadInput, nearest

_URL = re.compile(r":/.*", re.DOTALL)


def bad_input(error: ValidationError, model: type[BaseModel], where: Path | str, *, private: bool = False) -> BadInput:
    """Returns the first mistake in something that should have been a `model`; the others are counted.

    An unknown key or a value outside a list comes with the nearest that is known. What of a URL may be a secret is left
    out; `private`: no value is repeated, only keys.
    """
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "all of it"
    value: Any = None if private else first.get("input")
    allowed: str | None = first["msg"].removeprefix("Value error, ")
    what = "a value is not allowed"
    if first["type"] == "extra_forbidden":
        what, value = "unknown key", first["loc"][-1]
        allowed = nearest(str(value), _fields_at(model, first["loc"][:-1]))
    elif first["type"] == "missing":
        what, value = "a key is missing", None
    elif first["type"] == "literal_error":
        options = [option.strip("' ") for option in str(first["ctx"]["expected"]).replace(" or ", ", ").split(",")]
        allowed = nearest(str(first["input"]), options)
    if ":/" in str(value):  # what follows may hold a password, wherever it ends
        value = _URL.sub("://***", str(value))
    others = len(error.errors()) - 1
    return BadInput(
        what,
        where=f"{where}: {key}",
        found=value,
        allowed=allowed,
        next_step=f"fix this one first; {others} more were found" if others else None,
    )


def _fields_at(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """Returns the keys that the model at this place knows."""
    for part in location:
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, BaseModel):
            model = _inner(model.model_fields[part].annotation) if part in model.model_fields else model
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _inner(annotation: Any) -> Any:
    """Returns the model inside a container's annotation, or the annotation."""
    for argument in getattr(annotation, "__args__", ()):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return annotation
