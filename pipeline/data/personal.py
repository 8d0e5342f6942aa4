"""Personal data in a text: e-mail addresses, telephone numbers, payment cards, bank accounts, national ids.

Recognised by form and, where there is one, by checksum (phonenumbers, python-stdnum). Names and addresses of people are
not: that would take a language model. A cheap look at a text's signs comes first, since most texts have none of it.
"""

import re
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from typing import Literal, NamedTuple

Kind = Literal["email", "phone", "card", "iban", "national_id"]

_EMAIL = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._%+'-]*[A-Za-z0-9_+-])?@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}"
)
# Second-level domains that are kept for examples (RFC 2606): nobody has an address there.
_NOBODY = re.compile(r"@example\.(?:com|net|org)\Z", re.IGNORECASE)
_PAIR = re.compile(r"\d\d")
_DIGITS = re.compile(r"\d(?:[^\w\n]{0,3}\d){6,}")
_AROUND = 20  # characters before and after digits that phonenumbers judges a number by
_CARD = re.compile(
    r"(?<![\w.,-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|[.,]\d)"
)
# Prefix and length by scheme, as they are issued today.
_CARD_SCHEME = re.compile(
    r"4(?:\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0|6|8|9)\d{12}|35\d{14}|6\d{15,18}"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}\b")
