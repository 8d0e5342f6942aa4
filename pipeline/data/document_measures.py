"""Measures of documents: the lengths, names and counts that rules speak of. Never text."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from pipeline.data import texts
from pipeline.data.documents import Document
from pipeline.data.marks import mark
from pipeline.data.measures import Measures, of_problem
from pipeline.data.normal import digest, normal
from pipeline.usecase import Checks


def of_documents(
    documents: Sequence[Document],
    erased: Callable[[Document], bool],
    checks: Checks,
    known: Mapping[str, Measures] | None = None,
) -> list[Measures]:
    """Returns the measures of each document; None where it could not be read. `known` are what texts were found to hold
    before, by the digests of their documents."""
    repeats = _Repeats()
    rows = []
    for row in documents:
        measures: Measures = {**dict.fromkeys(MEASURES), **of_problem(row)}
        if row.text is not None:
            measures |= {
                "erased": "erased" if erased(row) else None,
                "key": row.key or "",
                "repeats": repeats.of({"id": row.key or "", "text": digest(row.text)}),
                "tenant": row.tenant,
                "classification": row.classification,
                "groups": 0 if any(not group.strip() for group in row.groups) else len(row.groups),
                "group_bytes": sum(len(group.encode()) for group in row.groups),
                "controls": sum(_CONTROL.search(text) is not None for text in (*_named(row), *row.groups)),
                "longest": max(len(text) for text in _named(row)),
                "years": " ".join(date[:4] for date in (row.fresh_until, row.retain_until) if date),
                "status": row.status,
                "characters": len(normal(row.text)),
                **((known or {}).get(row.digest) or texts.of_document(row, checks)),
            }
        rows.append(measures)
    return rows


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def _named(row: Document) -> tuple[str, ...]:
    return row.title, row.owner, row.source or "", row.subject or ""


MEASURES = (
    "problem",
    "erased",
    "key",
    "repeats",
    "tenant",
    "classification",
    "groups",
    "group_bytes",
    "controls",
    "longest",
    "years",
    "status",
    "characters",
    *texts.OF_DOCUMENTS,
)


class _Repeats:
    """Remembers what was seen before, by several names of sameness: sixteen bytes of each, not the text."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def of(self, names: Mapping[str, str]) -> str | None:
        """Returns the first kind of sameness that was met before, and remembers all of them."""
        marks = {kind: mark(f"{kind}\n{value}") for kind, value in names.items()}
        met = next((kind for kind, each in marks.items() if each in self.seen), None)
        self.seen.update(marks.values())
        return met


def statuses(documents: Collection[Document]) -> dict[str, str]:
    """Returns id to status of documents."""
    return {row.key: row.status for row in documents if row.key is not None}
