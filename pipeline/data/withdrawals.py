"""What a commit takes out of every index at once: documents that their source withdrew or has no more, and the old
version of those that fewer may read now. A new index would leave them out as well, but only once it is built.

A withdrawal counts for every version of its document that was seen by then, so that an old index cannot bring it back.
A document that its source has again, as it was, is therefore a new version."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline import canonical
from pipeline.data.catalog import Current, Seen
from pipeline.data.documents import Document
from pipeline.usecase import CLASSIFICATIONS

WITHDRAWN = "its source withdrew it"
GONE = "its source does not have it any more, or what it has now waits for a person"
TIGHTENED = "fewer may read it, or for a shorter time: its new version goes into the next index"


@dataclass(frozen=True)
class Documents:
    """The documents of a new corpus."""

    versions: Mapping[str, Document]  # by the digest of their version
    kept: Mapping[str, str]  # versions that stay whatever their source says, digest to status
    withdrawals: Mapping[str, str]  # ids to be withdrawn now, with the reason


def due(
    before: Mapping[str, Current], texts: Sequence[Document], kept: Collection[str] = frozenset()
) -> dict[str, str]:
    """Returns the documents to withdraw, id to reason, of those that could be quoted until now and are not kept."""
    now = {row.key: row for row in texts}
    reasons = {}
    for key, current in sorted(before.items()):
        if current.status != "approved" or key in kept:
            continue
        row = now.get(key)
        if row is None:
            reasons[key] = GONE
        elif row.status != "approved":
            reasons[key] = WITHDRAWN
        elif tightened(current, row):
            reasons[key] = TIGHTENED
    return reasons


def tightened(current: Current, row: Document) -> bool:
    """Returns whether somebody who may read the current version may not read the new one, not for as long, or not for
    what he could."""
    public = CLASSIFICATIONS[0]
    narrower = row.classification != public and (
        current.classification == public or not set(current.groups) <= set(row.groups)
    )
    higher = CLASSIFICATIONS.index(row.classification) > CLASSIFICATIONS.index(current.classification)
    sooner = row.fresh_until is not None and (current.fresh_until is None or row.fresh_until < current.fresh_until)
    unused = not set(current.uses) <= set(row.uses)
    return row.tenant != current.tenant or higher or narrower or sooner or unused


def returning(before: Mapping[str, Current], texts: Sequence[Document]) -> dict[str, str]:
    """Returns the approved documents, id to digest, that the current corpus does not hold as they are."""
    return {
        row.key: row.digest
        for row in texts
        if row.key is not None and row.status == "approved" and not _stands(before.get(row.key), row)
    }


def documents(
    before: Mapping[str, Current],
    texts: Sequence[Document],
    seen: Mapping[str, Seen],
    kept: Collection[str] = frozenset(),
) -> Documents:
    """Returns the versions of the documents and the withdrawals that are due. `seen` tells of those of `returning`
    whose version is known already; `kept` are ids that stay as they are."""
    withdrawals = due(before, texts, kept)
    versions = {}
    for row in texts:
        key = row.key or ""
        current, known = before.get(key), seen.get(key)
        if current is not None and _stands(current, row):
            versions[current.digest] = row
        elif known is not None and (known.withdrawn or key in withdrawals):
            count = known.withdrawals + (key in withdrawals)
            versions[canonical.digest({"document": row.digest, "withdrawals": count})] = row
        else:
            versions[row.digest] = row
    return Documents(versions, {before[key].digest: before[key].status for key in kept}, withdrawals)


def _stands(current: Current | None, row: Document) -> bool:
    return current is not None and current.content_digest == row.digest
