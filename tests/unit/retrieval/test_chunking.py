"""Chunking: whole sentences that fit, nothing lost, the same every time."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.retrieval import chunking
from pipeline.retrieval.chunking import Chunker, chunks, split
from pipeline.search.embedder import Embedder

pytestmark = pytest.mark.unit

EMBEDDER = Embedder()
# Words that make trouble: Hangul decomposes into several tokens, a long word is one unknown token, dots end sentences.
WORDS = st.one_of(
    st.sampled_from(
        ["leave", "Press", "a", "e.g.", "Dr.", "3.5", "end.", "Why?", "(see", "below)", "한국어", "日本語", "Ünïcode"]
    ),
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=30),
    st.integers(50, 600).map(lambda length: "x" * length),
)
BODIES = st.lists(
    st.one_of(
        st.lists(WORDS, min_size=1, max_size=60).map(" ".join),
        st.sampled_from(
            ["", "## Rules", "### More rules ###", "- an item of a list", "| a | table |", "```", "> quoted"]
        ),
    ),
    max_size=12,
).map("\n".join)
CHUNKERS = st.builds(Chunker, st.integers(16, 256), st.integers(0, 4))


def tokens(text: str) -> int:
    """Returns a text's tokens as the model sees it, with the two that open and close it."""
    return len(EMBEDDER.tokenizer.encode(text).ids)


def bodies(found: list[chunking.Chunk]) -> list[str]:
    """Returns the chunks' texts without their heading lines."""
    return [chunk.text.split("\n\n", 1)[1] if chunk.text.startswith("# ") else chunk.text for chunk in found]


@settings(max_examples=150, deadline=None)
@given(BODIES, CHUNKERS)
def test_no_chunk_is_longer_than_asked_for(body: str, chunker: Chunker) -> None:
    for chunk in chunks("A title", body, chunker, EMBEDDER.count):
        assert tokens(chunk.text) <= chunker.tokens


@settings(max_examples=150, deadline=None)
@given(BODIES, st.integers(16, 256))
def test_without_overlap_the_chunks_are_the_text(body: str, size: int) -> None:
    found = chunks("", body, Chunker(size, 0), EMBEDDER.count)
    wanted = [sentence.text for sentence in chunking.sentences("", body)]
    assert "".join("".join(bodies(found)).split()) == "".join("".join(wanted).split())


@settings(max_examples=100, deadline=None)
@given(BODIES, CHUNKERS)
def test_the_same_text_gives_the_same_chunks(body: str, chunker: Chunker) -> None:
    first = chunks("T", body, chunker, EMBEDDER.count)
    assert first == chunks("T", body, chunker, EMBEDDER.count)
    assert [chunk.ordinal for chunk in first] == list(range(len(first)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["Leave is granted.", "Ask your lead!", "The press has a guard?"]), min_size=1, max_size=40
    )
)
def test_sentences_stay_whole(written: list[str]) -> None:
    found = chunks("", " ".join(written), Chunker(24, 1), EMBEDDER.count)
    for text in bodies(found):
        assert all(sentence in written for _, sentence in split(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("See Dr. Smith, e.g. Monday. Then go.", ["See Dr. Smith, e.g. Monday.", "Then go."]),
        ("He was world No. 1 in 1995. Later not.", ["He was world No. 1 in 1995.", "Later not."]),
        ("Rates rose 3.5 percent. Then fell.", ["Rates rose 3.5 percent.", "Then fell."]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("A lost line break.Begins anew here.", ["A lost line break.", "Begins anew here."]),
        ("J. Smith wrote it. It is long.", ["J. Smith wrote it.", "It is long."]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert [sentence for _, sentence in split(text)] == expected


def test_headings_are_the_context() -> None:
    body = "Before.\n\n# Rules\nFirst.\n\n## Leave\nSecond.\n\n# Safety\nThird."
    found = chunks("Handbook", body, Chunker(64, 1), EMBEDDER.count)
    assert [chunk.text for chunk in found] == [
        "# Handbook\n\nBefore.",
        "# Handbook / Rules\n\nFirst.",
        "# Handbook / Rules / Leave\n\nSecond.",
        "# Handbook / Safety\n\nThird.",
    ]


def test_headings_never_crowd_the_text_out() -> None:
    body = "# " + "long heading " * 40 + "\nShort text."
    (chunk,) = chunks("Title", body, Chunker(32, 1), EMBEDDER.count)
    assert chunk.text == "# Title\n\nShort text."


def test_overlap_repeats_the_last_sentences() -> None:
    body = " ".join(f"Sentence number {n} stands here." for n in range(12))
    found = [
        [sentence for _, sentence in split(text)] for text in bodies(chunks("", body, Chunker(32, 2), EMBEDDER.count))
    ]
    assert len(found) > 2
    assert all(after[:2] == before[-2:] for before, after in pairwise(found))


def test_lists_tables_and_code_keep_their_lines() -> None:
    body = "Do this:\n- first\n- second\n\n```\nx = 1\n# no heading\n```\n| a | b |"
    (chunk,) = chunks("", body, Chunker(64, 0), EMBEDDER.count)
    assert chunk.text == "Do this:\n- first\n- second\nx = 1\n# no heading\n| a | b |"


@pytest.mark.parametrize("body", ["", "\n \n", "# Only a heading"])
def test_a_document_without_text_has_no_chunk(body: str) -> None:
    assert chunks("Title", body, Chunker(64, 1), EMBEDDER.count) == []


def test_the_digest_is_of_text_and_chunker() -> None:
    made = {
        chunks("T", "Same text.", chunker, EMBEDDER.count)[0].digest
        for chunker in (Chunker(64, 1), Chunker(65, 1), Chunker(64, 2))
    }
    assert len(made) == 3


def test_what_the_rules_give_is_pinned() -> None:
    """Fails when the rules give something else than before: raise chunking.RULES, then write the new digests here."""
    body = (
        "# One\nFirst sentence. Second one, e.g. this. Third.\n\n- item\n\nA lost break.Next begins here. "
        + "word " * 60
    )
    found = chunks("Title", body, Chunker(32, 1), EMBEDDER.count)
    pinned = (1, ["50c19931", "5e56fccd", "2adb1144", "b0089c98"])
    assert (chunking.RULES, [chunk.digest[:8] for chunk in found]) == pinned
