"""A training row as the tokens that a method learns from, cut at `max_length`: the one account of it, for the check of
the data and for the training, so that what the one lets through the other can train on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.chat import Chat, Message, Reason, Unsuitable

Content = Mapping[str, Any]  # {"messages"}, {"text"}, or {"prompt", "chosen", "rejected"}: lists of {"role", "content"}


@dataclass(frozen=True)
class Supervised:
    """A conversation for supervised fine-tuning."""

    ids: list[int]  # within max_length
    answers: tuple[tuple[int, int], ...]  # where the supervised answers, or what is left of them, begin and end in it
    length: int  # tokens before the cut
    cut_answers: int  # answers of which the cut leaves a part
    lost_answers: int  # answers of which it leaves nothing
    last_only: bool  # there are earlier answers, and they are not supervised

    @property
    def supervised(self) -> int:
        """Returns how many tokens the loss is taken on."""
        return sum(end - begin for begin, end in self.answers)

    @property
    def unsuitable(self) -> Reason | None:
        """Returns why nothing can be learned from it; None where something can."""
        return None if self.answers else "answer_beyond_max_length"


@dataclass(frozen=True)
class Pair:
    """A preference: one prompt and two answers to it."""

    prompt: list[int]
    chosen: list[int]  # whole
    rejected: list[int]  # whole
    room: int  # tokens of max_length that the prompt leaves; none or fewer where it fills them

    @property
    def length(self) -> int:
        """Returns the tokens of prompt and longer answer before the cut."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def answers(self) -> tuple[list[int], list[int]]:
        """Returns what the cut leaves of chosen and rejected."""
        room = max(self.room, 0)
        return self.chosen[:room], self.rejected[:room]

    @property
    def cut_answers(self) -> int:
        """Returns of how many answers the cut leaves a part."""
        return sum(0 < self.room < len(answer) for answer in (self.chosen, self.rejected))

    @property
    def equal_after_cut(self) -> bool:
        """Returns whether two answers that differ are the same within max_length."""
        chosen, rejected = self.answers
        return self.room > 0 and chosen == rejected and self.chosen != self.rejected

    @property
    def unsuitable(self) -> Reason | None:
        """Returns why nothing can be learned from it; None where something can."""
        if self.room <= 0:
            return "prompt_fills_max_length"
        chosen, rejected = self.answers
        return "answers_alike" if chosen == rejected else None


def supervised(chat: Chat, content: Content, max_length: int) -> Supervised:
    """Returns a conversation as tokens, cut after `max_length`. Raises Unsuitable as `Chat.conversation` does."""
    encoded = chat.conversation(content["messages"])
    return Supervised(
        ids=encoded.ids[:max_length],
        answers=tuple((begin, min(end, max_length)) for begin, end in encoded.answers if begin < max_length),
        length=len(encoded.ids),
        cut_answers=sum(begin < max_length < end for begin, end in encoded.answers),
        lost_answers=sum(begin >= max_length for begin, _ in encoded.answers),
        last_only=encoded.last_only,
    )


def text(chat: Chat, content: Content) -> list[int]:
    """Returns a plain text as tokens, whole, with the mark of its end."""
    return chat.document(content["text"][0]["content"])


def pair(chat: Chat, content: Content, max_length: int) -> Pair:
    """Returns a preference as tokens.

    Raises Unsuitable: as `Chat.conversation` does, and `prompts_differ` where the two sides lead to their answers by
    different turns.
    """
    (prompt, chosen), (other, rejected) = (
        _last_answer(chat, [*content["prompt"], *content[side]]) for side in ("chosen", "rejected")
    )
    if prompt != other:
        raise Unsuitable("prompts_differ")
    return Pair(prompt, chosen, rejected, max_length - len(prompt))


def _last_answer(chat: Chat, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Returns the tokens of a conversation before its last answer, and that answer's with its end mark."""
    encoded = chat.conversation(messages)
    begin, _ = encoded.answers[-1]
    return encoded.ids[:begin], encoded.ids[begin:]
