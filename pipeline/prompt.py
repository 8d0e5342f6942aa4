"""How a question and its passages are put to a model: a Jinja file of the use case, in training rows and in evaluation
alike.

What a document says is untrusted. It is given to the template with the marks around documents broken where its text
spells them, and with no other way out of its place than the template leaves open; control tokens are the concern of
pipeline/chat.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import canonical
from pipeline.errors import BadInput

DEFAULT = Path(__file__).with_suffix(".md.j2")
QUESTION = "Question:"  # what a question follows; rows that ask the same share a split by it

_BLOCKS = ("system", "user")  # in the order of their messages
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
_CITATION = re.compile(r"\[([a-z0-9]+(?:-[a-z0-9]+)*)\]")
_DOCUMENT_MARK = re.compile(r"<(?=\s*/?\s*document\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Passage:
    """A piece of a document that was retrieved for a question."""

    document: str  # the document's id, which the answer cites
    text: str


@dataclass(frozen=True)
class Prompt:
    """A prompt's template."""

    text: str
    where: str  # the file that it was read from, for messages

    @property
    def digest(self) -> str:
        """Returns the prompt's identity."""
        return canonical.digest_text(self.text)

    @cached_property
    def _template(self) -> Any:
        from jinja2 import StrictUndefined
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
        )
        environment.filters |= {"sentences": sentences, "quoted": _quoted}
        return environment.from_string(self.text)

    def messages(self, question: str, passages: Sequence[Passage]) -> list[dict[str, str]]:
        """Returns the chat messages that ask `question`, with the passages as its context: a system message where the
        template writes one, and the user's. Raises BadInput where the template cannot be rendered."""
        from jinja2 import TemplateError

        safe = [Passage(passage.document, _DOCUMENT_MARK.sub("< ", passage.text)) for passage in passages]
        try:
            blocks = {name: self._template.blocks[name] for name in _BLOCKS if name in self._template.blocks}
            context = {"question": question, "passages": safe}
            written = {
                name: "".join(block(self._template.new_context(context))).strip() for name, block in blocks.items()
            }
        except (TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise BadInput(
                "the prompt cannot be rendered",
                where=f"{self.where}:{getattr(error, 'lineno', None) or 1}",
                found=f"{type(error).__name__}: {error}",
                allowed="Jinja with the blocks system (if any) and user; the variables question and passages",
            ) from None
        return [{"role": name, "content": text} for name, text in written.items() if text]


def read(path: Path | None = None) -> Prompt:
    """Returns the prompt of a file, or the default.

    Raises BadInput for one that cannot be rendered, or that leaves out the question, what a passage says, or the id of
    its document.
    """
    prompt = Prompt((path or DEFAULT).read_text(encoding="utf-8"), str(path or DEFAULT))
    asked = prompt.messages("Which one is it?", [Passage("some-document", "It is the second.")])
    alone = prompt.messages("Which one is it?", [])
    missing = [
        what
        for what, text, messages in (
            ("the question", "Which one is it?", asked),
            ("the question, where there is no passage", "Which one is it?", alone),
            ("a passage's text", "It is the second.", asked),
            ("a passage's document", "some-document", asked),
        )
        if not any(message["role"] == "user" and text in message["content"] for message in messages)
    ]
    if missing:
        raise BadInput(
            "the prompt leaves something out",
            where=prompt.where,
            found=f"block user without {', '.join(missing)}",
            allowed="{{ question }}, and passage.text and passage.document of every one of passages",
        )
    return prompt


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text; Markdown headings and blank lines are left out, list marks are taken off."""
    parts: list[str] = []
    body = "\n".join("" if line.lstrip().startswith("#") else line for line in text.splitlines())
    for block in re.split(r"\n\s*\n|\n(?=\s*[-*])", body):
        joined = " ".join(re.sub(r"^\s*[-*]\s+", "", block).split())
        parts += [sentence for sentence in _SENTENCE_END.split(joined) if sentence]
    return parts


def cited(answer: str) -> list[str]:
    """Returns the ids of the documents that an answer cites, in its order, each once."""
    return list(dict.fromkeys(_CITATION.findall(answer)))


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines())
