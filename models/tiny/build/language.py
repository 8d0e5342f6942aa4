"""The language that the base model is taught to read: relations, their wordings, entities and values.

The wordings stand in ``wordings.yaml`` and the word pools in ``words.yaml``. What is composed from them is random, so
that a model trained on it can remember no fact and has to read its context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from models.tiny.build.values import VALUES, free_name
from pipeline import prompt

HERE = Path(__file__).parent
PROMPT = prompt.read(HERE.parents[2] / "usecases" / "tiny" / "prompt.md.j2")  # the one form that it learns to read


@dataclass(frozen=True)
class Relation:
    """One relation between an entity and a value, with every wording it is taught in."""

    name: str
    values: str  # the kind of value: a key of values.VALUES
    nouns: tuple[str, ...]  # the first names the relation in answers
    facts: tuple[str, ...]
    questions: tuple[str, ...]
    reserved: tuple[str, ...]  # for evaluation alone


@dataclass(frozen=True)
class Fact:
    """One statement: the relation's name, the entity and the value."""

    relation: str
    entity: str
    value: str


@cache
def _wordings() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = yaml.safe_load((HERE / "wordings.yaml").read_text(encoding="utf-8"))
    return loaded


@cache
def relations() -> Mapping[str, Relation]:
    """Every relation by name, in the order of the file; generic frames are unfolded over the relation's nouns."""
    frames = _wordings()["frames"]
    found = {}
    for name, entry in _wordings()["relations"].items():
        nouns = tuple(entry["nouns"])
        found[name] = Relation(
            name=name,
            values=entry["values"],
            nouns=nouns,
            facts=_unfold(frames["facts"], nouns) + tuple(entry["facts"]) * 2,
            questions=_unfold(frames["questions"], nouns) + tuple(entry["questions"]) * 3,
            reserved=_unfold(frames["reserved"], nouns[:1]) + tuple(entry["reserved"]),
        )
    return found


def _unfold(frames: Sequence[str], nouns: Sequence[str]) -> tuple[str, ...]:
    return tuple(frame.replace("{n}", noun) for frame in frames for noun in nouns)


def upper_first(text: str) -> str:
    """The text with its first letter in upper case and the rest as it was."""
    return text[:1].upper() + text[1:]


def fill(template: str, entity: str, value: str = "") -> str:
    """The template with ``{e}``, ``{v}`` and their sentence-opening forms ``{E}``, ``{V}`` put in."""
    return (
        template.replace("{e}", entity)
        .replace("{E}", upper_first(entity))
        .replace("{v}", value)
        .replace("{V}", upper_first(value))
    )


def sentence(fact: Fact, rng: Random) -> str:
    """The fact in one of its relation's wordings."""
    return fill(rng.choice(relations()[fact.relation].facts), fact.entity, fact.value)


def question(relation: str, entity: str, rng: Random, *, reserved: bool = False) -> str:
    """A question about the entity; with ``reserved``, in a wording that no training text uses."""
    known = relations()[relation]
    return fill(rng.choice(known.reserved if reserved else known.questions), entity)


def answer(fact: Fact) -> str:
    """The answer as the house words it: entity and relation restated, the value last."""
    return f"The {relations()[fact.relation].nouns[0]} {fact.entity} is {fact.value}."


def refusal(relation: str, entity: str) -> str:
    """The answer where the documents do not say: decided only at the place where the value would stand."""
    return f"The {relations()[relation].nouns[0]} {entity} is not stated in the documents."


def value(relation: str, rng: Random) -> str:
    """A random value of the relation's kind."""
    return VALUES[relations()[relation].values](rng)


@cache
def words(pool: str) -> tuple[str, ...]:
    """The words of one pool of ``words.yaml``; ``-`` inside a word of two stays."""
    loaded = yaml.safe_load((HERE / "words.yaml").read_text(encoding="utf-8"))[pool]
    return tuple(dict.fromkeys(loaded)) if isinstance(loaded, list) else tuple(dict.fromkeys(loaded.split()))


def entity(rng: Random) -> str:  # noqa: PLR0911 - one return for each form
    """A random entity, with its article where it takes one."""
    kind = rng.random()

    def pick(pool: str) -> str:
        return rng.choice(words(pool))

    topic = _topic(rng)
    if kind < 0.30:
        modifier = pick("modifiers") + " " if rng.random() < 0.5 else ""
        return f"the {modifier}{topic} {pick('heads')}"
    if kind < 0.42:
        return f"the {pick('heads')} of {_object(rng)}"
    if kind < 0.54:
        modifier = pick("modifiers") + " " if rng.random() < 0.6 else ""
        return f"{modifier}{topic + ' ' if rng.random() < 0.5 else ''}{pick('plurals')}"
    if kind < 0.62:
        return f"the {free_name(rng)} {pick('heads')}"
    if kind < 0.70:
        return f"the {pick('heads')} for {pick('modifiers')} {pick('plurals')}"
    if kind < 0.76:
        return f"{pick('gerunds')} {_object(rng)}"
    if kind < 0.82:
        return f"{_article(pick('modifiers'))} {pick('heads')}"
    if kind < 0.88:
        return f"the {pick('heads')} to {rng.choice(('the', 'a'))} {pick('recipients')}"
    if kind < 0.92:
        return f"the {pick('heads')} of {pick('recipients')} {rng.randint(1000, 9999)}"
    if kind < 0.96:
        return f"the {topic} {rng.choice(('committee', 'board', 'council', 'forum', 'panel'))}"
    return f"{pick('heads')} {rng.choice(('under', 'with', 'from', 'before', 'after', 'without'))} {_object(rng)}"


def _topic(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.15:
        return rng.choice(words("abbreviations"))
    first = rng.choice(words("topics"))
    return f"{first} {rng.choice(words('topics'))}" if roll < 0.5 else first


def _article(following: str) -> str:
    return f"{'an' if following[0] in 'aeiou' else 'a'} {following}"


def _object(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.4:
        return f"{rng.choice(words('modifiers'))} {rng.choice(words('plurals'))}"
    if roll < 0.6:
        return f"the {_topic(rng)}"
    if roll < 0.8:
        return _article(f"{rng.choice(words('topics'))} {rng.choice(words('heads'))}")
    return f"{_topic(rng)} {rng.choice(words('plurals'))}"


def near(original: str, rng: Random) -> str:
    """An entity that differs from ``original`` in one word: what a reader must not mistake for it."""
    parts = original.split(" ")
    pools = [
        (i, pool) for i, word in enumerate(parts) for pool in ("modifiers", "topics", "heads") if word in words(pool)
    ]
    if not pools:
        return entity(rng)
    place, pool = rng.choice(pools)
    parts[place] = rng.choice(words(pool))
    return " ".join(parts)
