"""Writes the training rows and the evaluation suites of this sample, from its documents and questions.

    python usecases/compliance/build.py [FOLDER]

`questions/<id>.yaml` holds what staff ask about a document, each with its answer, its evidence word by word, and who
asks. The file's document decides what its questions are for: those in `TEACHES` become training rows, the others
evaluation cases, and no training row shows a passage of a document that is examined. A training row is put as the night
puts a question: with the chunk that holds the evidence and the nearest others that the asker may read. A preference row
sets its answer against a mistake that a tuned model really made on it (`mistakes.jsonl`, see collect.py). Every choice
is seeded by the question, so that the files come out byte-identical.
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from pipeline import prompt  # noqa: E402
from pipeline.prompt import Passage  # noqa: E402
from pipeline.retrieval import chunking  # noqa: E402
from pipeline.retrieval.chunking import Chunker  # noqa: E402
from pipeline.search.embedder import Embedder  # noqa: E402

USE_CASE: dict[str, Any] = yaml.safe_load((HERE / "usecase.yaml").read_text(encoding="utf-8"))
LEVELS = ("public", "internal", "confidential", "restricted")
REFUSAL = "This is not stated in the documents."
TEACHES = frozenset(
    [
        "advertising-rules",
        "best-execution",
        "bonus-rules",
        "client-funds",
        "cookies-and-website",
        "correspondent-banking",
        "crisis-plan",
        "crypto-rules",
        "fraud-desk",
        "hiring-checks",
        "merchant-onboarding",
        "patch-management",
        "penetration-tests",
        "personal-account-dealing",
        "privileged-access",
        "retention-schedule",
        "sanctions-screening",
        "social-media",
        "training-plan",
        "travel-expenses",
        "vulnerable-customers",
    ]
)
# Files about one person, to a key that is his and no name. What is taught of them says so, and is taught of them alone:
# no other question shows their passages, so that the person can be forgotten.
PERSONS = {"complaint-file-4711": "complaint-4711"}


@dataclass(frozen=True)
class Document:
    """A document with its rights, and its chunks as the index has them."""

    id: str
    tenant: str
    classification: str
    groups: frozenset[str]
    status: str
    body: str
    chunks: tuple[str, ...]


def documents() -> dict[str, Document]:
    """Returns the documents by id."""
    keys = USE_CASE["retrieval"]
    chunker, count = Chunker(keys["chunk_tokens"], keys["overlap_sentences"]), Embedder().count
    held = {}
    for path in sorted(HERE.glob("documents/*/*.md")):
        _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
        meta = yaml.safe_load(head)
        pieces = tuple(chunk.text for chunk in chunking.chunks(meta["title"], body, chunker, count))
        rights = (meta["tenant"], meta["classification"], frozenset(meta["groups"]))
        held[meta["id"]] = Document(meta["id"], *rights, meta["status"], body, pieces)
    return held


def may_read(principal: str, document: Document) -> bool:
    """Returns whether a principal of the use case may read a document."""
    who = USE_CASE["principals"][principal]
    return (
        document.tenant == who["tenant"]
        and LEVELS.index(document.classification) <= LEVELS.index(who["clearance"])
        and not document.groups.isdisjoint(who["groups"])
    )


def questions(teach: bool) -> list[tuple[str, dict[str, Any]]]:
    """Returns (id, question) of the documents that teach, or of those that are examined."""
    found = []
    for path in sorted(HERE.glob("questions/*.yaml")):
        if (path.stem in TEACHES or path.stem in PERSONS) is teach:
            entries = yaml.safe_load(path.read_text(encoding="utf-8"))
            found += [(f"{path.stem}-{place:02d}", entry) for place, entry in enumerate(entries, 1)]
    return found


class Shelf:
    """Chunks ranked for a question by the words that they share, rare words counting more."""

    def __init__(self, held: Sequence[Document]) -> None:
        self.passages = [Passage(document.id, chunk) for document in held for chunk in document.chunks]
        self._words = [words(passage.text) for passage in self.passages]
        frequency = Counter(word for each in self._words for word in each)
        self._weights = {word: math.log(1 + len(self.passages) / times) for word, times in frequency.items()}

    def nearest(self, question: str) -> list[Passage]:
        """Returns all passages, the nearest first."""
        asked = words(question)
        scores = [sum(self._weights[word] for word in sorted(asked & each)) for each in self._words]
        return [self.passages[place] for place in sorted(range(len(scores)), key=lambda place: (-scores[place], place))]


def words(text: str) -> set[str]:
    """Returns the words of a text, plural and singular alike."""
    return {word.rstrip("s") for word in re.findall(r"[a-z0-9]+", text.lower())}


def holding(entry: dict[str, Any], held: dict[str, Document]) -> list[Passage]:
    """Returns the chunks that hold a question's evidence, each once; of a piece that two chunks share, the one that
    holds most of it. Raises ValueError where a piece is in none."""
    found: list[Passage] = []
    for evidence in entry.get("evidence") or []:
        wanted = " ".join(evidence.split())
        passages = [Passage(name, chunk) for name in entry["sources"] for chunk in held[name].chunks]
        best = max(passages, key=lambda passage: _common_start(wanted, " ".join(passage.text.split())))
        if _common_start(wanted, " ".join(best.text.split())) < len(wanted) / 2:
            raise ValueError(f"no chunk holds: {evidence}")
        if best not in found:
            found.append(best)
    return found


def _common_start(wanted: str, text: str) -> int:
    """Returns how much of the beginning of `wanted` stands in a text, in characters."""
    if wanted in text:
        return len(wanted)
    low, high = 0, len(wanted)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if wanted[:middle] in text else (low, middle - 1)
    return low


def training_rows(held: dict[str, Document]) -> list[dict[str, Any]]:
    """Returns the training rows, in a seeded order."""
    k, form = USE_CASE["retrieval"]["k"], prompt.read()
    shelves = {
        principal: Shelf([held[name] for name in sorted(TEACHES) if may_read(principal, held[name])])
        for principal in USE_CASE["principals"]
    }
    rows = []
    for name, entry in questions(teach=True):
        own = holding(entry, held)
        nearest = shelves[entry["principal"]].nearest(entry["ask"])
        others = [one for one in nearest if one not in own][: max(0, k - len(own))]
        # In the order in which a search gives them: what holds the answer is mostly, and not always, the first.
        passages = [one for one in own[:k] if one not in nearest]  # a person's file stands on no shelf
        passages += [one for one in nearest if one in own[:k] or one in others]
        messages = [*form.messages(entry["ask"], passages), {"role": "assistant", "content": entry["answer"]}]
        rows.append({"id": name, "messages": messages, "documents": sorted({one.document for one in passages})})
        if persons := {PERSONS[one.document] for one in passages if one.document in PERSONS}:
            rows[-1]["data_subject"] = persons.pop()
    random.Random("order").shuffle(rows)
    return rows


def preference_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a preference row for each training row on which a mistake was collected, in the training rows' order."""
    lines = (HERE / "mistakes.jsonl").read_text(encoding="utf-8").splitlines()
    mistakes = {entry["id"]: entry["answer"] for entry in map(json.loads, lines)}
    return [
        {
            "id": row["id"],
            "prompt": row["messages"][:-1],
            "chosen": row["messages"][-1:],
            "rejected": [{"role": "assistant", "content": mistakes[row["id"]]}],
            "documents": row["documents"],
        }
        for row in rows
        if row["id"] in mistakes
    ]


