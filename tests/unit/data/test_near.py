"""Near duplicates: what is planted is found, and what is found is near."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import near

pytestmark = pytest.mark.unit

VOCABULARY = [f"word{number}" for number in range(400)]


def similarity(one: str, other: str) -> float:
    mine, theirs = near.runs(one), near.runs(other)
    return len(mine & theirs) / len(mine | theirs)


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
    assert near.pairs(texts) == planted


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), max_size=12))
def test_every_pair_that_is_found_is_near_and_equal_texts_are_found(texts: list[str]) -> None:
    found = near.pairs(texts)
    assert all(one < other and similarity(texts[one], texts[other]) >= near.THRESHOLD for one, other in found)
    equal = {
        (one, other)
        for other in range(len(texts))
        for one in range(other)
        if texts[one] == texts[other] and texts[one].strip()
    }
    assert equal <= set(found)


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
    assert near.pairs([one, other]) == [(0, 1)]


def test_texts_without_words_are_near_to_none() -> None:
    assert near.pairs(["", " ", "\u200b", "", "..."]) == []
