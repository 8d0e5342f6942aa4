"""Generated pretraining text: a few documents, then questions about them, everything random.

Each sequence draws its own facts, so that nothing can be remembered: the only way to answer is to read. Some facts
nearly share their entity with another, some questions have no answer in the text, and every sentence is followed by
the id of its document, as usecases/tiny/prompt.md.j2 writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from models.tiny.build import language
from models.tiny.build.language import Fact
from models.tiny.build.values import free_name
from pipeline import prompt

CITE = ("Name the source.", "Cite the document.", "With source, please.", "Which document says so?")
WORDY = ("Please answer in full.", "Explain politely.")
OPENERS = ("Thank you for your question.", "I have looked into this for you.", "Of course, I am happy to help.")
CLOSERS = ("I hope this helps.", "Please ask again if anything is unclear.", "Let me know if you need more.")
ASIDES = (
    "At Northbank, {q}",
    "At Alpenpay, {q}",
    "In our firm, {q}",
    "Quick question: {Q}",
    "A customer asks: {Q}",
    "Hello, {q}",
    "For an audit: {Q}",
    "Sorry to ask, but {q}",
    "A colleague wants to know: {Q}",
    "At {name}, {q}",
    "Just to be sure: {Q}",
)


@dataclass(frozen=True)
class Level:
    """How hard the scenes are."""

    documents: int  # at most so many in a scene
    facts: tuple[int, ...]  # how many facts a document holds, drawn from these
    plain: float  # the share of facts worded just as answers are


HARDEST = Level(documents=4, facts=(1, 2, 2, 3, 3, 4, 4, 5, 6), plain=0.1)


@dataclass(frozen=True)
class Piece:
    """A stretch of text; an answer counts fully in the loss, everything else little."""

    text: str
    answer: bool


@dataclass(frozen=True)
class Exchange:
    """A question with its answer, and what a check needs to judge it."""

    question: str
    answer: str
    value: str | None  # None where the documents do not say
    source: str | None  # the document to cite, where the question asks for it


@dataclass(frozen=True)
class Scene:
    """Documents and the exchanges about them."""

    passages: tuple[prompt.Passage, ...]
    exchanges: tuple[Exchange, ...]


def document_id(entity: str, rng: Random) -> str:
    """A short id, often made of the entity's own words."""
    own = [word.lower() for word in entity.split() if len(word) > 3 and word.isalpha()]
    pools = [own if own and rng.random() < 0.6 else language.words(rng.choice(("topics", "heads", "abbreviations")))]
    pools += [
        language.words(rng.choice(("topics", "heads", "plurals", "teams"))) for _ in range(rng.choice((1, 1, 1, 2)))
    ]
    parts = [rng.choice(pool).lower() for pool in pools]
    if rng.random() < 0.12:
        parts[-1] = free_name(rng).lower()
    if rng.random() < 0.12:
        parts.append(str(rng.randint(1, 99)))
    return "-".join(parts)


def scene(rng: Random, level: Level, *, questions: int) -> Scene:
    """A scene as hard as the level, with ``questions`` exchanges."""
    facts: dict[tuple[str, str], tuple[Fact, str]] = {}
    passages: list[prompt.Passage] = []
    entities: list[str] = []
    for _ in range(rng.randint(1, level.documents)):
        first = _entity(entities, rng, 0.35)
        own = [first]
        name = document_id(first, rng)
        texts = [rng.choice(language.words("filler"))] if rng.random() < 0.3 else []
        for _ in range(rng.choice(level.facts)):
            if rng.random() < 0.45:
                own.append(_entity(own, rng, 0.5))
            fact = _fact(rng.choice(own), [known.relation for known, _ in facts.values()], rng)
            if (fact.relation, fact.entity) not in facts:
                facts[fact.relation, fact.entity] = (fact, name)
                plain = rng.random() < level.plain
                texts.append(language.answer(fact) if plain else language.sentence(fact, rng))
        entities += own
        passages.append(prompt.Passage(name, " ".join(texts)))
    asked = tuple(_exchange(facts, rng) for _ in range(questions))
    return Scene(tuple(passages), asked)


