"""Poor texts are told from good ones; code, formulas and other scripts are not poor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import quality

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("<p>One</p><br/>two&nbsp;three", 4),
        ('<a href="x">link</a> and <span class="b">more</span>', 4),
        ("&#8217;s and &lt;b&gt;", 3),
        ("if a < b and c > d then x && y", 0),
        ("Use `<div>` for it:\n```html\n<p>text</p>\n```\n", 0),
        ("AT&T; R&D, <name> and <your answer>, List<String> x", 0),
        ("", 0),
    ],
)
def test_debris_of_pages(text: str, count: int) -> None:
    assert quality.debris(text) == count


@pytest.mark.parametrize(
    "text", ["fiancé", "naïve – “quoted” … café", "Größe: 5 €", "Привет", "日本語", "¿Qué?", "😀 ok", "x² ≤ √y"]
)
def test_letters_that_were_decoded_rightly_and_wrongly(text: str) -> None:
    assert not quality.mojibake(text)
    try:
        broken = f"He said: {text} and left.".encode().decode("cp1252")
    except UnicodeDecodeError:
        broken = f"He said: {text} and left.".encode().decode("latin-1")
    assert quality.mojibake(broken)


def test_the_replacement_character_is_what_is_left_of_letters() -> None:
    assert quality.mojibake("caf\ufffd")


def test_words_that_go_round() -> None:
    assert quality.repeated("I do not know what to say about this. " * 20) > 80
    assert quality.repeated("The fee is 10 EUR. " * 3) == 0, "it is too short to tell"
    prose = "A customer who wants to complain writes to the branch, which answers within fifteen days. "
    assert (
        quality.repeated(
            prose + "Where it cannot, it says why, and until when the customer hears more about the matter."
        )
        == 0
    )


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=60))
def test_a_share_is_a_share(words: list[str]) -> None:
    assert 0 <= quality.repeated(" ".join(words)) < 100


@pytest.mark.parametrize(
    ("text", "speaks"),
    [
        ("As an AI language model, I have no opinion.", True),
        ("I’m an AI and cannot feel.", True),
        ("I cannot assist with that request.", True),
        ("I was trained by OpenAI.", True),
        ("My knowledge cutoff is 2023.", True),
        ("The documents do not say so.", False),
        ("I cannot help noticing that the fee went up.", False),
        ("An AI act was passed; a language model is a product.", False),
    ],
)
def test_answers_that_speak_of_themselves(text: str, speaks: bool) -> None:
    assert quality.excuse(text) is speaks


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The customer may complain in writing, and the bank answers within fifteen days.", "en"),
        ("Der Kunde kann sich schriftlich beschweren; die Bank antwortet binnen fünfzehn Tagen.", "de"),
        ("Le client peut se plaindre par écrit, et la banque répond dans les quinze jours.", "fr"),
        ("El cliente puede reclamar por escrito y el banco responde en un plazo de quince días.", "es"),
        ("Yes, 15 days.", None),
        ("```\nfor x in range(10): print(x, x ** 2, x ** 3, sum(range(x)), file=sys.stderr)\n```", None),
    ],
)
def test_the_language_of_a_text(text: str, language: str | None) -> None:
    assert quality.language(text) == language
