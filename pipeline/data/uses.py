"""Uses: what each source may be used for, as its use case says, and what of that is left for a row or a document."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import canonical
from pipeline.data import source_files, splits
from pipeline.data.documents import Document
from pipeline.data.splits import Split
from pipeline.usecase import USES, DocumentSource, ExampleSource, UseCase, narrowed


@dataclass(frozen=True)
class Described:
    """A source as its use case describes it."""

    source: str  # as rows and places call it
    uses: tuple[str, ...]
    description: Mapping[str, Any]  # what it holds, licence, owner, rights, sensitivity

    @property
    def digest(self) -> str:
        """Returns the digest of all that is said of the source: one that is described anew is a new one."""
        return canonical.digest({"uses": self.uses, **self.description})


def of_examples(usecase: UseCase, folder: Path) -> list[Described]:
    """Returns the sources of examples. One that is named twice may be used for what both entries say."""
    described: dict[str, Described] = {}
    for source in usecase.examples:
        name = source_files.name(source, folder)
        before = described.get(name)
        uses = narrowed(source.uses, USES if before is None else before.uses)
        described[name] = Described(name, uses, _said(source.kind, source))
    return list(described.values())


def of_documents(usecase: UseCase, folder: Path) -> list[Described]:
    """Returns the sources of documents."""
    return [
        Described(source_files.name(source, folder), narrowed(source.uses, USES), _said("documents", source))
        for source in usecase.documents
    ]


def in_force(
    standing: Mapping[str, Sequence[str]], read: Iterable[Document], taken: Iterable[Document]
) -> dict[str, Sequence[str]]:
    """Returns what each document may be used for, by id: as its source says where it is taken; where it waits for a
    person, no more than the version that stands, and nothing where none does."""
    known: dict[str, Sequence[str]] = dict(standing)
    known |= {row.key: narrowed(standing.get(row.key, ()), row.uses) for row in read if row.key is not None}
    return known | {row.key: row.uses for row in taken if row.key is not None}


def fitting(
    rows: Iterable[tuple[str, str, Iterable[str]]],
    sources: Iterable[Described],
    documents: Mapping[str, Iterable[str]],
) -> dict[str, frozenset[Split]]:
    """Returns the splits that each row may stand in, by digest: what its source may be used for, and each document that
    it speaks of. `rows` are digests with a source and documents each, `documents` the uses of those that there are, by
    id."""
    of_source = {source.source: source.uses for source in sources}
    known: dict[str, frozenset[Split]] = {}
    allowed = {uses: splits.allowed(uses) for uses in set(of_source.values())}
    for digest, file, keys in rows:
        uses = of_source[file]
        for key in keys:
            uses = narrowed(uses, documents.get(key, USES))
        known[digest] = allowed.setdefault(uses, splits.allowed(uses)) if keys else allowed[uses]
    return known


def _said(holds: str, source: DocumentSource | ExampleSource) -> dict[str, Any]:
    return {
        "holds": holds,
        "licence": source.licence,
        "owner": source.owner,
        "rights": source.rights,
        "sensitivity": source.sensitivity,
        # A source that is trained on once is described as before there were weights.
        **({"weight": source.weight} if isinstance(source, ExampleSource) and source.weight != 1 else {}),
    }
