"""Provenance: which rows a model or a program wrote, from which prompt, when, and whether a person read them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pipeline.data.rows import Damaged
from pipeline.usecase import GeneratedBy

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELDS = ("by", "prompt_digest", "written_on", "checked_by")


@dataclass(frozen=True)
class Generated:
    """Who or what wrote a row that no person wrote."""

    by: str  # the model or the program
    prompt_digest: str | None = None  # SHA-256
    written_on: str | None = None  # ISO date
    checked_by: str | None = None  # the person who read it; None where nobody did


@dataclass(frozen=True)
class GeneratedShare:
    """How much of a version was generated."""

    rows: int
    checked: int  # of these: read by a person
    by: Mapping[str, int]


def of_source(described: GeneratedBy | None) -> Generated | None:
    """Returns what a source says of all its rows."""
    if described is None:
        return None
    day = None if described.written_on is None else described.written_on.isoformat()
    return Generated(described.by, described.prompt_digest, day, described.checked_by)


def of_row(value: Any, source: Generated | None) -> Generated | None:
    """Returns what a row says of itself in `generated`: `false` that a person wrote it, an object by what it was
    written; without it, what its source says. Raises Damaged for anything else."""
    if value is None or value is True:
        if value is True and source is None:
            raise Damaged("wrong_type", "generated says by what: {by, prompt_digest, written_on, checked_by}")
        return source
    if value is False:
        return None
    if not isinstance(value, dict) or not value.keys() <= set(_FIELDS) or not value.get("by"):
        raise Damaged("wrong_type", "generated is false or {by, prompt_digest, written_on, checked_by}")
    parts = {name: part for name, part in value.items() if part is not None}
    if not all(isinstance(part, str) and 0 < len(part) <= 200 for part in parts.values()):
        raise Damaged("wrong_type", "a field of generated is a text of 200 characters at most")
    if "prompt_digest" in parts and not _DIGEST.fullmatch(parts["prompt_digest"]):
        raise Damaged("wrong_type", "generated.prompt_digest is a SHA-256 in hexadecimal")
    if "written_on" in parts:
        try:
            parts["written_on"] = date.fromisoformat(parts["written_on"]).isoformat()
        except ValueError:
            raise Damaged("wrong_type", "generated.written_on is a date such as 2026-11-26") from None
    return Generated(**parts)


def share(rows: Iterable[Generated | None]) -> GeneratedShare:
    """Returns how many of the rows were generated, by what, and how many of these a person read."""
    known = [row for row in rows if row is not None]
    by = dict(sorted(Counter(row.by for row in known).items()))
    return GeneratedShare(len(known), sum(row.checked_by is not None for row in known), by)
