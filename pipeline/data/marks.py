"""Marks: what of a row is compared with other rows, as 16 bytes of a hash (BLAKE2b, RFC 7693) and never as text."""

from dataclasses import dataclass
from hashlib import blake2b

from pipeline.data.formats import Example
from pipeline.data.layouts import Content
from pipeline.data.normal import digest, normal
from pipeline.data.splits import normalised, question, questions


@dataclass(frozen=True)
class Marks:
    """What of an example is compared with other rows: 16 bytes of each text's hash, never the text."""

    row: bytes  # content, and whom and what it is about
    content: bytes
    prompt: bytes | None = None  # of a conversation
    answer: bytes | None = None  # its last one
    questions: tuple[bytes, ...] = ()


def of(row: Example, content: Content) -> Marks:
    """Returns the marks of an example with this content."""
    seen = row.normal_digest
    about = mark("\n".join(("row", seen, row.subject or "", *row.documents)))
    marks = tuple(map(question_mark, questions(content)))
    if "messages" not in content:
        return Marks(about, mark(f"content\n{seen}"), questions=marks)
    *prompt, answer = content["messages"]
    return Marks(about, mark(f"content\n{seen}"), mark(digest(prompt)), mark(normal(answer["content"])), marks)


def question_mark(text: str) -> bytes:
    """Returns the mark of a question, whatever passages stand before it and however it is written."""
    return mark(normalised(question(text)))


def mark(text: str) -> bytes:
    """Returns 16 bytes of a hash over a text, BLAKE2b (RFC 7693)."""
    return blake2b(text.encode(), digest_size=16).digest()
