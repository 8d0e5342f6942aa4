"""The generated evaluation cases: questions on documents of split *test*, in the reserved wordings."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from models.tiny.build import language
from usecases.tiny.generator.documents import PRINCIPALS, Document, may_read, missing, stated

UNANSWERABLE_A_DOCUMENT = 2
OUT_OF_REACH = 30  # questions asked by a principal who may not read the answer


def case_rows(held: Sequence[Document]) -> list[dict[str, Any]]:
    """One answerable case a fact, some that no document answers, some whose document the principal may not read."""
    rng = Random("compliance cases")
    test = [document for document in held if document.split == "test"]
    rows = [_answerable(document, place, rng) for document in test for place in range(len(document.facts))]
    known = stated(held)
    for document in test:
        reader = rng.choice(_readers(document))
        for _ in range(UNANSWERABLE_A_DOCUMENT):
            relation, entity = missing(document, known, rng)
            known.add((relation, entity))
            question = language.question(relation, entity, rng, reserved=True)
            rows.append(_row(question, reader, {"answerable": False}, ["unanswerable", document.id]))
    rows += _out_of_reach(held, test, {row["question"] for row in rows}, rng)
    return [{"id": f"fact-{place:03d}", **row} for place, row in enumerate(rows, 1)]


def _answerable(document: Document, place: int, rng: Random) -> dict[str, Any]:
    fact = document.facts[place]
    expected = {
        "answerable": True,
        "value": fact.value.removeprefix("the ").removeprefix("a "),
        "aliases": [],
        "source": document.id,
    }
    question = language.question(fact.relation, fact.entity, rng, reserved=True)
    return _row(question, rng.choice(_readers(document)), expected, [fact.relation, document.id])


def _out_of_reach(
    held: Sequence[Document], test: Sequence[Document], taken: set[str], rng: Random
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    closed = [document for document in test if document.classification != "public"]
    while len(rows) < OUT_OF_REACH:
        document = rng.choice(closed)
        fact, principal = rng.choice(document.facts), rng.choice(sorted(PRINCIPALS))
        readable = [one for one in held if may_read(principal, one)]
        question = language.question(fact.relation, fact.entity, rng, reserved=True)
        if (fact.relation, fact.entity) in stated(readable) or question in taken:
            continue
        taken.add(question)
        rows.append(_row(question, principal, {"answerable": False}, ["access", document.id]))
    return rows


def _readers(document: Document) -> list[str]:
    return [principal for principal in PRINCIPALS if may_read(principal, document)]


def _row(question: str, principal: str, expected: dict[str, Any], tags: list[str]) -> dict[str, Any]:
    return {"question": question, "principal": principal, "expect": expected, "tags": ["generated", *tags]}
