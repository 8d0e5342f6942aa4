"""Personal data is found by form and checksum, in whatever stands around it, and other numbers are left alone."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import personal
from pipeline.data.personal import Kind

pytestmark = pytest.mark.unit

PLANTED: list[tuple[Kind, str]] = [
    ("email", "ada.lovelace@mail.example.org"),
    ("email", "o'brien+news@sub.domain.co.uk"),
    ("email", "x@y.io"),
    ("phone", "+44 20 7946 0958"),
    ("phone", "+1 415-555-2671"),
    ("phone", "+49 30 901820"),
    ("phone", "(415) 555-2671"),
    ("phone", "020 7946 0958"),
    ("card", "4111 1111 1111 1111"),
    ("card", "4111-1111-1111-1111"),
    ("card", "5555555555554444"),
    ("card", "3782 822463 10005"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("iban", "FR14 2004 1010 0505 0001 3M02 606"),
    ("national_id", "536-90-4399"),
    ("national_id", "AB 12 34 56 C"),
    ("national_id", "756.9217.0769.85"),
    ("national_id", "390.533.447-05"),
    ("national_id", "54362315-K"),
    ("national_id", "RCCMNL83S18D969H"),
    ("national_id", "1 85 05 78 006 084 91"),
]
OTHERS = [
    "on 2026-11-26 at 12:30:05, 1,234,567.89 EUR and 10 000",
    "the sum + 62426244000 + 5336352000 is known",
    "IPv4 192.168.178.21, version 12.0.4567.89, ISBN 978-3-16-148410-0",
    "card 4111 1111 1111 1112 fails its checksum, 1111 1111 1111 1111 too",
    "DE89 3704 0044 0532 0130 01 is not an account",
    "article 12(3), section 5.1.2.3.4, lines 100-2000",
    "@property def x(self): return self.y @ z",
    "mail me at example dot org, or user@localhost",
    "EMAIL = 'your_email@example.com'; cc Ada <ADA@Example.ORG>, reader@example.net.",
    "000-00-0000 and 666-12-3456 were never given out",
    "0.1234567890123456 and 1e-10 and 3.141592653589793",
    "order 123456789012, tracking 1234567890123456789012",
    "phi = 1.6180339887 and 86400 seconds, 20261126T123005Z",
]


@pytest.mark.parametrize(("kind", "planted"), PLANTED)
@pytest.mark.parametrize(
    "around", ["{}", "Write to {}, please.", "Contact ({}) today", "value: {}\nnext line", "„{}“ steht da"]
)
def test_what_is_planted_is_found_where_it_stands(kind: Kind, planted: str, around: str) -> None:
    text = around.format(planted)
    found = personal.find(text, ("US", "GB"))
    assert [each.kind for each in found] == [kind]
    place = text.index(planted)
    assert found[0].start <= place + 1
    assert found[0].end == place + len(planted)


@pytest.mark.parametrize("text", OTHERS)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert personal.find(text, ("US", "GB")) == []


def test_digits_alone_are_an_id_or_a_number_only_where_a_word_says_so() -> None:
    for text, kind in (
        ("Her SSN is 536904399.", "national_id"),
        ("Steuer-ID: 36 574 261 809", "national_id"),
        ("BSN 111222333", "national_id"),
        ("call 4155552671 now", "phone"),
    ):
        assert [each.kind for each in personal.find(text, ("US",))] == [kind]
    assert personal.find("the counter stands at 536904399, the next at 4155552671, then 111222333", ("US",)) == []


def test_a_country_that_is_not_named_has_no_numbers_without_its_code() -> None:
    assert personal.find("(415) 555-2671") == []
    assert len(personal.find("+1 (415) 555-2671")) == 1


def test_addresses_of_nobody_are_redacted_all_the_same() -> None:
    text = "Write to ada@example.com or to ada@mail.example."
    assert [text[each.start : each.end] for each in personal.find(text)] == ["ada@mail.example"]
    assert personal.redacted(text, personal.find(text, examples=True)) == "Write to [email] or to [email]."


def test_what_is_public_is_nobodys_own() -> None:
    text = "Write to service@bank.example or to ada@mail.example, or call 00 800 5550 0142."
    found = personal.find(text, ("US", "GB"), ("*@bank.example", "00 800 *"))
    assert [text[each.start : each.end] for each in found] == ["ada@mail.example"]


@given(st.lists(st.sampled_from([planted for _, planted in PLANTED]), min_size=1, max_size=5))
def test_what_was_redacted_holds_nothing_any_more(planted: list[str]) -> None:
    text = "; then ".join(planted)
    redacted = personal.redacted(text, personal.find(text, ("US", "GB")))
    assert personal.find(redacted, ("US", "GB")) == []
    assert not any(each in redacted for each in planted)
    assert redacted.count("; then ") == len(planted) - 1, "the words around it stay"


@given(st.text(max_size=200))
def test_any_text_is_searched(text: str) -> None:
    found = personal.find(text, ("US", "GB"))
    assert all(0 <= each.start < each.end <= len(text) for each in found)
    assert all(one.end <= other.start for one, other in pairwise(found))


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=8), st.booleans())
def test_each_number_of_a_long_text_is_found_at_its_place(gaps: list[int], lines: bool) -> None:
    text, places = "", []
    for number, gap in enumerate(gaps):
        text += ("\n" if lines else " ") + "so it is " * gap + "call "
        places.append((len(text), len(text) + 16))
        text += f"+44 20 7946 0{100 + number}"
    assert [(each.start, each.end) for each in personal.find(text)] == places
