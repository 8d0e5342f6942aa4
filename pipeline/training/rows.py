"""Training rows: read from a dataset version, and made into the tokens that a method learns from."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import database, encoding
from pipeline.chat import Chat, Unsuitable
from pipeline.database import Connection
from pipeline.encoding import Content
from pipeline.errors import Refused
from pipeline.steps import Version
from pipeline.training.head import IGNORED
from pipeline.training.mixing import Mix
from pipeline.training.recipe import Method
from pipeline.training.records import RowCounts, Split
from pipeline.usecase import ExampleKind, Recipe


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


def read(
    connection: Connection, dataset: Version, kind: ExampleKind, mix: Mix | None = None
) -> dict[Split, list[Content]]:
    """Returns the rows of one kind by split, in the order of their digests; those to train on as often as the mix says.

    A row's content is {"messages"} for sft, {"prompt", "chosen", "rejected"} for preferences and {"text"} for texts,
    each a list of {"role", "content"}.
    """
    rows: dict[Split, list[Content]] = {"train": [], "validation": []}
    parameters = {"artifact_version_id": dataset.version_id, "kind": kind}
    for row in database.fetch(connection, "training", "rows", **parameters):
        times = mix.times(row["source"], row["digest"]) if mix is not None and row["split"] == "train" else 1
        rows[row["split"]] += [row["content"]] * times
    return rows


KINDS: Mapping[Method, ExampleKind] = {"pretrain": "text", "sft": "sft", "dpo": "preference"}  # of rows, by method


def kept(method: Method, contents: Sequence[Content], chat: Chat, max_length: int, room: float = math.inf) -> Kept:
    """Returns the rows that a method can learn from, as `texts`, `supervised` or `preferences` makes them."""
    makers = {"pretrain": texts, "sft": supervised, "dpo": preferences}
    return makers[method](contents, chat, max_length, room)


def budget(recipe: Recipe, split: Split) -> float:
    """Returns how many tokens the rows of a split may have together."""
    return math.inf if recipe.max_tokens is None else recipe.max_tokens / (10 if split == "validation" else 1)


def texts(contents: Sequence[Content], chat: Chat, max_length: int, room: float = math.inf) -> Kept:
    """Returns plain texts as {"input_ids", "labels"}, every token supervised; one of more than `max_length` tokens is
    divided. As many as have `room` tokens together, as `supervised` does.

    Reasons to reject: `empty_text`.
    """
    rows: list[dict[str, Any]] = []
    rejected: Counter[str] = Counter()
    tokens = cut = left_out = 0
    for place, content in enumerate(contents):
        ids = encoding.text(chat, content)
        if len(ids) < 2:
            rejected["empty_text"] += 1
            continue
        if tokens + len(ids) > room:
            left_out = len(contents) - place
            break
        pieces = [ids[begin : begin + max_length] for begin in range(0, len(ids), max_length)]
        # A piece of one token has nothing to be foretold from.
        rows += [{"input_ids": piece, "labels": list(piece)} for piece in pieces if len(piece) > 1]
        tokens += len(ids)
        cut += len(pieces) > 1
    return Kept(rows, tokens, tokens, cut, 0, dict(rejected), left_out)


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
            row = encoding.supervised(chat, content, max_length)
        except Unsuitable as error:
            rejected[error.reason] += 1
            continue
        if row.unsuitable is not None:
            rejected[row.unsuitable] += 1
            continue
        if tokens + len(row.ids) > room:
            left_out = len(contents) - place
            break
        labels = [IGNORED] * len(row.ids)
        for begin, end in row.answers:
            labels[begin:end] = row.ids[begin:end]
        rows.append({"input_ids": row.ids, "labels": labels})
        tokens += len(row.ids)
        learned += row.supervised
        cut += row.length > max_length
        last_only += row.last_only
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
            row = encoding.pair(chat, content, max_length)
        except Unsuitable as error:
            rejected[error.reason] += 1
            continue
        if row.unsuitable is not None:
            rejected[row.unsuitable] += 1
            continue
        chosen, refused = row.answers
        own = len(chosen) + len(refused)
        if tokens + own + 2 * len(row.prompt) > room:
            left_out = len(contents) - place
            break
        rows.append({"prompt_ids": row.prompt, "chosen_ids": chosen, "rejected_ids": refused})
        tokens += own + 2 * len(row.prompt)
        learned += own
        cut += row.length > max_length
    return Kept(rows, tokens, learned, cut, 0, dict(rejected), left_out)


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
