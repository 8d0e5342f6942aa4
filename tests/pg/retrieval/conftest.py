"""A use case whose documents the tests commit, and vectors without a model where their quality is not the point."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from pipeline import canonical, database, retrieval, steps
from pipeline import usecase as usecase_module
from pipeline.context import Context
from pipeline.search.embedder import DIMENSIONS, Embedder, Vectors
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Step, Version
from pipeline.usecase import USES, UseCase
from tests.conftest import own_installation, write_usecase

PRINCIPALS = {
    "clerk": {"tenant": "acme", "groups": ["staff"], "clearance": "internal"},
    "inspector": {"tenant": "acme", "groups": ["safety", "staff"], "clearance": "restricted"},
    "stranger": {"tenant": "other", "groups": ["staff", "safety"], "clearance": "restricted"},
}


@dataclass(frozen=True)
class Doc:
    """A document as a test says it."""

    text: str
    tenant: str = "acme"
    classification: str = "internal"
    groups: Sequence[str] = ("staff",)
    status: str = "approved"
    fresh_until: date | None = None
    title: str = "Title"
    uses: Sequence[str] = USES

    @property
    def digest(self) -> str:
        told: list[Any] = [self.text, self.tenant, self.classification, list(self.groups), self.status, self.title]
        return canonical.digest([*told, str(self.fresh_until), *([] if self.uses == USES else self.uses)])


DOCUMENTS = {
    "leave": Doc("Leave is granted on request. Ask your lead. The answer comes within a week."),
    "hazard": Doc(
        "The press has a guard. Never reach inside while it runs.", classification="restricted", groups=("safety",)
    ),
    "notice": Doc("The office is closed on Friday.", classification="public", groups=("everyone",)),
    "rival": Doc("Leave is granted by the other company's rules.", tenant="other"),
}


@dataclass
class Library:
    """The corpus of a use case, committed version by version as the data stage does."""

    settings: Settings
    usecase: UseCase
    documents: dict[str, Doc] = field(default_factory=dict)
    version: int = 0

    def commit(self, documents: Mapping[str, Doc]) -> Version:
        """Returns the artifact version of a new corpus version with these documents and no others."""
        self.version += 1
        digest = canonical.digest({key: doc.digest for key, doc in documents.items()})
        number = self.version
        self.documents = dict(documents)

        def work(attempt: Attempt) -> Result:
            def write(connection: database.Connection, outputs: Mapping[str, Version]) -> None:
                _write(connection, self.usecase.name, documents, number, digest, outputs["corpus"].version_id)

            output = Output("corpus", "documents", digest, None, 0, True)
            return Result({"corpus": output}, {}, write)

        spec = Step(self.usecase.name, "data.commit", "pipeline", ("pipeline.canonical",), {"n": number}, reuse="never")
        return steps.run(self.settings, Origin("cli", "tester"), spec, work).outputs["corpus"]


def _write(
    connection: database.Connection,
    use_case: str,
    documents: Mapping[str, Doc],
    number: int,
    digest: str,
    artifact: int,
) -> None:
    run = connection.execute
    run("insert into catalog.dataset (use_case, kind) values (%s, 'documents') on conflict do nothing", [use_case])
    found = run(
        "select dataset_id from catalog.dataset where use_case = %s and kind = 'documents'", [use_case]
    ).fetchone()
    assert found is not None
    dataset = found["dataset_id"]
    run("insert into catalog.dataset_version values (%s, %s, %s, %s, '{}')", [dataset, number, digest, artifact])
    wanted = []
    for key, doc in documents.items():
        run(
            "insert into catalog.document (use_case, document_key) values (%s, %s) on conflict do nothing",
            [use_case, key],
        )
        run(
            "insert into catalog.document_version (document_id, digest, text_digest, title, body, tenant,"
            " classification, groups, owner, status, fresh_until, uses)"
            " select document_id, %s, %s, %s, %s, %s, %s, %s, 'o', %s, %s, %s from catalog.document"
            " where use_case = %s and document_key = %s on conflict do nothing",
            [doc.digest, canonical.digest_text(doc.text), doc.title, doc.text, doc.tenant, doc.classification,
             list(doc.groups), doc.status, doc.fresh_until, list(doc.uses), use_case, key],
        )  # fmt: skip
        row = run(
            "select document_version_id as id from catalog.document_version join catalog.document using (document_id)"
            " where use_case = %s and document_key = %s and digest = %s",
            [use_case, key, doc.digest],
        ).fetchone()
        assert row is not None
        wanted.append(row["id"])
    run(
        "update catalog.document_member set removed_in = %s"
        " where dataset_id = %s and removed_in is null and document_version_id <> all (%s)",
        [number, dataset, wanted],
    )
    run(
        "insert into catalog.document_member (dataset_id, document_version_id, added_in) select %s, id, %s"
        " from unnest(%s::bigint[]) id on conflict do nothing",
        [dataset, number, wanted],
    )


RETRIEVAL = {"chunk_tokens": 32, "leak_principals": 40}


@pytest.fixture
def library(settings: Settings, usecase_folder: Callable[..., Path]) -> Library:
    """A use case with three principals and no documents yet."""
    folder = usecase_folder(principals=PRINCIPALS, retrieval=RETRIEVAL)
    return Library(settings, usecase_module.load(folder / "usecase.yaml"))


@pytest.fixture(scope="session")
def live_template(installation: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """The live index that tests get copies of."""
    with own_installation(installation, tmp_path_factory.mktemp("live")) as settings:
        folder = write_usecase(settings.usecases, principals=PRINCIPALS, retrieval=RETRIEVAL)
        made = Library(settings, usecase_module.load(folder / "usecase.yaml"))
        made.commit(DOCUMENTS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Embedder, "encode", lambda _self, texts: hashed_vectors(texts))
            assert retrieval.sync(Context(settings, made.usecase, Origin("cli", "tester"))).swapped is True
        yield made


@pytest.fixture
def live(live_template: Library, library: Library, hashed: list[int]) -> Library:
    """A use case whose index of four documents is live, in a copy of the database and of the store."""
    library.documents, library.version = dict(live_template.documents), live_template.version
    return library


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Vectors from the words' hashes instead of from the model. Returns the sizes of the batches that were encoded."""
    calls: list[int] = []

    def encode(_self: Embedder, texts: Sequence[str]) -> Vectors:
        calls.append(len(texts))
        return hashed_vectors(texts)

    monkeypatch.setattr(Embedder, "encode", encode)
    return calls


def hashed_vectors(texts: Sequence[str]) -> Vectors:
    """Returns the mean of one random direction a word, for each text."""
    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for place, text in enumerate(texts):
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
            vectors[place] += np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    found: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return found


def with_retrieval(usecase: UseCase, **keys: Any) -> UseCase:
    """Returns the use case with other retrieval settings."""
    return usecase.model_copy(update={"retrieval": usecase.retrieval.model_copy(update=keys)})


def changed(documents: Mapping[str, Doc], key: str, **fields: Any) -> dict[str, Doc]:
    """Returns the documents with one of them changed."""
    return {**documents, key: replace(documents[key], **fields)}


def rows(connection: psycopg.Connection[Any], statement: str, *values: Any) -> list[Any]:
    """Returns a statement's rows."""
    return connection.execute(statement.encode(), values).fetchall()
