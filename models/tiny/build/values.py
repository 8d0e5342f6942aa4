"""Random values of every kind that the relations take: durations, amounts, dates, laws, teams, registers …"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from random import Random

import yaml


@cache
def _pool(name: str) -> tuple[str, ...]:
    loaded = yaml.safe_load((Path(__file__).parent / "words.yaml").read_text(encoding="utf-8"))[name]
    text: str = loaded
    return tuple(text.split("|")) if "|" in text else tuple(text.split())


def _pick(rng: Random, *pools: str) -> str:
    return " ".join(rng.choice(_pool(pool)) for pool in pools)


def free_name(rng: Random) -> str:
    """A name of two or three random syllables."""
    return "".join(rng.choice(_pool("syllables")) for _ in range(rng.randint(2, 3))).capitalize()


def number(rng: Random) -> str:
    """A whole number below 1,000, small ones more often, sometimes as a word."""
    roll = rng.random()
    if roll < 0.3:
        return rng.choice(_pool("numbers"))
    if roll < 0.75:
        return str(rng.randint(1, 60))
    return str(rng.choice((rng.randint(60, 400), rng.choice((72, 90, 100, 120, 150, 180, 365, 24, 48)))))


def _counted(rng: Random, units: str) -> str:
    count, unit = number(rng), rng.choice(units.split("|"))
    return f"{count} {unit[:-1] if count in ('one', '1') else unit}"


def duration(rng: Random) -> str:
    """A span of time, from minutes to years."""
    if rng.random() < 0.06:
        return rng.choice(("the end of the next business day", "the same day", "the end of the month"))
    return _counted(
        rng, "hours|hours|days|days|business days|working days|weeks|months|months|years|minutes|calendar days"
    )


def years(rng: Random) -> str:
    """A long span of time."""
    return _counted(rng, "years|years|years|months|days|weeks")


def amount(rng: Random) -> str:
    """A sum of money, now and then with an addition."""
    currency = rng.choice(("EUR", "EUR", "EUR", "EUR", "CHF", "USD", "GBP"))
    roll = rng.random()
    if roll < 0.3:
        return f"{currency} {rng.randint(1, 99) * rng.choice((1, 5, 10))}"
    if roll < 0.75:
        return f"{currency} {rng.randint(1, 400)},{rng.choice(('000', '000', '500', '250', '750'))}"
    return f"{currency} {rng.randint(1, 90)} {rng.choice(('million', 'million', 'billion'))}"


def penalty(rng: Random) -> str:
    """A fine: a sum, a share of turnover, or both."""
    base = rng.choice(("annual turnover", "worldwide turnover", "yearly revenue", "net turnover"))
    share = f"{percent(rng)} of {base}"
    return rng.choice((amount(rng), share, f"{amount(rng)} or {share}"))


def percent(rng: Random) -> str:
    """A percentage, sometimes with one decimal."""
    decimal = f".{rng.choice((5, 5, 5, 2, 8, 1, 4, 6, 7))}" if rng.random() < 0.35 else ""
    return f"{rng.choice((rng.randint(1, 20), rng.randint(1, 150), 100))}{decimal} %"


def date(rng: Random) -> str:
    """A day of a year."""
    day, month = rng.randint(1, 31), rng.choice(_pool("months"))
    return f"{day} {month} {rng.choice((rng.randint(2008, 2032), rng.randint(2024, 2028)))}"


def law(rng: Random) -> str:
    """A place in a law, or a law."""
    roll = rng.random()
    if roll < 0.5:
        act = _pick(rng, "acts")
        article = "" if act in ("MiFID II", "PSD2", "DORA", "MiCA") else "the "
        return f"{rng.choice(('Article', 'Article', 'Article', 'Section'))} {rng.randint(1, 110)} of {article}{act}"
    if roll < 0.65:
        return f"Regulation (EU) {rng.choice(('', 'No '))}{rng.randint(2012, 2026)}/{rng.randint(10, 2999)}"
    if roll < 0.85:
        return f"Directive {rng.choice(('', '(EU) '))}{rng.randint(2002, 2026)}/{rng.randint(10, 2999)}"
    origin = free_name(rng) if rng.random() < 0.5 else _pick(rng, "states")
    return f"the {origin} {_pick(rng, 'teams')} {rng.choice(('Act', 'Code', 'Law'))}"


def team(rng: Random) -> str:
    """A department of the firm."""
    name = _pick(rng, "teams") if rng.random() < 0.4 else _pick(rng, "teams", "teams")
    if rng.random() < 0.1:
        name = free_name(rng)
    return f"the {name} {_pick(rng, 'team_kinds')}"


def role(rng: Random) -> str:
    """A function that one person holds."""
    roll = rng.random()
    if roll < 0.3:
        return f"the Chief {_pick(rng, 'teams')} Officer"
    if roll < 0.6:
        return f"the Head of {_pick(rng, 'teams')}{' ' + _pick(rng, 'teams') if rng.random() < 0.4 else ''}"
    if roll < 0.9:
        return (
            f"the {_pick(rng, 'teams')} {_pick(rng, 'teams') + ' ' if rng.random() < 0.4 else ''}{_pick(rng, 'roles')}"
        )
    return rng.choice(
        (
            f"the {_pick(rng, 'heads')} manager",
            "the managing board",
            "two members of the board",
            "the branch manager",
            "the chair of the board",
            f"the {_pick(rng, 'topics')} owner",
            f"{free_name(rng)} {free_name(rng)}",
        )
    )


def authority(rng: Random) -> str:
    """A public authority."""
    roll = rng.random()
    if roll < 0.3:
        return _pick(rng, "authority_names")
    if roll < 0.8:
        field = f"{_pick(rng, 'states', 'teams')} {'Protection ' if rng.random() < 0.2 else ''}"
        return f"the {field}{_pick(rng, 'authority_kinds')}"
    return (
        f"the {_pick(rng, 'teams')} {_pick(rng, 'authority_kinds')} {rng.choice(('of', 'in'))} {_pick(rng, 'places')}"
    )


def channel(rng: Random) -> str:
    """A way by which something is submitted."""
    roll = rng.random()
    if roll < 0.6:
        return (
            f"the {_pick(rng, 'modifiers') + ' ' if rng.random() < 0.3 else ''}{_pick(rng, 'topics', 'channel_heads')}"
        )
    if roll < 0.8:
        return f"the {free_name(rng)} {_pick(rng, 'channel_heads')}"
    return rng.choice(
        ("registered letter", "encrypted email", f"extension {rng.randint(1000, 9999)}", "the mobile app", "courier")
    )


def form(rng: Random) -> str:
    """A numbered form or template."""
    letters = "".join(rng.choice("ABCDEFGHIKLMNPRSTVW") for _ in range(rng.randint(1, 3)))
    return f"{rng.choice(('form', 'form', 'template', 'sheet'))} {letters}-{rng.randint(1, 999)}"


def register(rng: Random) -> str:
    """A place where entries are made."""
    name = free_name(rng) if rng.random() < 0.15 else _pick(rng, "topics")
    return f"the {_pick(rng, 'modifiers') + ' ' if rng.random() < 0.3 else ''}{name} {_pick(rng, 'register_heads')}"


def frequency(rng: Random) -> str:
    """How often something happens."""
    if rng.random() < 0.5:
        return _pick(rng, "frequencies")
    return f"every {_counted(rng, 'weeks|months|days|years|hours').replace('one ', 'third ')}"


def scope(rng: Random) -> str:
    """Whom or what a rule covers."""
    share = rng.choice(("all", "all", "all", "only", "most"))
    modifier = f"{_pick(rng, 'modifiers')} " if rng.random() < 0.4 else ""
    return f"{share} {modifier}{_pick(rng, 'scope_heads')} {rng.choice(_pool('scope_ends')).strip()}"


def contact(rng: Random) -> str:
    """A person, a function or a number to call."""
    roll = rng.random()
    if roll < 0.35:
        return f"extension {rng.randint(1000, 9999)}"
    if roll < 0.65:
        return rng.choice((role, team))(rng)
    return (
        f"the {rng.choice(('duty', 'night', 'weekend', 'emergency', 'on-call', 'crisis'))} {_pick(rng, 'topics')} "
        f"{rng.choice(('officer', 'manager', 'desk', 'lead', 'hotline', 'engineer'))}"
    )


def evidence(rng: Random) -> str:
    """A document that proves something."""
    noun = _pick(rng, "evidence_nouns").replace("-", " ")
    roll = rng.random()
    if roll < 0.6:
        return f"a {_pick(rng, 'evidence_mods')} {noun}"
    if roll < 0.8:
        return f"a {noun} of the {_pick(rng, 'recipients')}"
    return f"the {noun} and a {_pick(rng, 'evidence_mods')} {_pick(rng, 'evidence_nouns').replace('-', ' ')}"


def recipient(rng: Random) -> str:
    """Somebody who receives something."""
    roll = rng.random()
    if roll < 0.4:
        return f"the {_pick(rng, 'recipients')}"
    if roll < 0.6:
        return f"the {_pick(rng, 'topics', 'recipients')}"
    return rng.choice((role, team, authority))(rng)


def limit(rng: Random) -> str:
    """A largest value, with its unit."""
    if rng.random() < 0.5:
        return rng.choice((amount, percent, duration))(rng)
    units = "kg|mm|°C|bar|Nm|mm per second|persons|per day|hours|kW|volts|litres|points|rpm|contracts|attempts|cards"
    return f"{rng.randint(1, 500)} {rng.choice(units.split('|'))}"


def place(rng: Random) -> str:
    """A place where something is kept."""
    roll = rng.random()
    if roll < 0.4:
        return f"the {_pick(rng, 'topics', 'rooms')}"
    if roll < 0.7:
        return f"the {_pick(rng, 'rooms')} in {_pick(rng, 'places')}"
    room = rng.choice(("room", "cabinet", "hall", "shelf", "vault", "rack"))
    return f"{room} {rng.choice('ABCDEFGH')}{rng.randint(1, 99)}"


def system(rng: Random) -> str:
    """A program or a tool."""
    return rng.choice(
        (
            free_name(rng),
            f"the {free_name(rng)} {rng.choice(('system', 'tool', 'platform', 'application'))}",
            f"the {_pick(rng, 'topics')} {rng.choice(('system', 'tool', 'platform', 'application'))}",
        )
    )


VALUES: Mapping[str, Callable[[Random], str]] = {
    kind.__name__: kind
    for kind in (
        amount,
        authority,
        channel,
        contact,
        date,
        duration,
        evidence,
        form,
        frequency,
        law,
        limit,
        penalty,
        percent,
        place,
        recipient,
        register,
        role,
        scope,
        system,
        team,
        years,
    )
}
