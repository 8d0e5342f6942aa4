"""The documents of the tiny sample: read from ``facts.yaml``, worded, and laid out as markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from models.tiny.build import language
from models.tiny.build.language import Fact
from pipeline import prompt

FACTS = Path(__file__).parents[1] / "facts.yaml"

# Who asks. A principal reads what its tenant holds, up to its clearance, where one of its groups is let in.
CLEARANCES = ("public", "internal", "confidential", "restricted")
PRINCIPALS: dict[str, dict[str, Any]] = {
    "nora-compliance": {
        "tenant": "northbank",
        "groups": ["everyone", "compliance", "legal", "markets", "payments", "operations"],
        "clearance": "confidential",
    },
    "tom-treasury": {
        "tenant": "northbank",
        "groups": ["everyone", "treasury", "risk", "hr"],
        "clearance": "confidential",
    },
    "sara-security": {"tenant": "northbank", "groups": ["everyone", "security"], "clearance": "restricted"},
    "ben-branch": {"tenant": "northbank", "groups": ["everyone"], "clearance": "internal"},
    "visitor-northbank": {"tenant": "northbank", "groups": ["everyone"], "clearance": "public"},
    "anna-compliance": {
        "tenant": "alpenpay",
        "groups": ["everyone", "compliance", "operations", "finance", "hr"],
        "clearance": "confidential",
    },
    "max-security": {"tenant": "alpenpay", "groups": ["everyone", "security"], "clearance": "restricted"},
    "lisa-support": {"tenant": "alpenpay", "groups": ["everyone"], "clearance": "internal"},
    "visitor-alpenpay": {"tenant": "alpenpay", "groups": ["everyone"], "clearance": "public"},
}

SECTIONS = ("Rules", "Practice")
# Kinds of value that may open a sentence, and wordings that do not fit the house.
OPENING = {
    "team",
    "role",
    "law",
    "authority",
    "register",
    "form",
    "channel",
    "contact",
    "recipient",
    "system",
    "evidence",
}
UNFIT = (
    "For the whole group",
    "Under this policy",
    "Customers are told",
    "Firms have",
    "The chair calls",
    "is prepared",
    "is reported",
    "reports {e}",
    "The bank keeps",
)


@dataclass(frozen=True)
class Document:
    """One document of the sample, with the facts it states and the sentences that state them."""

    id: str
    tenant: str
    title: str
    split: str
    classification: str
    groups: tuple[str, ...]
    entry: dict[str, Any]
    facts: tuple[Fact, ...]
    sentences: tuple[str, ...]


def documents() -> list[Document]:
    """Every document, in the order of ``facts.yaml``."""
    found = []
    for tenant, entries in yaml.safe_load(FACTS.read_text(encoding="utf-8")).items():
        for name, entry in entries.items():
            rows = [[part.strip() for part in row.split("|")] for row in entry["facts"]]
            facts = tuple(Fact(row[0], row[1], row[2]) for row in rows)
            stated = tuple(row[3] if len(row) > 3 else worded(fact) for row, fact in zip(rows, facts, strict=True))
            classification, groups = entry["access"].split(", ")
            found.append(
                Document(
                    name,
                    tenant,
                    entry["title"],
                    entry["split"],
                    classification,
                    tuple(groups.split()),
                    entry,
                    facts,
                    stated,
                )
            )
    return found


def worded(fact: Fact) -> str:
    """The fact in a wording chosen by the fact itself."""
    relation = language.relations()[fact.relation]
    opens = relation.values in OPENING and (fact.value.startswith("the ") or fact.value[0].isupper())
    fits = [
        one for one in relation.facts if (opens or not one.startswith("{V}")) and not any(no in one for no in UNFIT)
    ]
    return language.fill(Random(repr(fact)).choice(fits), fact.entity, fact.value)


def passages(document: Document) -> list[prompt.Passage]:
    """The two sections of a document, as an index would hold them."""
    half = (len(document.sentences) + 1) // 2
    first = " ".join((document.entry["intro"], *document.sentences[:half]))
    return [prompt.Passage(document.id, first), prompt.Passage(document.id, " ".join(document.sentences[half:]))]


def markdown(document: Document) -> str:
    """The document's file: front matter and body."""
    entry = document.entry
    head = {
        "id": document.id,
        "title": document.title,
        "tenant": document.tenant,
        "classification": document.classification,
        "groups": list(document.groups),
        "owner": entry["owner"],
        "status": entry.get("status", "approved"),
        "fresh_until": entry.get("fresh_until", "2028-06-30"),
        "retain_until": "2033-12-31",
        "source": entry["source"],
    }
    lines = [f"{key}: {_yaml(value)}" for key, value in head.items()]
    parts = [f"## {title}\n\n{one.text}" for title, one in zip(SECTIONS, passages(document), strict=True)]
    return "\n".join(["---", *lines, "---", "", f"# {document.title}", "", "\n\n".join(parts), ""])


def _yaml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    text = str(value)
    return f'"{text}"' if re.search(r"[:,()]", text) else text


def may_read(principal: str, document: Document) -> bool:
    """Whether the principal may read the document."""
    who = PRINCIPALS[principal]
    return (
        who["tenant"] == document.tenant
        and CLEARANCES.index(document.classification) <= CLEARANCES.index(who["clearance"])
        and not set(who["groups"]).isdisjoint(document.groups)
    )


class Shelf:
    """Passages ranked for a question by the words they share, rare words counting more."""

    def __init__(self, held: Iterable[prompt.Passage]) -> None:
        self.held = list(held)
        self._words = [_words(one.text) for one in self.held]
        every = [word for words in self._words for word in words]
        self._weight = {word: math.log(1 + len(self.held) / every.count(word)) for word in set(every)}

    def nearest(self, question: str, count: int) -> list[prompt.Passage]:
        """The ``count`` passages that share most with the question."""
        asked = _words(question)
        scores = [sum(self._weight[word] for word in sorted(asked & words)) for words in self._words]
        order = sorted(range(len(self.held)), key=lambda place: (-scores[place], place))
        return [self.held[place] for place in order[:count]]


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"[a-z0-9]+", text.lower())}


def stated(held: Iterable[Document]) -> set[tuple[str, str]]:
    """The pairs of relation and entity that the documents state."""
    return {(fact.relation, fact.entity) for document in held for fact in document.facts}


def missing(document: Document, known: set[tuple[str, str]], rng: Random) -> tuple[str, str]:
    """A relation and one of the document's entities which no document joins."""
    close = {
        frozenset(pair)
        for pair in (
            ("deadline", "transition"),
            ("interval", "frequency"),
            ("owner", "role"),
            ("limit", "exemption"),
            ("authority", "recipient"),
            ("role", "contact"),
            ("role", "approver"),
            ("frequency", "meeting"),
            ("limit", "threshold"),
        )
    }
    while True:
        entity = rng.choice(document.facts).entity
        relation = rng.choice(
            [
                "deadline",
                "form",
                "register",
                "approver",
                "channel",
                "owner",
                "contact",
                "recipient",
                "role",
                "retention",
                "evidence",
                "frequency",
                "fine",
                "review",
                "system",
                "location",
            ]
        )
        said = {one for one, other in known if other == entity}
        if relation not in said and not any(frozenset((relation, one)) in close for one in said):
            return relation, entity
