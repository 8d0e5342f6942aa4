"""The one form in which a question and its passages are put to a model, in training rows and in evaluation alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

HEADING = "Documents:"
QUESTION = "Question:"

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
_CITATION = re.compile(r"\[([a-z0-9]+(?:-[a-z0-9]+)*)\]")


@dataclass(frozen=True)
class Passage:
    """A piece of a document that was retrieved for a question."""

    document: str  # the document's id, which the answer cites
    text: str


def sentences(text: str) -> list[str]:
    """The sentences of a text; markdown headings and blank lines are left out, list marks are taken off."""
    parts: list[str] = []
    body = "\n".join("" if line.lstrip().startswith("#") else line for line in text.splitlines())
    for block in re.split(r"\n\s*\n|\n(?=\s*[-*])", body):
        joined = " ".join(re.sub(r"^\s*[-*]\s+", "", block).split())
        parts += [sentence for sentence in _SENTENCE_END.split(joined) if sentence]
    return parts


def context(passages: Sequence[Passage]) -> str:
    """The passages, one a line, each sentence followed by the id of its document in brackets."""
    return "\n".join(
        " ".join(f"{sentence} [{passage.document}]" for sentence in sentences(passage.text)) for passage in passages
    )


def messages(question: str, passages: Sequence[Passage]) -> list[dict[str, str]]:
    """The chat messages that ask ``question``, with the passages as its context or, if there are none, without."""
    text = f"{QUESTION} {question}"
    if passages:
        text = f"{HEADING}\n{context(passages)}\n\n{text}"
    return [{"role": "user", "content": text}]


def cited(answer: str) -> list[str]:
    """The ids of the documents that an answer cites, in its order, each once."""
    return list(dict.fromkeys(_CITATION.findall(answer)))
