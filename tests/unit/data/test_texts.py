"""What texts hold, measured: abuse by who says it in a row, and everything of documents."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import document_measures, rules, texts
from pipeline.data.documents import Document
from pipeline.data.layouts import Content
from pipeline.data.rows import Problem
from pipeline.usecase import Checks, DocumentChecks
from pipeline.usecase.data import RuleAction

pytestmark = pytest.mark.unit

INSULT = "You are an idiot."
KEY = "-----BEGIN RSA PRIVATE KEY-----"
ROW = Document("limits.md", 1, "limits", "Limits", "The limit is 10 EUR.", "main", "internal", ("staff",), "someone")
# A text that breaks each rule, and no other.
BREAKS = {
    "credentials": f"It begins with {KEY} and goes on.",
    "personal_data": "Write to ada.lovelace@mail.example.org for it.",
    "abuse": INSULT,
    "other_language": "Der Kunde kann sich schriftlich beschweren; die Bank antwortet binnen fünfzehn Tagen darauf.",
    "debris": "One<br/>two",
    "mojibake": "The fianc\u00c3\u00a9 left.",
    "repetition": "The fee for it is due today. " * 20,
}


def conversation(*turns: str) -> Content:
    """Returns messages of a user and the assistant in turn."""
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]}


def pair(prompt: str, chosen: str, rejected: str) -> Content:
    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return {
        "prompt": turn("user", prompt),
        "chosen": turn("assistant", chosen),
        "rejected": turn("assistant", rejected),
    }


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        (conversation("Who?", INSULT), 1),
        (conversation(INSULT, "I am sorry to hear that."), 1),
        (conversation("Who?", "Ada.", INSULT, "I will kill you."), 2),
        (conversation(f"Classify the sentiment: {INSULT}", "negative"), 0),
        (conversation("Classify the sentiment: hello", INSULT), 1),
        (conversation("What does this slur mean?", 'Whoever says "kike" means a Jew.'), 0),
        (conversation("What does it mean?", 'Whoever says "kike" means a Jew.'), 1),
        (pair("Who?", "Ada.", INSULT), 0),
        (pair("Who?", INSULT, "Ada."), 1),
        (pair(INSULT, "I see.", "So are you."), 1),
    ],
)
def test_abuse_counts_by_who_says_it(content: Content, kinds: int) -> None:
    assert texts.abuse_of(content) == kinds


def broken(text: str, checks: Checks, **fields: Any) -> dict[str, str]:
    """Returns the rules that a document breaks, with their severities."""
    row = Document(**{**ROW.__dict__, "text": text, **fields})
    (measured,) = document_measures.of_documents([row], lambda _: False, checks)
    table = rules.for_documents(checks)
    return {rule.name: rule.severity for rule in table if not rule.test.holds(measured[rule.measure])}


ENGLISH = ("en",)


@pytest.mark.parametrize("name", BREAKS)
def test_what_a_document_holds(name: str) -> None:
    severity = "waiting" if name == "credentials" else "warning"
    assert broken(BREAKS[name], Checks(languages=ENGLISH)) == {name: severity}


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("action", get_args(RuleAction))
def test_the_use_case_says_what_becomes_of_it(name: str, action: str) -> None:
    checks = Checks(languages=ENGLISH, documents=DocumentChecks(**{name: action}))
    severities = {"reject": "rejected", "quarantine": "waiting", "report": "warning"}
    assert broken(BREAKS[name], checks) == ({} if action == "off" else {name: severities[action]})


def test_titles_are_read_too() -> None:
    assert broken("Text.", Checks(), title=KEY) == {"credentials": "waiting"}


def test_whoever_withdraws_a_document_is_not_kept_from_it() -> None:
    assert broken(BREAKS["credentials"], Checks(), status="withdrawn") == {}


def test_addresses_that_are_nobodys_own_and_languages_are_those_of_the_examples() -> None:
    assert broken(BREAKS["personal_data"], Checks(public_contacts=("*@mail.example.org",))) == {}
    assert broken(BREAKS["other_language"], Checks()) == {}
    assert broken(BREAKS["other_language"], Checks(languages=("de",))) == {}


def test_every_key_is_a_measure_and_a_rule() -> None:
    everything = Checks(documents=DocumentChecks(**dict.fromkeys(DocumentChecks.model_fields, "report")))
    named = {rule.name for rule in rules.for_documents(everything)}
    assert set(BREAKS) == set(texts.OF_DOCUMENTS) == rules.OF_DOCUMENT_TEXTS == named & rules.OF_DOCUMENT_TEXTS
    assert rules.OF_DOCUMENT_TEXTS <= rules.WAIVABLE, "all of it is a matter of judgement"


def test_what_cannot_be_read_has_no_measures_of_text() -> None:
    (measured,) = document_measures.of_documents(
        [Document("f.md", 1, None, problem=Problem("front_matter", "x"))], lambda _: False, Checks()
    )
    assert {measured[name] for name in texts.OF_DOCUMENTS} == {None}


@given(st.text(max_size=200), st.sampled_from(sorted(BREAKS)))
def test_a_place_holds_no_word_of_a_document(text: str, name: str) -> None:
    row = Document(**{**ROW.__dict__, "text": f"{text}{KEY}", "title": f"{text}{KEY}", "source": KEY, "subject": KEY})
    for rights in (True, False):
        place = row.place(Problem(name, "it holds something"), rights=rights)
        assert KEY not in str(place.as_dict())
        assert (place.file, place.line, place.key) == (row.file, row.line, row.key)
        assert (place.groups == row.groups) is rights
