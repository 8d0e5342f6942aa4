"""versions and diff: what the datasets of a use case were at any version, and what changed from one to another."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline import database
from pipeline.data import catalog, membership, splits
from pipeline.data.catalog import DatasetKind
from pipeline.database import Connection
from pipeline.errors import BadInput
from pipeline.settings import Settings
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class ListedVersion:
    """A version of a use case's examples or documents."""

    dataset: DatasetKind
    version: int
    digest: str
    rows: int
    added: int
    removed: int
    splits: Mapping[str, int]  # of documents: by status
    committed_at: datetime


@dataclass(frozen=True)
class Versions:
    """The versions of a use case."""

    use_case: str
    versions: Sequence[ListedVersion]  # the examples first, the newest version first


@dataclass(frozen=True)
class Changes:
    """Sorted pairs of row digest and split (of documents: status)."""

    added: Sequence[tuple[str, str]]
    removed: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Changed:
    """A row that went and the one that came in its place: of examples, one with the same question; of documents, one
    with the same id."""

    before: str  # digests
    after: str
    fields: Sequence[str]  # what differs between them, without a word of it


@dataclass(frozen=True)
class Difference:
    """What turns one version into another."""

    dataset: DatasetKind
    before: int
    version: int
    digest: str
    rows: int
    added: int
    removed: int
    splits: Mapping[str, int]
    changes: Changes
    changed: Sequence[Changed]  # pairs of a removed and an added row


def versions(settings: Settings, usecase: UseCase) -> Versions:
    """Returns the versions of a use case's examples and documents."""
    with database.connect(settings, "pipeline") as connection:
        rows = database.fetch(connection, "data", "versions", use_case=usecase.name)
    return Versions(usecase.name, [ListedVersion(**row) for row in rows])


def diff(
    settings: Settings, usecase: UseCase, before: int, after: int, dataset: DatasetKind = "examples"
) -> Difference:
    """Returns what turns one version into another; `before` 0 is the empty set. Raises BadInput where there is no such
    version."""
    with database.connect(settings, "pipeline") as connection:
        newest = catalog.standing(connection, usecase.name, dataset).version
        for number in (before, after):
            if not 0 <= number <= newest:
                raise BadInput(
                    f"the {dataset} of {usecase.name} have no such version",
                    found=number,
                    allowed=f"1 to {newest}" if newest else "none yet: `nightshift data commit` makes the first",
                )
        old = catalog.members(connection, usecase.name, dataset, before)
        new = catalog.members(connection, usecase.name, dataset, after)
        difference = membership.change(old, new)
        changed = _changed(connection, usecase.name, dataset, difference)
    return Difference(
        dataset,
        before,
        after,
        membership.digest(new),
        len(new),
        len(difference.added),
        len(difference.removed),
        membership.counts(new.values()),
        Changes(membership.listed(difference.added), membership.listed(difference.removed)),
        changed,
    )


def _changed(
    connection: Connection, use_case: str, dataset: DatasetKind, difference: membership.Change
) -> list[Changed]:
    """Returns the pairs of rows that stand for the same, by their digests. Of an erased row nothing is known."""
    if not difference.added or not difference.removed:
        return []
    removed, added = (
        _by_name(connection, use_case, dataset, sorted(rows)) for rows in (difference.removed, difference.added)
    )
    pairs = [
        (before, after)
        for name, rows in removed.items()
        for before, after in zip(rows, added.get(name, ()), strict=False)
        if before.digest != after.digest
    ]
    return sorted(
        (Changed(one.digest, other.digest, _differing(one.fields, other.fields)) for one, other in pairs),
        key=lambda each: (each.before, each.after),
    )


@dataclass(frozen=True)
class _Described:
    """A row, by what may differ between two of its name."""

    digest: str
    fields: Mapping[str, Any]


def _by_name(
    connection: Connection, use_case: str, dataset: DatasetKind, digests: Sequence[str]
) -> dict[str, list[_Described]]:
    """Returns the rows with these digests by what they stand for."""
    named: dict[str, list[_Described]] = defaultdict(list)
    for row in database.fetch(connection, "data", f"described_{dataset}", use_case=use_case, digests=list(digests)):
        digest = row.pop("digest")
        if dataset == "documents":
            named[row.pop("document_key")].append(_Described(digest, row))
        else:
            content = row.pop("content")
            named[splits.group(content)].append(_Described(digest, row | content))
    return named


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