# By their form alone: a separator or a letter stands where no other number has one.
_FORMS: tuple[tuple[str, str], ...] = (
    ("us.ssn", r"\b\d{3}-\d{2}-\d{4}\b"),
    ("ch.ssn", r"\b756[. ]\d{4}[. ]\d{4}[. ]\d{2}\b"),
    ("br.cpf", r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b"),
    ("es.dni", r"\b\d{8}-?[A-Z]\b"),
    ("es.nie", r"\b[XYZ]-?\d{7}-?[A-Z]\b"),
    ("fr.nir", r"\b[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}\b"),
    ("se.personnummer", r"\b\d{6}[-+]\d{4}\b"),
)
# With fewer digits in a row than any other number here has.
_SHORT: tuple[tuple[str, str], ...] = (
    ("it.codicefiscale", r"\b[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]\b"),
    ("fi.hetu", r"\b\d{6}[-+A]\d{3}[0-9A-Y]\b"),
)
# Digits alone: only behind a word that says what they are.
_NAMED: tuple[tuple[str, str], ...] = (
    ("us.ssn", r"\b(?:ssn|social security)\D{0,30}(\d{9})\b"),
    (
        "de.idnr",
        r"\b(?:steuer-?id|(?:steuer)?identifikationsnummer|idnr|tax id)\D{0,30}(\d{2} ?\d{3} ?\d{3} ?\d{3})\b",
    ),
    ("nl.bsn", r"\b(?:bsn|burgerservicenummer)\D{0,30}(\d{9})\b"),
    ("pl.pesel", r"\bpesel\D{0,30}(\d{11})\b"),
    ("gb.nhs", r"\bnhs\D{0,30}(\d{3} ?\d{3} ?\d{4})\b"),
    ("in_.aadhaar", r"\baadhaar\D{0,30}(\d{4} ?\d{4} ?\d{4})\b"),
    ("ca.sin", r"\b(?:sin|social insurance)\D{0,30}(\d{3}[ -]?\d{3}[ -]?\d{3})\b"),
    ("au.tfn", r"\b(?:tfn|tax file)\D{0,30}(\d{3} ?\d{3} ?\d{3})\b"),
    ("br.cpf", r"\bcpf\D{0,30}(\d{11})\b"),
)
# The national insurance number has no checksum; python-stdnum has no module for it.
_NINO = re.compile(r"\b(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b")
_CALL = re.compile(r"\b(?:phone|tel|telephone|mobile|cell|fax|call|text|dial|whatsapp|reach)", re.IGNORECASE)
_SUM = re.compile(r"\+\s")  # what is added, and no code of a country
_NEAR = 40  # characters before a number in which a word may say that it is a telephone's


class Found(NamedTuple):
    """A piece of personal data, by its place in the text."""

    kind: Kind
    start: int
    end: int


def find(text: str, regions: Sequence[str] = (), public: Sequence[str] = (), *, examples: bool = False) -> list[Found]:
    """Returns the personal data in a text, in their order and without overlaps; with `examples`, also addresses at
    domains that are kept for examples.

    `regions` are the countries (ISO 3166, two letters) whose telephone numbers are recognised without their country
    code; those with it always are. `public` are patterns (`*@bank.example`) of what is nobody's own.
    """
    found = list(_emails(text, examples)) if "@" in text else []
    if _PAIR.search(text):
        found += _short_ids(text)
        if _DIGITS.search(text):
            found += [*_cards(text), *_ibans(text), *_national_ids(text), *_phones(text, regions)]
    kept: list[Found] = []  # in their order
    # The stricter kind first, where two claim the same digits.
    for each in found:
        if any(fnmatchcase(text[each.start : each.end], pattern) for pattern in public):
            continue
        place = bisect(kept, each.start, key=lambda other: other.start)
        if all(each.end <= other.start or each.start >= other.end for other in kept[max(place - 1, 0) : place + 1]):
            kept.insert(place, each)
    return kept


def redacted(text: str, found: Sequence[Found]) -> str:
    """Returns a text with the kind of each piece of personal data in its place."""
    for each in reversed(found):
        text = f"{text[: each.start]}[{each.kind}]{text[each.end :]}"
    return text


def _emails(text: str, examples: bool) -> Iterator[Found]:
    matches = (match for match in _EMAIL.finditer(text) if examples or not _NOBODY.search(match[0]))
    return (Found("email", *match.span()) for match in matches)


def _cards(text: str) -> Iterator[Found]:
    valid = _validator("luhn")
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if _CARD_SCHEME.fullmatch(digits) and len(set(digits)) > 1 and valid(digits):
            yield Found("card", *match.span())


def _ibans(text: str) -> Iterator[Found]:
    valid = _validator("iban")
    for match in _IBAN.finditer(text):
        # A word in capitals may follow: the longest beginning that is an account number counts.
        for end in range(match.end(), match.start() + 14, -1):
            if text[end - 1].isalnum() and valid(text[match.start() : end]):
                yield Found("iban", match.start(), end)
                break


def _national_ids(text: str) -> Iterator[Found]:
    for name, pattern in _compiled(_FORMS, flags=False):
        valid = _validator(name)
        yield from (Found("national_id", *match.span()) for match in pattern.finditer(text) if valid(match[0]))
    for name, pattern in _compiled(_NAMED, flags=True):
        valid = _validator(name)
        yield from (Found("national_id", *match.span(1)) for match in pattern.finditer(text) if valid(match[1]))


def _short_ids(text: str) -> Iterator[Found]:
    for name, pattern in _compiled(_SHORT, flags=False):
        valid = _validator(name)
        yield from (Found("national_id", *match.span()) for match in pattern.finditer(text) if valid(match[0]))
    yield from (Found("national_id", *match.span()) for match in _NINO.finditer(text))


def _phones(text: str, regions: Sequence[str]) -> Iterator[Found]:
    import phonenumbers

    for begin, end in _around_digits(text):
        part = text[begin:end]
        if "+" in part or "\uff0b" in part:
            for match in phonenumbers.PhoneNumberMatcher(part, "ZZ", phonenumbers.Leniency.VALID):
                if not _SUM.match(match.raw_string):
                    yield Found("phone", begin + match.start, begin + match.end)
        for region in regions:
            for match in phonenumbers.PhoneNumberMatcher(part, region, phonenumbers.Leniency.STRICT_GROUPING):
                # Ten digits in a row are any number, unless a word says what they are.
                if _SUM.match(match.raw_string):
                    continue
                start = begin + match.start
                if not match.raw_string.isdigit() or _CALL.search(text, max(start - _NEAR, 0), start):
                    yield Found("phone", start, begin + match.end)


def _around_digits(text: str) -> Iterator[tuple[int, int]]:
    """Yields the parts of a text that may hold a telephone number. The library tries every number that a text has, each
    for a millisecond."""
    begin = end = 0
    for match in _DIGITS.finditer(text):
        if match.start() - _AROUND > end:
            if end:
                yield begin, end
            begin = max(match.start() - _AROUND, 0)
        end = min(match.end() + _AROUND, len(text))
    if end:
        yield begin, end


@cache
def _validator(name: str) -> Callable[[str], bool]:
    valid: Callable[[str], bool] = import_module(f"stdnum.{name}").is_valid
    return valid


@cache
def _compiled(table: tuple[tuple[str, str], ...], *, flags: bool) -> list[tuple[str, re.Pattern[str]]]:
    return [(name, re.compile(pattern, re.IGNORECASE if flags else 0)) for name, pattern in table]