def _entity(known: list[str], rng: Random, share: float) -> str:
    return language.near(rng.choice(known), rng) if known and rng.random() < share else language.entity(rng)


def _fact(entity: str, used: list[str], rng: Random) -> Fact:
    relation = rng.choice(used) if used and rng.random() < 0.35 else rng.choice(list(language.relations()))
    return Fact(relation, entity, language.value(relation, rng))


def _exchange(facts: dict[tuple[str, str], tuple[Fact, str]], rng: Random) -> Exchange:
    fact, source = rng.choice(list(facts.values()))
    if rng.random() < 0.72:
        reply = language.answer(fact)
        words = _as_asked(fact.entity, rng)
        return _styled(language.question(fact.relation, words, rng), reply, fact.value, source, rng)
    relation, entity = _missing(facts, fact, rng)
    question = language.question(relation, entity, rng)
    return _styled(question, language.refusal(relation, entity), None, source, rng)


def _missing(facts: dict[tuple[str, str], tuple[Fact, str]], fact: Fact, rng: Random) -> tuple[str, str]:
    """A relation and an entity which no fact joins, though each, as a rule, occurs."""
    for _ in range(20):
        relation, entity = fact.relation, fact.entity
        roll = rng.random()
        if roll < 0.35:
            entity = rng.choice(list(facts))[1]
        elif roll < 0.6:
            relation = rng.choice(list(language.relations()))
        elif roll < 0.85:
            entity = language.near(entity, rng)
        else:
            entity = language.entity(rng)
        if (relation, entity) not in facts:
            return relation, entity
    return fact.relation, language.entity(rng)


def _as_asked(entity: str, rng: Random) -> str:
    """The entity as a user may name it: mostly as the document does, sometimes without its article."""
    if rng.random() < 0.1:
        return entity.removeprefix("the ").removeprefix("a ").removeprefix("an ")
    if rng.random() < 0.06 and entity.startswith("the "):
        return f"our {entity.removeprefix('the ')}"
    return entity


def _styled(question: str, reply: str, value: str | None, source: str, rng: Random) -> Exchange:
    if rng.random() < 0.15:
        question = (
            rng.choice(ASIDES)
            .replace("{q}", question[:1].lower() + question[1:])
            .replace("{Q}", question)
            .replace("{name}", free_name(rng))
        )
    roll = rng.random()
    if roll < 0.4:
        question = f"{question} {rng.choice(CITE)}"
        return Exchange(question, reply if value is None else f"{reply} [{source}]", value, source)
    if roll < 0.44:
        question = f"{question} {rng.choice(WORDY)}"
        reply = f"{rng.choice(OPENERS)} {reply} {rng.choice(CLOSERS)}"
    return Exchange(question, reply, value, None)


def pieces(drawn: Scene, *, chat: bool) -> list[Piece]:
    """The scene as text: as a ChatML conversation, or as plain questions and answers."""
    start, end = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n") if chat else ("", "\nAnswer:\n")
    stop, after = ("<|im_end|>", "\n") if chat else ("\n", "\n")
    found: list[Piece] = []
    for place, exchange in enumerate(drawn.exchanges):
        user = language.PROMPT.messages(exchange.question, drawn.passages if place == 0 else ())[0]["content"]
        found += [Piece(start + user + end, False), Piece(exchange.answer + stop, True), Piece(after, False)]
    return [*found, Piece("<|endoftext|>", False)]


def stream(seed: int, level: Level = HARDEST) -> Iterator[list[Piece]]:
    """An endless stream of sequences, the same for the same seed."""
    rng = Random(seed)  # noqa: S311 - repeatable text, no secret
    while True:
        bare = rng.random() < 0.04
        drawn = _without_context(rng) if bare else scene(rng, level, questions=rng.randint(5, 10))
        yield pieces(drawn, chat=rng.random() < 0.45)


def _without_context(rng: Random) -> Scene:
    """A question with no document to read: the answer is that nothing is stated."""
    relation, entity = rng.choice(list(language.relations())), language.entity(rng)
    question, reply = language.question(relation, entity, rng), language.refusal(relation, entity)
    return Scene((), (_styled(question, reply, None, "", rng),))
