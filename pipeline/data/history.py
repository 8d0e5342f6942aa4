"""versions and diff: what the datasets of a use case were at any version, and what changed from one to another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline import database
from pipeline.data import catalog, membership
from pipeline.data.catalog import DatasetKind
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
    )
