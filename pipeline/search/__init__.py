"""Search with access control, by vectors and by words. The gateway opens a session for a principal; the search runs
under a role that can do nothing but search; what comes back is what the session's rights allow, and is written down."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from pgvector import HalfVector

from pipeline import database
from pipeline.database import Role
from pipeline.errors import BadInput, NotAvailable, Refused, nearest
from pipeline.prompt import Passage
from pipeline.search.embedder import Embedder
from pipeline.settings import Settings
from pipeline.steps import Version
from pipeline.usecase import Purpose, UseCase

_LIFETIME = "10 minutes"
_RENEWED_SECONDS = 480.0  # a searcher that lives longer than its session opens another


@dataclass(frozen=True)
class Hit:
    """One chunk that was found."""

    document: str
    version: int  # catalog.document_version_id
    chunk: int  # within its generation
    score: float  # cosine similarity, −1 to 1; the order of hits is by their words, too
    text: str


@dataclass(frozen=True)
class Answer:
    """What a search returned."""

    results: Sequence[Hit]  # the best first
    route: str  # exact, hnsw, empty or refused
    audit_id: int

    @property
    def passages(self) -> list[Passage]:
        """Returns the hits as passages for a prompt."""
        return [Passage(hit.document, hit.text) for hit in self.results]


class Searcher:
    """An open session of one principal: a connection, a token and an embedder that is loaded once.

    Searches what is live or, with `index`, one generation by its artifact version (the evaluator's right).
    """

    def __init__(
        self,
        settings: Settings,
        usecase: UseCase,
        principal: str,
        *,
        role: Role = "evaluator",
        gateway: Role = "evaluator",
        index: Version | None = None,
        embedder: Embedder | None = None,
        purpose: Purpose = "evaluate",
    ) -> None:
        """Raises BadInput for an unknown principal, and NotAvailable where the generation does not stand."""
        _known(usecase, principal)
        self.embedder = embedder or Embedder(settings.device)
        self._open = partial(_open, settings, gateway, usecase.name, principal, purpose)
        self._token, self._opened = self._open(), time.monotonic()
        self._connection = database.connect(settings, role)
        try:
            self._generation = None if index is None else self._find(usecase, index)
        except NotAvailable:
            self._connection.close()
            raise

    def search(self, text: str, k: int) -> Answer:
        """Returns the k chunks that fit best among those that the principal may see, the best first."""
        return self.search_all([text], k)[0]

    def search_all(self, texts: Sequence[str], k: int) -> list[Answer]:
        """Returns one answer for each text; they are embedded together."""
        return [
            self._run(text, HalfVector(vector), k)
            for text, vector in zip(texts, self.embedder.encode(texts), strict=True)
        ]

    def _run(self, text: str, embedding: HalfVector, k: int) -> Answer:
        if time.monotonic() - self._opened > _RENEWED_SECONDS:
            self._token, self._opened = self._open(), time.monotonic()
        given: dict[str, Any] = {"token": self._token, "embedding": embedding, "text": text, "k": k}
        # Two statements, each its own transaction: the text is given against the search's committed audit row.
        if self._generation is None:
            search = database.fetch_one(self._connection, "retrieval", "search", **given)
        else:
            search = database.fetch_one(
                self._connection, "retrieval", "search_generation", generation=self._generation, **given
            )
        assert search is not None
        if search["route"] == "refused":
            raise Refused("the search was refused", found=search["reason"], where=f"audit row {search['audit_id']}")
        reading = {"token": self._token, "audit": search["audit_id"], "embedding": embedding}
        rows = database.fetch(self._connection, "retrieval", "read_hits", **reading) if search["chunk_ids"] else []
        hits = [
            Hit(row["document_key"], row["document_version_id"], row["chunk_id"], row["score"], row["body"])
            for row in rows
        ]
        return Answer(hits, search["route"], search["audit_id"])

    def _find(self, usecase: UseCase, index: Version) -> int:
        row = database.fetch_one(
            self._connection, "retrieval", "generation_of", use_case=usecase.name, version=index.version_id
        )
        if row is None:
            raise NotAvailable(
                f"the index generation {index.digest[:12]} no longer exists",
                where=f"use case {usecase.name}",
                next_step=f"`nightshift index sync {usecase.name}` builds it again",
            )
        return int(row["generation_id"])

    def close(self) -> None:
        """Ends the connection. The session ends by itself."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def search(settings: Settings, usecase: UseCase, text: str, principal: str, k: int) -> Answer:
    """Returns what the live index gives a principal of the use case.

    Raises BadInput for an unknown principal, naming the nearest.
    """
    with Searcher(settings, usecase, principal, role="retriever", gateway="pipeline", purpose="rag") as searcher:
        return searcher.search(text, k)


def _open(settings: Settings, gateway: Role, use_case: str, principal: str, purpose: Purpose) -> str:
    with database.connect(settings, gateway) as connection:
        (row,) = database.call(connection, "rag.open_session", use_case, principal, _LIFETIME, purpose)
    return str(row["open_session"])


def _known(usecase: UseCase, principal: str) -> None:
    if principal not in usecase.principals:
        raise BadInput(
            "unknown principal",
            where=f"usecases/{usecase.name}/usecase.yaml: principals",
            found=principal,
            allowed=nearest(principal, usecase.principals) or "none yet",
        )
