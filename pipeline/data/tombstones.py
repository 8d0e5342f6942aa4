"""What was erased and must not come back. A tombstone is an HMAC: the list of what was erased says nothing of it to
whoever holds the database without the key."""

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pipeline import canonical, database
from pipeline.data import normal
from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.database import Connection
from pipeline.settings import Settings, secret

RowKind = Literal["example", "document", "subject", "document_key"]


@dataclass(frozen=True)
class Tombstones:
    """The tombstones of a use case, and the key to recognise what they stand for."""

    key: bytes
    use_case: str
    marks: frozenset[str]

    @property
    def digest(self) -> str:
        """Returns the digest of the list: what a step that leaves out erased rows depends on."""
        return canonical.digest(sorted(self.marks))

    def holds(self, row: Example | Document) -> bool:
        """Returns whether a row was erased: by its identity, by its content under any metadata, or by the names that it
        carries."""
        if row.problem is not None or not self.marks:
            return False
        return not self.marks.isdisjoint(
            mark(self.key, self.use_case, kind, digest) for kind, digest in identities(row)
        )


def read(settings: Settings, connection: Connection, use_case: str) -> Tombstones:
    """Returns the tombstones of a use case."""
    rows = database.fetch(connection, "data", "tombstones", use_case=use_case)
    return Tombstones(_key(settings), use_case, frozenset(row["hmac"] for row in rows))


def add(
    settings: Settings, connection: Connection, use_case: str, kind: RowKind, digests: Collection[str], reason: str
) -> int:
    """Returns how many tombstones are new. `digests` are those of `identities`: of rows, or of their content alone."""
    marks = [mark(_key(settings), use_case, kind, digest) for digest in digests]
    return database.execute(
        connection, "data", "add_tombstones", use_case=use_case, kind=kind, hmacs=marks, reason=reason
    )


def identities(row: Example | Document) -> list[tuple[RowKind, str]]:
    """Returns the digests under which a row is recognised: its own, that of its text, and that of what the eye sees of
    it, so that another way to write the same does not bring it back; and those of the names that it carries, for a
    person or a document that is forgotten whatever is written of it."""
    if isinstance(row, Example):
        own: list[tuple[RowKind, str]] = [
            ("example", digest) for digest in (row.digest, row.content_digest, row.normal_digest)
        ]
        person: list[tuple[RowKind, str]] = [("subject", name_digest(row.subject))] if row.subject else []
        return own + person + [("document_key", name_digest(key)) for key in row.documents]
    text: list[tuple[RowKind, str]] = [
        ("document", digest) for digest in (row.digest, row.text_digest, normal.digest(row.text))
    ]
    named: list[tuple[RowKind, str]] = [("document_key", name_digest(row.key))] if row.key else []
    about: list[tuple[RowKind, str]] = [("subject", name_digest(row.subject))] if row.subject else []
    return text + named + about


def name_digest(name: str) -> str:
    """Returns the digest of a person's or a document's name as the eye sees it."""
    return normal.digest(name)


def mark(key: bytes, use_case: str, kind: RowKind, digest: str) -> str:
    """Returns the HMAC-SHA256 that stands in catalog.tombstone for a digest, in hexadecimal."""
    return hmac.new(key, f"{use_case}\n{kind}\n{digest}".encode(), hashlib.sha256).hexdigest()


def _key(settings: Settings) -> bytes:
    return secret(settings.home / "tombstone.key").encode()
