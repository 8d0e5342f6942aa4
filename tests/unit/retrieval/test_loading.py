"""Manifests: equal content, equal digest, whatever the order it was found in."""

from collections.abc import Sequence
from datetime import date

import pytest

from pipeline import canonical
from pipeline.records import read
from pipeline.retrieval import loading
from pipeline.retrieval.chunking import Chunk, Chunker
from pipeline.retrieval.loading import Chunked, Document, Right
from pipeline.retrieval.records import Manifest

pytestmark = pytest.mark.unit

CHUNKER = Chunker(64, 1)


def entry(key: str, text: str = "text", groups: tuple[str, ...] = ("staff",), until: date | None = None) -> Chunked:
    right = Right("acme", "internal", groups)
    document = Document(key, 1, canonical.digest_text(key + text), "Title", text, right, until)
    return Chunked(document, [Chunk(0, text, canonical.digest_text(text))])


def manifest(entries: Sequence[Chunked]) -> Manifest:
    return loading.manifest(entries, CHUNKER, "e", "english")


def test_the_order_does_not_count() -> None:
    made = [manifest(entries) for entries in ([entry("a"), entry("b")], [entry("b"), entry("a")])]
    assert loading.digest(made[0]) == loading.digest(made[1])


@pytest.mark.parametrize(
    "other", [entry("b"), entry("a", "other"), entry("a", groups=("safety",)), entry("a", until=date(2030, 1, 1))]
)
def test_everything_that_is_served_counts(other: Chunked) -> None:
    assert loading.digest(manifest([entry("a")])) != loading.digest(manifest([other]))


@pytest.mark.parametrize(
    ("chunker", "embedder", "text_search"),
    [(CHUNKER, "f", "english"), (Chunker(65, 1), "e", "english"), (CHUNKER, "e", "german"), (CHUNKER, "e", None)],
)
def test_every_setting_counts(chunker: Chunker, embedder: str, text_search: str | None) -> None:
    other = loading.manifest([entry("a")], chunker, embedder, text_search)
    assert loading.digest(manifest([entry("a")])) != loading.digest(other)


def test_a_manifest_of_before_words_was_searched_by_vectors_alone() -> None:
    older = {"format": 1, "chunker": CHUNKER.identity(), "embedder": "e", "documents": []}
    assert read(Manifest, canonical.dumps(older).encode(), "x") == Manifest(CHUNKER.identity(), "e", None, [])


def test_a_manifest_holds_no_key_and_no_text() -> None:
    told = str(manifest([entry("secret-layoffs", "Nobody may know.")]))
    assert "secret-layoffs" not in told
    assert "Nobody" not in told


def test_a_document_is_served_on_its_last_day() -> None:
    assert entry("a", until=date(2030, 12, 31)).document.expires == date(2031, 1, 1)
    assert entry("a").document.expires is None
