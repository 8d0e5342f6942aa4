"""Manifests: equal content, equal digest, whatever the order it was found in."""

from datetime import date

import pytest

from pipeline import canonical
from pipeline.retrieval import loading
from pipeline.retrieval.chunking import Chunk, Chunker
from pipeline.retrieval.loading import Chunked, Document, Right

pytestmark = pytest.mark.unit

CHUNKER = Chunker(64, 1)


def entry(key: str, text: str = "text", groups: tuple[str, ...] = ("staff",), until: date | None = None) -> Chunked:
    right = Right("acme", "internal", groups)
    document = Document(key, 1, canonical.digest_text(key + text), "Title", text, right, until)
    return Chunked(document, [Chunk(0, text, canonical.digest_text(text))])


def test_the_order_does_not_count() -> None:
    made = [loading.manifest(entries, CHUNKER, "e") for entries in ([entry("a"), entry("b")], [entry("b"), entry("a")])]
    assert loading.digest(made[0]) == loading.digest(made[1])


@pytest.mark.parametrize(
    "other", [entry("b"), entry("a", "other"), entry("a", groups=("safety",)), entry("a", until=date(2030, 1, 1))]
)
def test_everything_that_is_served_counts(other: Chunked) -> None:
    assert loading.digest(loading.manifest([entry("a")], CHUNKER, "e")) != loading.digest(
        loading.manifest([other], CHUNKER, "e")
    )


def test_chunker_and_embedder_count() -> None:
    base = loading.manifest([entry("a")], CHUNKER, "e")
    assert loading.digest(base) != loading.digest(loading.manifest([entry("a")], CHUNKER, "f"))
    assert loading.digest(base) != loading.digest(loading.manifest([entry("a")], Chunker(65, 1), "e"))


def test_a_manifest_holds_no_key_and_no_text() -> None:
    told = str(loading.manifest([entry("secret-layoffs", "Nobody may know.")], CHUNKER, "e"))
    assert "secret-layoffs" not in told
    assert "Nobody" not in told


def test_a_document_is_served_on_its_last_day() -> None:
    assert entry("a", until=date(2030, 12, 31)).document.expires == date(2031, 1, 1)
    assert entry("a").document.expires is None
