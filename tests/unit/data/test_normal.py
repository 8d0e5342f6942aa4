"""The form in which texts are compared: what the eye does not see makes no difference, and everything else does."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import normal, splits

pytestmark = pytest.mark.unit

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(TEXT)
def test_it_is_the_same_for_its_own_result(text: str) -> None:
    once = normal.normal(text)
    assert normal.normal(once) == once


@given(TEXT, st.sampled_from(["\u00ad", "\u200b", "\u200d", "\u2060", "\ufeff", "\ufe0f", "\u202e", "\U000e0100"]))
def test_invisible_characters_make_no_difference_wherever_they_stand(text: str, unseen: str) -> None:
    for place in range(len(text) + 1):
        # Between a letter and its mark it would keep them apart, as the whole text says too.
        assert normal.normal(text[:place] + unseen + text[place:]) == normal.normal(text)


@given(TEXT, st.sampled_from(["NFC", "NFD"]))
def test_composed_and_decomposed_are_one_text(text: str, form: str) -> None:
    assert normal.normal(unicodedata.normalize(form, text)) == normal.normal(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a b", "a\u00a0b"),
        ("a b", "a \t\n b"),
        ("a", " a\u3000"),
        ("\u00e9", "e\u0301"),
        ("handling", "hand\u00adling"),
    ],
)
def test_two_writings_of_one_text(one: str, other: str) -> None:
    assert normal.normal(one) == normal.normal(other)
    assert normal.digest({"a": [one]}) == normal.digest({"a": [other]})


@pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("a", "A"), ("1.5", "15"), ("5", "\u0665"), ("e", "\u00e9")])
def test_two_texts(one: str, other: str) -> None:
    assert normal.normal(one) != normal.normal(other)


@pytest.mark.parametrize(
    "question", ["What is the hand\u00adling fee?", "What is\u200b the handling fee?", " what IS the handling fee"]
)
def test_one_question_has_one_split_however_it_is_written(question: str) -> None:
    groups = {
        splits.group({"messages": [{"role": "user", "content": text}]})
        for text in (question, "What is the handling fee?")
    }
    assert len(groups) == 1


@given(TEXT)
def test_a_skeleton_is_the_same_for_its_own_result(text: str) -> None:
    once = normal.skeleton(text)
    assert normal.skeleton(once) == once


@given(TEXT, st.sampled_from(["\u00ad", "\u200b", "\u2060", "\ufe0f", "\u202e", "\u0301", "\u0336", "\u20dd"]))
def test_invisible_characters_and_marks_make_no_difference_to_a_skeleton(text: str, added: str) -> None:
    for place in range(len(text) + 1):
        assert normal.skeleton(text[:place] + added + text[place:]) == normal.skeleton(text)


@given(st.text(st.characters(codec="ascii"), max_size=30))
def test_a_skeleton_of_ascii_is_its_lower_case(text: str) -> None:
    assert normal.skeleton(text) == normal.skeleton(text.upper()) == text.lower()


@pytest.mark.parametrize(
    ("text", "skeleton"),
    [
        ("Straße, Müller", "strasse, muller"),
        ("раураl", "paypal"),
        ("ΑΡΕ", "ape"),
        ("ｆｕｌｌ 𝖜𝖎𝖉𝖙𝖍 Ⓐ", "full width a"),
        ("it’s—a", "it's a"),
        ("中文", "中文"),
    ],
)
def test_what_is_drawn_alike_has_one_skeleton(text: str, skeleton: str) -> None:
    assert normal.skeleton(text) == skeleton
