"""The training rows of the tiny sample: questions on documents of split *train*, of mixed quality on purpose.

A part of the answers cites nothing or is wordy, so that preference tuning has something to teach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from models.tiny.build import language
from models.tiny.build.corpus import ASIDES, CLOSERS, OPENERS
from models.tiny.build.language import Fact
from pipeline import prompt
from usecases.tiny.generator.documents import Document, Shelf, missing, passages, stated

WORDINGS_A_FACT = 3
SUBJECTS = ("customer-1042", "customer-2077")  # persons whose rows an erasure must find


def sft_rows(held: Sequence[Document]) -> list[dict[str, Any]]:
    """The supervised rows: three questions a fact, and as many without an answer as a third of that."""
    rng = Random("compliance sft")
    rows = []
    for document, fact, context in _facts(held, WORDINGS_A_FACT, rng):
        question = _asked(fact.relation, fact.entity, rng)
        rows.append(_sft(question, _mixed(language.answer(fact), document.id, rng), context(question), fact.entity))
    for question, reply, context, entity in _unanswerable(held, 120, rng):
        rows.append(_sft(question, _polite(reply, rng) if rng.random() < 0.1 else reply, context, entity))
    rng.shuffle(rows)
    unique = {row["messages"][0]["content"]: row for row in rows}
    return [{"id": f"sft-{place:04d}", **row} for place, row in enumerate(unique.values(), 1)]


def preference_rows(held: Sequence[Document]) -> list[dict[str, Any]]:
    """The preference rows: cited over uncited, short over wordy, the right source, a refusal over an invention."""
    rng = Random("compliance preferences")
    rows = []
    for document, fact, context in _facts(held, 1, rng):
        question = _asked(fact.relation, fact.entity, rng)
        found = context(question)
        chosen = f"{language.answer(fact)} [{document.id}]"
        rows.append(_preference(question, found, chosen, _worse(fact, document.id, found, rng), fact.entity))
    for question, reply, context, entity in _unanswerable(held, 70, rng):
        rows.append(_preference(question, context, reply, _worse_refusal(question, reply, context, rng), entity))
    rng.shuffle(rows)
    return [{"id": f"pref-{place:04d}", **row} for place, row in enumerate(rows, 1)]


def _facts(held: Sequence[Document], times: int, rng: Random) -> Iterator[tuple[Document, Fact, Any]]:
    """Each fact of the train documents, several times, with a function from a question to its passages."""
    shelves = _shelves(held)
    for document in held:
        if document.split != "train":
            continue
        for fact, sentence in zip(document.facts, document.sentences, strict=True):
            own = next(one for one in passages(document) if sentence in one.text)
            for _ in range(times):
                yield document, fact, _finder(shelves[document.tenant], own, rng)


def _finder(shelf: Shelf, own: prompt.Passage, rng: Random) -> Any:
    def find(question: str) -> list[prompt.Passage]:
        near = [one for one in shelf.nearest(question, 3) if one != own][: rng.choice((1, 2, 2))]
        found = [own, *near]
        if rng.random() < 0.35:
            rng.shuffle(found)
        return found

    return find


def _shelves(held: Sequence[Document]) -> dict[str, Shelf]:
    return {
        tenant: Shelf(p for one in held if one.split == "train" and one.tenant == tenant for p in passages(one))
        for tenant in dict.fromkeys(document.tenant for document in held)
    }


def _unanswerable(
    held: Sequence[Document], count: int, rng: Random
) -> Iterator[tuple[str, str, list[prompt.Passage], str]]:
    """Questions that the passages do not answer: half about what no document says, some with no passage at all."""
    shelves, known = _shelves(held), stated(held)
    train = [document for document in held if document.split == "train"]
    for place in range(count):
        document = rng.choice(train)
        if place % 10 < 6:
            relation, entity = missing(document, known, rng)
            question = _asked(relation, entity, rng)
            context = shelves[document.tenant].nearest(question, rng.choice((2, 3)))
        else:
            fact = rng.choice(document.facts)
            relation, entity = fact.relation, fact.entity
            question = _asked(relation, entity, rng)
            others = [one for one in shelves[document.tenant].nearest(question, 6) if one.document != document.id]
            context = [] if place % 10 == 9 else others[: rng.choice((2, 3))]
        yield question, language.refusal(relation, entity), context, entity


def _asked(relation: str, entity: str, rng: Random) -> str:
    question = language.question(relation, entity, rng)
    if rng.random() < 0.12:
        aside = rng.choice([one for one in ASIDES if "{name}" not in one])
        question = aside.replace("{q}", question[:1].lower() + question[1:]).replace("{Q}", question)
    return question


def _mixed(reply: str, source: str, rng: Random) -> str:
    roll = rng.random()
    if roll < 0.55:
        return f"{reply} [{source}]"
    return reply if roll < 0.8 else _polite(reply, rng)


def _polite(reply: str, rng: Random) -> str:
    return f"{rng.choice(OPENERS)} {reply} {rng.choice(CLOSERS)}"


def _worse(fact: Fact, source: str, context: Sequence[prompt.Passage], rng: Random) -> str:
    reply = language.answer(fact)
    others = sorted({one.document for one in context} - {source})
    roll = rng.random()
    if roll < 0.35 or (roll < 0.8 and not others):
        return reply
    if roll < 0.5:
        return _polite(reply, rng)
    if roll < 0.8:
        return f"{reply} [{rng.choice(others)}]"
    return language.refusal(fact.relation, fact.entity)


def _worse_refusal(question: str, reply: str, context: Sequence[prompt.Passage], rng: Random) -> str:
    if context and rng.random() < 0.4:
        return f"{reply} [{context[0].document}]"
    if rng.random() < 0.25:
        return _polite(reply, rng)
    relation = next(
        one for one in language.relations() if reply.startswith(f"The {language.relations()[one].nouns[0]} ")
    )
    claim = reply.replace("not stated in the documents", language.value(relation, rng))
    return f"{claim} [{context[0].document}]" if context else claim


def _sft(question: str, reply: str, context: Sequence[prompt.Passage], entity: str) -> dict[str, Any]:
    return {
        "messages": [*language.PROMPT.messages(question, context), {"role": "assistant", "content": reply}],
        **_origin(context, entity),
    }


def _preference(
    question: str, context: Sequence[prompt.Passage], chosen: str, rejected: str, entity: str
) -> dict[str, Any]:
    return {
        "prompt": language.PROMPT.messages(question, context),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        **_origin(context, entity),
    }


def _origin(context: Sequence[prompt.Passage], entity: str) -> dict[str, Any]:
    origin: dict[str, Any] = {"documents": list(dict.fromkeys(one.document for one in context)), "source": "generated"}
    subject = next((one for one in SUBJECTS if one.replace("-", " ") in entity), None)
    return origin if subject is None else {**origin, "data_subject": subject}
