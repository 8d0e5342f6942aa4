"""The splits of the rows of a commit: near duplicates in one, and rows that share a key. What would link two splits
stays out."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from pipeline.data import catalog, splits
from pipeline.data.candidates import Candidates
from pipeline.data.findings import Finding
from pipeline.data.splits import Split
from pipeline.database import Connection
from pipeline.usecase import Splits


@dataclass(frozen=True)
class Taken:
    """The rows of a commit that are taken, with their splits by digest."""

    labels: Mapping[str, Split]
    fresh: Mapping[str, Split]  # of groups that were never seen before
    findings: Sequence[Finding]
    unusable: frozenset[str]  # rows that may not be used for what their split is for


def take(
    connection: Connection,
    use_case: str,
    rows: Candidates,
    shares: Splits,
    fitting: Mapping[str, frozenset[Split]],
    standing: Mapping[str, str],
) -> Taken:
    """Returns the rows with their splits, without those that would link two splits, those that a row of the test split
    goes with since before that was known, and those that may not be used for what their split is for.

    `fitting` are the splits that each row may stand in, `standing` those that rows of the current version have: they
    keep them, unless another row goes with them.
    """
    linked = [(rows.groups[one], rows.groups[other]) for one, other in rows.near]
    keyed = [(rows.groups[place], key) for place, keys in rows.keys.items() for key in keys]
    together = {group for pair in linked for group in pair} | {group for group, _ in keyed}
    labels: dict[str, Split] = {}
    open_places = []
    for place, (digest, group) in enumerate(zip(rows.digests, rows.groups, strict=True)):
        split = standing.get(digest)
        if split in fitting[digest] and group not in together:
            labels[digest] = split
        else:
            open_places.append(place)
    names = {*(rows.groups[place] for place in open_places), *(key for _, key in keyed)}
    fixed = catalog.assignments(connection, use_case, names)
    unknown = _unassigned(rows, labels, names - fixed.keys())
    fixed |= unknown
    limits: dict[str, frozenset[Split]] = {}
    for place in open_places:
        group = rows.groups[place]
        limits[group] = limits.get(group, splits.ANY) & fitting[rows.digests[place]]
    settled = splits.settle(names, [*linked, *keyed], fixed, shares, limits)
    out = {
        "bridges_splits": (settled.bridging, "it goes with rows of different splits"),
        "straddles_splits": (splits.straddling(linked, keyed, fixed), "it goes with a row of the test split"),
    }
    findings: dict[str, list[Finding]] = {rule: [] for rule in (*out, "use")}
    unusable = set()
    for place in open_places:
        digest, group, at = rows.digests[place], rows.groups[place], (rows.files[place], rows.lines[place])
        broken = [rule for rule, (groups, _) in out.items() if group in groups]
        for rule in broken:
            findings[rule].append(Finding(*at, rule, "rejected", out[rule][1], digest))
        if broken:
            continue
        split = settled.splits[group]
        if split in fitting[digest]:
            labels[digest] = split
        else:
            unusable.add(digest)
            findings["use"].append(Finding(*at, "use", "rejected", _unusable(split), digest))
    listed = [each for rule in findings.values() for each in rule]
    return Taken(labels, {**settled.fresh, **unknown}, listed, frozenset(unusable))


def _unassigned(rows: Candidates, labels: Mapping[str, Split], groups: Set[str]) -> dict[str, Split]:
    """Returns the splits of those groups that have none, and a row that stands in one: another release may group rows
    otherwise. Where they stand in several, the test's: nobody may be trained on what it asks."""
    splits_of: dict[str, Split] = {}
    if groups:
        for digest, group in zip(rows.digests, rows.groups, strict=True):
            split = labels.get(digest)
            if split is not None and group in groups and splits_of.get(group) != "test":
                splits_of[group] = split
    return splits_of


def _unusable(split: Split) -> str:
    purpose = "evaluated on" if split == "test" else "trained on"
    return f"it stands in the {split} split, and its source or a document it speaks of may not be {purpose}"
