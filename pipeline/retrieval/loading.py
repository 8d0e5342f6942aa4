"""What an index is made of: the documents of one corpus version, cut into chunks, and the manifest that names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pipeline import canonical, database, digests, steps
from pipeline.artifacts import ArtifactStore
from pipeline.database import Connection
from pipeline.errors import NotAvailable
from pipeline.records import read, write
from pipeline.retrieval import chunking
from pipeline.retrieval.chunking import Chunk, Chunker, Count
from pipeline.retrieval.records import Manifest, ManifestEntry
from pipeline.steps import Version
from pipeline.usecase import USES, UseCase

KIND = "index_generation"
NAME = "index"
FILE = "index.json"


@dataclass(frozen=True)
class Right:
    """A right to read, as documents carry it."""

    tenant: str
    classification: str
    groups: tuple[str, ...]  # sorted, each once
    uses: tuple[str, ...] = USES  # what for, in the order of USES

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Right":
        """Returns the right that a row of the database carries."""
        return cls(row["tenant"], row["classification"], tuple(row["groups"]), tuple(row["uses"]))


@dataclass(frozen=True)
class Document:
    """One document version of a corpus."""

    key: str
    version_id: int
    digest: str
    title: str
    body: str
    right: Right
    fresh_until: date | None  # the last day on which it is served

    @property
    def expires(self) -> date | None:
        """Returns the day, in UTC, at whose beginning the document is no longer served; None for never."""
        return None if self.fresh_until is None else self.fresh_until + timedelta(days=1)


@dataclass(frozen=True)
class Chunked:
    """A document with its chunks."""

    document: Document
    chunks: Sequence[Chunk]


def newest(connection: Connection, usecase: UseCase) -> Version:
    """Returns the newest corpus version. Raises NotAvailable where none was committed."""
    row = database.fetch_one(connection, "retrieval", "corpus", use_case=usecase.name)
    if row is None:
        raise NotAvailable(
            "no documents have been committed",
            where=f"use case {usecase.name}",
            next_step=f"`nightshift data commit {usecase.name}`",
        )
    return steps.version(connection, row["artifact_version_id"])


def documents(connection: Connection, corpus: int, digests: Sequence[str] | None = None) -> list[Document]:
    """Returns the documents of a corpus version that go into an index, by key; with `digests`, only those versions."""
    rows = database.fetch(
        connection, "retrieval", "documents", corpus=corpus, digests=None if digests is None else list(digests)
    )
    return [
        Document(
            row["document_key"],
            row["document_version_id"],
            row["digest"],
            row["title"],
            row["body"],
            Right.of(row),
            row["fresh_until"],
        )
        for row in rows
    ]


def chunker_of(usecase: UseCase) -> Chunker:
    """Returns the chunker that the use case asks for."""
    return Chunker(usecase.retrieval.chunk_tokens, usecase.retrieval.overlap_sentences)


def chunked(listed: Sequence[Document], chunker: Chunker, count: Count) -> list[Chunked]:
    """Returns the documents with their chunks."""
    return [Chunked(document, chunking.chunks(document.title, document.body, chunker, count)) for document in listed]


def manifest(entries: Sequence[Chunked], chunker: Chunker, embedder: str, text_search: str | None) -> Manifest:
    """Returns what an index generation holds, by digests."""
    listed = [
        ManifestEntry(
            document=canonical.digest_text(entry.document.key),
            version=entry.document.digest,
            tenant=entry.document.right.tenant,
            classification=entry.document.right.classification,
            groups=list(entry.document.right.groups),
            uses=list(entry.document.right.uses),
            fresh_until=None if entry.document.fresh_until is None else entry.document.fresh_until.isoformat(),
            chunks=[chunk.digest for chunk in entry.chunks],
        )
        for entry in entries
    ]
    ordered = sorted(listed, key=lambda entry: (entry.document, entry.version))
    return Manifest(chunker.identity(), embedder, text_search, ordered)


def files(content: Manifest) -> dict[str, bytes]:
    """Returns the files of a generation's artifact."""
    return {FILE: write(content)}


def digest(content: Manifest) -> str:
    """Returns the digest that a generation with this manifest has."""
    return digests.digest_of(KIND, files(content))


def chunk_digests(content: Manifest) -> list[str]:
    """Returns the digests of a manifest's chunks, sorted, each once."""
    return sorted({chunk for entry in content.documents for chunk in entry.chunks})


def read_manifest(store: ArtifactStore, generation: str) -> Manifest:
    """Returns the manifest of a stored generation."""
    return read(Manifest, store.read(KIND, generation, FILE), f"{KIND} {generation[:12]}")
