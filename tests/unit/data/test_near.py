"""Near duplicates: what is planted is found, and what is found is near."""

import random
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import near
from pipeline.data.components import components

pytestmark = pytest.mark.unit

QUESTIONS = [
    "",
    "Who may open the vault on the second floor after nine in the evening, and with whose key is it locked again?",
    "who may open the vault on the second floor after nine in the evening and with whose key is it locked AGAIN",
    "Who may open the vault on the second floor after nine in the evening, and with whose key is it locked then?",
    "Who may close the vault on the third floor before nine in the morning, and with which key is it opened again?",
    "Which form is it?",
]
VOCABULARY = [f"word{number}" for number in range(400)]


def similarity(one: str, other: str) -> float:
    mine, theirs = near.runs(one), near.runs(other)
    return len(mine & theirs) / len(mine | theirs)


def pairs(texts: list[str], fresh: list[bool] | None = None) -> list[tuple[int, int]]:
    """Returns the near pairs of texts."""
    sketches = pa.chunked_array([pa.array(near.sketches(texts), pa.binary(near.SKETCH))])
    return list(near.pairs(sketches, texts.__getitem__, None if fresh is None else np.array(fresh, dtype=bool)))


def test_planted_pairs_are_found_and_no_others() -> None:
    chance = random.Random(7)
    texts, planted = [], []
    for _ in range(600):
        words = chance.choices(VOCABULARY, k=chance.randint(30, 200))
        texts.append(" ".join(words))
        if chance.random() < 0.5:
            for place in chance.sample(range(len(words)), k=max(1, len(words) * chance.randint(1, 8) // 200)):
                words[place] = chance.choice(VOCABULARY)
            texts.append(" ".join(words))
            if similarity(*texts[-2:]) >= near.THRESHOLD:
                planted.append((len(texts) - 2, len(texts) - 1))
    assert len(planted) > 150
    assert pairs(texts) == planted


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), max_size=12))
def test_every_pair_that_is_found_is_near_and_equal_texts_are_found(texts: list[str]) -> None:
    found = pairs(texts)
    assert all(one < other and similarity(texts[one], texts[other]) >= near.THRESHOLD for one, other in found)
    together = components(len(texts), found)
    for one, other in combinations(range(len(texts)), 2):
        if texts[one] == texts[other] and texts[one].strip():
            assert together[one] == together[other]


def test_what_is_many_times_alike_goes_together_and_is_looked_at_a_few_times() -> None:
    chance = random.Random(11)
    words = chance.choices(VOCABULARY, k=120)
    texts = []
    for _ in range(400):
        changed = list(words)
        changed[chance.randrange(len(words))] = chance.choice(VOCABULARY)
        texts.append(" ".join(changed))
    found = pairs(texts)
    assert set(components(len(texts), found)) == {0}
    assert len(found) < 20 * len(texts)


@given(st.lists(st.tuples(st.sampled_from(["a b c d", "a b c d e", "x", "y z"]), st.booleans()), max_size=8))
def test_only_pairs_with_a_fresh_row_are_looked_at_where_that_is_given(rows: list[tuple[str, bool]]) -> None:
    texts, fresh = [text for text, _ in rows], [new for _, new in rows]
    assert pairs(texts, fresh) == [(one, other) for one, other in pairs(texts) if fresh[one] or fresh[other]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "What is the fee for a card that was lost abroad, and who pays it?",
            "what is the FEE for a card that was lost abroad and who pays it",
        ),
        ("hand\u00adling fee", "Handling fee."),
    ],
)
def test_case_signs_and_what_is_not_seen_make_no_difference(one: str, other: str) -> None:
    assert pairs([one, other]) == [(0, 1)]


def test_texts_without_words_are_near_to_none() -> None:
    assert pairs(["", " ", "\u200b", "", "..."]) == []


@given(st.lists(st.sampled_from(QUESTIONS), max_size=8), st.lists(st.sampled_from(QUESTIONS), max_size=4))
def test_rows_beside_other_texts_are_those_that_are_near_to_one(texts: list[str], others: list[str]) -> None:
    sketches = pa.chunked_array([pa.array(near.sketches(texts), pa.binary(near.SKETCH))])
    expected = [
        place
        for place, text in enumerate(texts)
        if text.strip() and any(other.strip() and similarity(text, other) >= near.THRESHOLD for other in others)
    ]
    assert list(near.beside(sketches, texts.__getitem__, others)) == expected
