"""versions and diff: what the datasets of a use case were at any version, and what changed from one to another."""

from typing import Any

from pipeline import database
from pipeline.data import catalog, membership
from pipeline.data.catalog import DatasetKind
from pipeline.errors import BadInput
from pipeline.settings import Settings
from pipeline.usecase import UseCase


def versions(settings: Settings, usecase: UseCase) -> dict[str, Any]:
    """Returns {use_case, versions: [{dataset, version, digest, rows, added, removed, splits, committed_at}]}, the
    examples first, the newest version first. Of documents, `splits` are counts by status."""
    with database.connect(settings, "pipeline") as connection:
        rows = database.fetch(connection, "data", "versions", use_case=usecase.name)
    listed = [{**row, "committed_at": row["committed_at"].isoformat()} for row in rows]
    return {"use_case": usecase.name, "versions": listed}


def diff(
    settings: Settings, usecase: UseCase, before: int, after: int, dataset: DatasetKind = "examples"
) -> dict[str, Any]:
    """Returns what turns one version into another: {dataset, before, version, digest, rows, added, removed, splits,
    changes: {added, removed}}, the changes as sorted pairs of row digest and split. `before` 0 is the empty set.

    Raises BadInput where there is no such version.
    """
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
    return {
        "dataset": dataset,
        "before": before,
        "version": after,
        "digest": membership.digest(new),
        "rows": len(new),
        "added": len(difference.added),
        "removed": len(difference.removed),
        "splits": membership.counts(new.values()),
        "changes": {"added": membership.listed(difference.added), "removed": membership.listed(difference.removed)},
    }
