"""How a conversation becomes tokens: one rendering for training, evaluation and serving, for any chat template.

A template says how a conversation reads, and most say nothing of where the assistant's words are. They are found by
rendering the conversation twice, as it is and with a mark in place of the answer: what stands before the mark is the
prompt, and what stands after it ends the turn. So three things hold of every row, whatever the template:

- the tokens that a row begins with are, one by one, the prompt that the model is given later;
- its supervised tokens are the answer's words and the token that ends the turn, and nothing else;
- a text that spells a control token, as in a document or a question, opens or ends no turn.

A template that writes an earlier turn otherwise once another follows (it drops the thinking, or moves the system
message to the last question) breaks the first for the earlier turns. Such a row teaches its last answer alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from pipeline.errors import BadInput

Message = Mapping[str, str]

# Templates that write today's date would make every day's rows others. This is the date that Llama 3.1's template
# writes where none is given.
_DATE = date(2024, 7, 26)
# A thinking model answers at once with one of these; a template that knows neither ignores them.
_VARIANTS: tuple[Mapping[str, bool], ...] = ({}, {"enable_thinking": False}, {"thinking": False})
_QUESTION, _ANSWER, _SYSTEM = "which one is it", "it is the second", "speak plainly"
# How answers begin, to see whether white space at a prompt's end grows together with them.
_BEGINNINGS = ("Two", "two", "7", "(a)", "“Yes", "- one", "EUR 5", "Ähnlich")
_MARK = "answer-goes-here"


# Why a row cannot be trained on. The last five are about its length and its two sides: see pipeline/encoding.py.
Reason = Literal[
    "no_answer",
    "control_token_in_answer",
    "template_refuses",
    "template_changes_answer",
    "prompt_is_no_prefix",
    "end_mark_is_no_token",
    "answer_beyond_max_length",
    "prompts_differ",
    "prompt_fills_max_length",
    "answers_alike",
    "empty_text",
]


class Unsuitable(Exception):
    """A conversation that cannot be rendered. `reason` is a name to count it under."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Encoded:
    """A conversation up to its last answer, as tokens."""

    ids: list[int]
    answers: tuple[tuple[int, int], ...]  # where each supervised answer begins and ends; the end mark is its last token
    last_only: bool  # there are earlier answers, and they are not supervised


@dataclass(frozen=True)
class Form:
    """How a template writes, as far as training and serving depend on it."""

    end: str  # the token that ends the assistant's turn
    opens_as_generation: bool  # an answer begins as `add_generation_prompt` says; otherwise as finished turns have it
    folds_system: bool  # the system message goes into the first question: the template takes none
    dated: bool  # the template writes the date: always the same one here
    options: Mapping[str, bool] = field(default_factory=dict)  # what the template is given to answer without thinking


