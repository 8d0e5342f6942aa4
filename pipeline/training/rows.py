"""Training rows: read from a dataset version, and made into the tokens that a method learns from."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import database
from pipeline.chat import Chat, Message, Unsuitable
from pipeline.database import Connection
from pipeline.errors import Refused
from pipeline.steps import Version
from pipeline.training.head import IGNORED
from pipeline.training.records import RowCounts, Split
from pipeline.usecase import DpoRecipe, ExampleKind, SftRecipe

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """The rows that a method can learn from, and the count of the others by reason."""

    rows: list[dict[str, Any]]
    tokens: int = 0
    supervised: int = 0
    cut: int = 0
    last_only: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0

    def counts(self) -> RowCounts:
        """Returns the counts alone."""
        counts = (len(self.rows), self.tokens, self.supervised, self.cut, self.last_only)
        return RowCounts(*counts, dict(self.rejected), self.left_out)


def read(connection: Connection, dataset: Version, kind: ExampleKind) -> dict[Split, list[Content]]:
    """Returns the rows of one kind by split, in the order of their digests.

    A row's content is {"messages"} for sft and {"prompt", "chosen", "rejected"} for preferences, each a list of
    {"role", "content"}.
    """
    rows: dict[Split, list[Content]] = {"train": [], "validation": []}
    parameters = {"artifact_version_id": dataset.version_id, "kind": kind}
    for row in database.fetch(connection, "training", "rows", **parameters):
        rows[row["split"]].append(row["content"])
    return rows


def budget(recipe: SftRecipe | DpoRecipe, split: Split) -> float:
    """Returns how many tokens the rows of a split may have together."""
    return math.inf if recipe.max_tokens is None else recipe.max_tokens / (10 if split == "validation" else 1)


def supervised(contents: Sequence[Content], chat: Chat, max_length: int, room: float = math.inf) -> Kept:
    """Returns the rows with at least one supervised token within `max_length` tokens, as {"input_ids", "labels"}: from
    the first on, as many as have `room` tokens together. Their order is that of digests, so they are a random sample.

    Reasons to reject: those of `Chat.conversation`, and `answer_beyond_max_length`.
    """
    rows: list[dict[str, Any]] = []
    rejected: Counter[str] = Counter()
    tokens = learned = cut = last_only = left_out = 0
    for place, content in enumerate(contents):
        try:
            encoded = chat.conversation(content["messages"])
        except Unsuitable as error:
            rejected[error.reason] += 1
            continue
        ids = encoded.ids[:max_length]
        labels = [IGNORED] * len(ids)
        for begin, end in encoded.answers:
            labels[begin:end] = ids[begin:end]
        own = sum(label != IGNORED for label in labels)
        if not own:
            rejected["answer_beyond_max_length"] += 1
            continue
        if tokens + len(ids) > room:
            left_out = len(contents) - place
            break
        rows.append({"input_ids": ids, "labels": labels})
        tokens += len(ids)
        learned += own
        cut += len(encoded.ids) > max_length
        last_only += encoded.last_only
    return Kept(rows, tokens, learned, cut, last_only, dict(rejected), left_out)


def preferences(contents: Sequence[Content], chat: Chat, max_length: int, room: float = math.inf) -> Kept:
    """Returns the preference rows whose two answers differ within `max_length` tokens of prompt and answer, as
    {"prompt_ids", "chosen_ids", "rejected_ids"}; as many as have `room` tokens together, as `supervised` does.

    Reasons to reject: those of `Chat.conversation`, `prompts_differ` (the two sides lead to their answers by different
    turns), `prompt_fills_max_length`, `answers_alike`. `tokens` counts both sides.
    """
    rows: list[dict[str, Any]] = []
    rejected: Counter[str] = Counter()
    tokens = learned = cut = left_out = 0
    for place, content in enumerate(contents):
        try:
            sides = [_completion(chat, [*content["prompt"], *content[side]]) for side in ("chosen", "rejected")]
        except Unsuitable as error:
            rejected[error.reason] += 1
            continue
        (prompt, chosen), (other, refused) = sides
        length = max_length - len(prompt)  # that is left for an answer
        if prompt != other:
            rejected["prompts_differ"] += 1
        elif length <= 0:
            rejected["prompt_fills_max_length"] += 1
        elif chosen[:length] == refused[:length]:
            rejected["answers_alike"] += 1
        else:
            answers = [chosen[:length], refused[:length]]
            own = sum(map(len, answers))
            if tokens + own + 2 * len(prompt) > room:
                left_out = len(contents) - place
                break
            rows.append({"prompt_ids": prompt, "chosen_ids": answers[0], "rejected_ids": answers[1]})
            tokens += own + 2 * len(prompt)
            learned += own
            cut += max(len(chosen), len(refused)) > length
    return Kept(rows, tokens, learned, cut, 0, dict(rejected), left_out)


def _completion(chat: Chat, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Returns the tokens of a conversation before its last answer, and that answer's with its end mark."""
    encoded = chat.conversation(messages)
    begin, _ = encoded.answers[-1]
    return encoded.ids[:begin], encoded.ids[begin:]


def require(kept: Kept, kind: ExampleKind, max_length: int) -> None:
    """Raises Refused where rows were given and none of them can be learned from, or none were given."""
    if kept.rows:
        return
    raise Refused(
        f"there is no {kind} row in the train split that can be learned from",
        where="the dataset version's train split",
        found=", ".join(f"{reason}: {count}" for reason, count in kept.rejected.items()) or "no row at all",
        next_step=f"add rows, or raise max_length above {max_length}, or max_tokens",
    )
