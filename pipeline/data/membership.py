"""What a dataset version holds, as values: its digest, and what changes from one version to another."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.datasets import Members, digest, listed

__all__ = ["Change", "Members", "apply", "change", "counts", "digest", "listed"]


@dataclass(frozen=True)
class Change:
    """What turns one version into another. A row that changes its label is removed and added."""

    added: Members
    removed: Members

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def change(before: Members, after: Members) -> Change:
    """Returns what turns `before` into `after`."""
    return Change(_without(after, before), _without(before, after))


def apply(before: Members, difference: Change) -> dict[str, str]:
    """Returns the version that a change makes of `before`."""
    kept = {row: label for row, label in before.items() if difference.removed.get(row) != label}
    return kept | dict(difference.added)


def counts(labels: Iterable[str]) -> dict[str, int]:
    """Returns how many members have each label, by label."""
    return dict(sorted(Counter(labels).items()))


def _without(members: Members, others: Members) -> dict[str, str]:
    return {row: label for row, label in members.items() if others.get(row) != label}