def source(entry: dict[str, Any], held: dict[str, Document]) -> str:
    """Returns the document whose evidence holds the value that is asked for: of two, the one that decides."""
    for name in entry["sources"]:
        body = " ".join(held[name].body.split())
        pieces = [" ".join(evidence.split()) for evidence in entry["evidence"]]
        if any(piece in body and entry["value"].lower() in piece.lower() for piece in pieces):
            return str(name)
    raise ValueError(f"no evidence holds the value: {entry['ask']}")


def cases(held: dict[str, Document], by_hand: bool) -> list[dict[str, Any]]:
    """Returns the evaluation cases: those that read most like a colleague's, or the others."""
    rows = []
    for name, entry in questions(teach=False):
        if bool(entry.get("by_hand")) is not by_hand:
            continue
        expect: dict[str, Any] = {"answerable": entry["kind"] not in ("nothing", "access")}
        if expect["answerable"]:
            expect |= {"value": entry["value"], "aliases": entry.get("aliases") or [], "source": source(entry, held)}
        tags = [entry["kind"], *entry.get("sources", [entry.get("forbidden", "nowhere")])]
        rows.append(
            {"id": name, "question": entry["ask"], "principal": entry["principal"], "expect": expect, "tags": tags}
        )
    return rows


def write(target: Path) -> None:
    """Writes rows and suites below `target`, laid out as this folder is."""
    held = documents()
    taught = training_rows(held)
    written = {
        "examples/sft.jsonl": taught,
        "examples/preferences.jsonl": preference_rows(taught),
        "suites/facts.jsonl": cases(held, by_hand=False),
        "suites/by_hand.jsonl": cases(held, by_hand=True),
    }
    for name, rows in written.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
