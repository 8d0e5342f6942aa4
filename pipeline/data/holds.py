"""What stays served as it was: documents whose source has them in a form that cannot be taken, documents that more
people could read from now on, and sources that lost most of what they had. Nothing is dropped or widened in silence;
what a person has accepted goes through."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline import canonical
from pipeline.data.catalog import Current, Place, Waived
from pipeline.data.documents import Document
from pipeline.data.findings import Finding
from pipeline.data.withdrawals import tightened
from pipeline.usecase import CLASSIFICATIONS, Checks

_FEW = 10  # documents; so many may go from a source that keeps others


@dataclass(frozen=True)
class Catalogue:
    """What the database knows of the documents."""

    current: Mapping[str, Current]  # of the current corpus, by id
    last: Mapping[str, Current]  # the newest version of each document, also where the corpus does not hold it any more
    places: Mapping[str, Place]  # where each was read last
    accepted: Mapping[str, datetime]  # by the digest of what a person accepted: when
    confirmed: Waived = frozenset()  # rules, and the digests of what a person said stays out by them


@dataclass(frozen=True)
class Held:
    """What a commit takes, and what it leaves as it is."""

    texts: Sequence[Document]  # taken
    kept: frozenset[str]  # ids whose current version stays, whatever their source says
    findings: Sequence[Finding]

    @property
    def waiting(self) -> int:
        """Returns how many findings wait for a person."""
        return sum(finding.severity == "waiting" for finding in self.findings)


def hold(
    catalogue: Catalogue,
    texts: Sequence[Document],
    rejected: Sequence[Document],
    sources: Sequence[str],
    checks: Checks,
) -> Held:
    """Returns what is taken of these documents. `rejected` are those that the checks left out, `sources` the names of
    the sources that the YAML has."""
    widened = _widened(catalogue, texts, checks.max_widened)
    kept = {key for key in widened.kept if key in catalogue.current}
    taken = {row.key for row in widened.texts}
    broken = _rejected(catalogue, rejected, taken | kept)
    present = {row.key for row in [*texts, *rejected]}
    lost = _lost(catalogue, taken | kept | present | broken.kept, sources, checks.max_lost)
    return Held(
        widened.texts,
        frozenset(kept) | broken.kept | lost.kept,
        [*widened.findings, *broken.findings, *lost.findings],
    )


def widening(last: Current, row: Document) -> list[str]:
    """Returns what lets somebody read the new version who may not read the last one, each with before and after."""
    changes = []
    if row.tenant != last.tenant:
        changes.append(f"tenant {last.tenant} → {row.tenant}")
    if CLASSIFICATIONS.index(row.classification) < CLASSIFICATIONS.index(last.classification):
        changes.append(f"classification {last.classification} → {row.classification}")
    if not set(row.uses) <= set(last.uses):
        changes.append(f"uses {', '.join(last.uses) or 'none'} → {', '.join(row.uses)}")
    added = sorted(set(row.groups) - set(last.groups))
    if added and row.classification != CLASSIFICATIONS[0]:
        changes.append(f"groups {', '.join(last.groups)} → {', '.join(row.groups)}")
    return changes


def _widened(catalogue: Catalogue, texts: Sequence[Document], limit: int) -> Held:
    """Returns the documents without those that wait, since together they are more than the limit."""
    fresh: dict[str, tuple[Document, list[str]]] = {}
    for row in texts:
        last = catalogue.last.get(row.key or "")
        if row.key is None or last is None or row.status != "approved":
            continue
        changes = widening(last, row)
        if not changes:
            continue
        agreed = catalogue.accepted.get(row.digest)
        if agreed is None or agreed <= last.first_seen_at:
            fresh[row.key] = (row, changes)
    waits = len(fresh) > limit
    findings = [
        Finding(row.file, row.line, "rights_widened", "waiting" if waits else "warning", "; ".join(changes), row.digest)
        for row, changes in fresh.values()
    ]
    if not waits:
        return Held(texts, frozenset(), findings)
    # Where somebody loses a right at the same time, the old version cannot stay: nobody reads it until it is accepted.
    kept = {
        key
        for key, (row, _) in fresh.items()
        if key in catalogue.current and not tightened(catalogue.current[key], row)
    }
    return Held([row for row in texts if row.key not in fresh], frozenset(kept), findings)


def _rejected(catalogue: Catalogue, rejected: Iterable[Document], taken: set[str | None]) -> Held:
    """Returns the documents that rejected files stand for, as far as anyone can tell: by their id, or by where the
    document was read last. What was erased does not stay, nor a version that may be served no longer."""
    by_file = defaultdict(set)
    for key, place in catalogue.places.items():
        by_file[place.file].add(key)
    kept: set[str] = set()
    findings = []
    for row in rejected:
        if row.problem is not None and row.problem.rule == "erased":
            continue
        named = by_file[row.file] | ({row.key} if row.key else set())
        stands = {key for key in named if key in catalogue.current and key not in taken and key not in kept}
        stands = {key for key in stands if not _ended(catalogue, key, row)}
        kept |= stands
        findings += [
            Finding(
                row.file, row.line, "served_as_before", "warning", f"the document {key} stays served as it was", None
            )
            for key in sorted(stands)
        ]
    return Held((), frozenset(kept), findings)


def _ended(catalogue: Catalogue, key: str, row: Document) -> bool:
    """Returns whether a document's version ends although what its source has now is left out: where a person said of
    this very version that it stays out, or somebody loses the right to read it."""
    current = catalogue.current[key]
    if row.problem is not None and (row.problem.rule, current.content_digest) in catalogue.confirmed:
        return True
    # Without a tenant, nobody knows the rights of what was left out.
    return key == row.key and bool(row.tenant) and tightened(current, row)


def _lost(catalogue: Catalogue, present: set[str | None], sources: Sequence[str], limit: float) -> Held:
    """Returns the documents of sources that suddenly have none, or far fewer: an unmounted share looks like that."""
    had = defaultdict(set)
    for key, place in catalogue.places.items():
        if key in catalogue.current and catalogue.current[key].status == "approved":
            had[place.source].add(key)
    kept: set[str] = set()
    findings = []
    for source in sources:
        missing = had[source] - present
        all_of_them = bool(missing) and len(missing) == len(had[source])
        if not all_of_them and not (len(missing) >= _FEW and len(missing) > limit * len(had[source])):
            continue
        digest = canonical.digest({"source": source, "missing": sorted(missing)})
        if digest in catalogue.accepted:
            continue
        kept |= missing
        detail = f"{len(missing)} of {len(had[source])} documents are not there any more; they stay served as they were"
        findings.append(Finding(source, None, "source_emptied", "waiting", detail, digest))
    return Held((), frozenset(kept), findings)