class Chat:
    """A tokenizer's chat template, ready to render."""

    def __init__(self, tokenizer: Any) -> None:
        """Finds out how the template writes, on a few made-up turns.

        Raises BadInput where there is no template, it cannot be rendered, or nothing ends the assistant's turn.
        """
        self._tokenizer = tokenizer
        self._template = _template(tokenizer)
        self._parts = self._folds = self._strips = False
        self._options: Mapping[str, bool] = {}
        self._control = _pattern(_control(tokenizer, self._template))
        self._learn_options()
        self._folds = not self._takes_system()
        self.end = self._learn_end()
        self._end_text = str(tokenizer.convert_ids_to_tokens(self.end))
        self._strips = self._space_merges()
        question = [{"role": "user", "content": _QUESTION}]
        self.form = Form(
            end=self._end_text,
            opens_as_generation=self.prompt(question) == self._ids(self._render(question, add_generation_prompt=True)),
            folds_system=self._folds,
            dated="strftime_now" in self._template,
            options=self._options,
        )

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Returns the tokens after which the assistant answers. Raises Unsuitable where the template refuses."""
        return self._prompt_ids(self._opening(self._ready(messages))[0])

    def reply(self, messages: Sequence[Message], text: str) -> tuple[list[int], list[int]]:
        """Returns (prompt, the tokens of this answer's words after it). Raises Unsuitable as `conversation` does."""
        answer = {"role": "assistant", "content": self._harmless(text)}
        encoded = self.conversation([*messages, answer])
        begin, end = encoded.answers[-1]
        return encoded.ids[:begin], encoded.ids[begin : end - 1]

    def document(self, text: str) -> list[int]:
        """Returns the tokens of a plain text as the tokenizer begins one, and the mark of its end. Control tokens that
        it spells are made harmless."""
        ids = list(self._tokenizer(self._harmless(text))["input_ids"])
        end = self._tokenizer.eos_token_id
        return ids if end is None or ids[-1:] == [end] else [*ids, int(end)]

    def conversation(self, messages: Sequence[Message]) -> Encoded:
        """Returns a conversation up to its last answer.

        Raises Unsuitable: `no_answer` (nothing is said by the assistant), `control_token_in_answer`,
        `template_refuses` (roles in an order that the model was not made for), `template_changes_answer`,
        `prompt_is_no_prefix` (the answer's first token grows into the prompt's last), `end_mark_is_no_token` (what ends
        the turn grows into what stands before it).
        """
        turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        if not turns or not messages[turns[-1]]["content"].strip():
            raise Unsuitable("no_answer")
        if any(self._control.search(messages[place]["content"]) for place in turns):
            raise Unsuitable("control_token_in_answer")
        ready = self._ready(messages[: turns[-1] + 1])
        turns = [place for place, message in enumerate(ready) if message["role"] == "assistant"]
        text, begin, stop = self._turn(ready)
        ids = self._ids(text[:stop])
        if text[begin:stop].endswith(self._end_text):
            if ids[-1] != self.end:
                raise Unsuitable("end_mark_is_no_token")
        else:
            ids.append(self.end)
        last = (self._prefix(text[:begin], ids), len(ids))
        earlier = [self._earlier(ready[: place + 1], text, ids) for place in turns[:-1]]
        kept = [span for span in earlier if span is not None]
        whole = len(kept) == len(earlier)
        return Encoded(ids, (*kept, last) if whole else (last,), not whole)

    def _turn(self, ready: Sequence[Message]) -> tuple[str, int, int]:
        """Returns (rendered, where the last answer begins in it, where its end mark ends); the answer itself where the
        template writes no end mark after it."""
        opening, closing = self._opening(ready[:-1])
        text = self._render(ready)
        content = ready[-1]["content"]
        for words in (content, content.strip()):
            if text == opening + words + closing:
                return text, len(opening), len(opening) + len(words) + self._ending(closing)
        raise Unsuitable("template_changes_answer")

    def _earlier(self, ready: Sequence[Message], text: str, ids: Sequence[int]) -> tuple[int, int] | None:
        """Returns where an earlier answer stands among a whole conversation's tokens; None where that conversation does
        not begin with what the model read and said when it gave this answer."""
        if not ready[-1]["content"].strip():
            return None
        try:
            own, begin, stop = self._turn(ready)
            until = self._ids(own[:stop])
            if not text.startswith(own[:stop]) or until[-1] != self.end or list(ids[: len(until)]) != until:
                return None
            return self._prefix(own[:begin], ids), len(until)
        except Unsuitable:
            return None

    def _prefix(self, opening: str, ids: Sequence[int]) -> int:
        """Returns how many tokens the prompt has. Raises Unsuitable where the row does not begin with them."""
        prompt = self._prompt_ids(opening)
        if list(ids[: len(prompt)]) != prompt:
            raise Unsuitable("prompt_is_no_prefix")
        return len(prompt)

    def _opening(self, ready: Sequence[Message]) -> tuple[str, str]:
        """Returns what the template writes before an answer, and after it."""
        mark = _MARK
        while any(mark in message["content"] for message in ready):
            mark += "-"
        before, found, after = self._render([*ready, {"role": "assistant", "content": mark}]).rpartition(mark)
        if not found:
            raise Unsuitable("template_refuses")
        return before, after

    def _ending(self, closing: str) -> int:
        """Returns how long the end mark is in what follows an answer, with white space before it; 0 where there is
        none."""
        blank = len(closing) - len(closing.lstrip())
        return blank + len(self._end_text) if closing.startswith(self._end_text, blank) else 0

    def _ready(self, messages: Sequence[Message]) -> list[Message]:
        """Returns the messages as the template takes them."""
        ready: list[Message] = [
            message if message["role"] == "assistant" else {**message, "content": self._harmless(message["content"])}
            for message in messages
        ]
        if not self._folds or not ready or ready[0]["role"] != "system":
            return ready
        system, rest = ready[0]["content"], ready[1:]
        if rest and rest[0]["role"] == "user":
            return [{**rest[0], "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
        return [{"role": "user", "content": system}, *rest]

    def _harmless(self, text: str) -> str:
        """Returns a text in which no control token is spelt: each loses its form to a space after its first sign."""
        while self._control.search(text):
            text = self._control.sub(lambda match: f"{match[0][0]} {match[0][1:]}" if len(match[0]) > 1 else "", text)
        return text

    def _render(self, messages: Sequence[Message], **options: Any) -> str:
        conversation = [
            {
                **message,
                "content": [{"type": "text", "text": message["content"]}] if self._parts else message["content"],
            }
            for message in messages
        ]
        try:
            rendered = self._tokenizer.apply_chat_template(
                conversation,
                chat_template=self._template,
                tokenize=False,
                **{"add_generation_prompt": False, **self._options, **options},
            )
        except _refusals():
            raise Unsuitable("template_refuses") from None
        return str(rendered)

    def _prompt_ids(self, opening: str) -> list[int]:
        return self._ids(opening.rstrip() if self._strips else opening)

    def _ids(self, text: str) -> list[int]:
        # The template writes the sequence's beginning where the model wants one.
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _learn_options(self) -> None:
        """Settles how the template is called: with texts or with lists of parts; so that an answer begins as the
        generation prompt says, if it can."""
        question: Message = {"role": "user", "content": _QUESTION}
        best: tuple[int, bool, Mapping[str, bool]] | None = None
        for parts in (False, True):
            for options in _VARIANTS:
                self._parts, self._options = parts, options
                try:
                    opening, _ = self._opening([question])
                    generation = self._render([question], add_generation_prompt=True)
                except Unsuitable:
                    continue
                alike = (opening == generation) + (opening.rstrip() == generation.rstrip())
                if _QUESTION in opening and (best is None or alike > best[0]):
                    best = (alike, parts, options)
        if best is None:
            raise BadInput(
                "the chat template cannot be rendered",
                where=self._tokenizer.name_or_path,
                found="an error, or nothing of what was said, for one question and its answer",
                next_step="put the model's chat_template.jinja beside its tokenizer",
            )
        _, self._parts, self._options = best

    def _takes_system(self) -> bool:
        conversation: list[Message] = [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": _QUESTION},
        ]
        try:
            opening, _ = self._opening(conversation)
        except Unsuitable:
            return False
        return _SYSTEM in opening and _QUESTION in opening

    def _learn_end(self) -> int:
        """Returns the token that ends the assistant's turn: the one that the template writes after an answer, after an
        answer that another question follows, or else the end of the sequence."""
        question: Message = {"role": "user", "content": _QUESTION}
        answer: Message = {"role": "assistant", "content": _ANSWER}
        opening, closing = self._opening([question])
        if (token := self._leading(closing)) is not None:
            return token
        try:
            followed = self._render([question, answer, question, answer]).partition(_ANSWER)[2]
        except Unsuitable:
            followed = ""  # a template for one question and its answer
        # What also stands before the first question opens a turn.
        if (token := self._leading(followed)) is not None and token not in self._ids(opening.partition(_QUESTION)[0]):
            return token
        if self._tokenizer.eos_token_id is None:
            raise BadInput(
                "nothing ends the assistant's turn",
                where=self._tokenizer.name_or_path,
                found="no control token after an answer, and a tokenizer without an end of sequence",
                next_step="set eos_token in tokenizer_config.json",
            )
        return int(self._tokenizer.eos_token_id)

    def _leading(self, text: str) -> int | None:
        """Returns the control token that a text begins with, white space aside."""
        ids = [token for token in self._ids(text.lstrip()) if self._tokenizer.decode([token]).strip()]
        return ids[0] if ids and ids[0] in self._tokenizer.added_tokens_decoder else None

    def _space_merges(self) -> bool:
        """Returns whether white space at the prompt's end would grow together with the answer's first word, so that the
        prompt must end before it."""
        opening = self._opening([{"role": "user", "content": _QUESTION}])[0]

        def holds(prompt: str) -> bool:
            ids = self._ids(prompt)
            return all(self._ids(opening + words)[: len(ids)] == ids for words in _BEGINNINGS)

        return not holds(opening) and holds(opening.rstrip())


def _template(tokenizer: Any) -> str:
    """Returns the template's text; of several by name, the default."""
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        template = template.get("default")
    if not template:
        raise BadInput(
            "the model has no chat template",
            where=tokenizer.name_or_path,
            next_step="take the family's instruction-tuned model, or put a chat_template.jinja beside its tokenizer",
        )
    return _dated() + template if "strftime_now" in template else str(template)


def _dated() -> str:
    """Returns what, before a template, gives it one date for today's. transformers passes a template no functions."""
    replaced = "".join(f" | replace('%{sign}', '{_DATE.strftime(f'%{sign}')}')" for sign in "aAbBdjmyYHIMSp")
    return f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}{{{{ '' }}}}"


def _control(tokenizer: Any, template: str) -> set[str]:
    """Returns the tokens that would open or end something if a text spelt them: the special ones, and what else the
    template writes of the added ones. Plain words and white space are none."""
    return {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if not token.content.isalnum() and not token.content.isspace() and (token.special or token.content in template)
    }


def _pattern(tokens: set[str]) -> re.Pattern[str]:
    """Returns what finds these tokens in a text, the longest first; never anything where there are none."""
    spelt = sorted((token for token in tokens if token.strip()), key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, spelt)) or r"(?!)")


def _refusals() -> tuple[type[Exception], ...]:
    """Returns what a template raises for a conversation that it does not take."""
    from jinja2 import TemplateError

    return (TemplateError, TypeError, ValueError, KeyError, IndexError)
