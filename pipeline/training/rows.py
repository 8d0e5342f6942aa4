"""Training rows: read from a dataset version, and made into the tokens that a method learns from."""

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
from pipeline.usecase import ExampleKind

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

    def counts(self) -> RowCounts:
        """Returns the counts alone."""
        return RowCounts(len(self.rows), self.tokens, self.supervised, self.cut, self.last_only, dict(self.rejected))


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


def supervised(contents: Sequence[Content], chat: Chat, max_length: int) -> Kept:
    """Returns the rows with at least one supervised token within `max_length` tokens, as {"input_ids", "labels"}.

    Reasons to reject: those of `Chat.conversation`, and `answer_beyond_max_length`.
    """
    rows: list[dict[str, Any]] = []
    rejected: Counter[str] = Counter()
    tokens = learned = cut = last_only = 0
    for content in contents:
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
        rows.append({"input_ids": ids, "labels": labels})
        tokens += len(ids)
        learned += own
        cut += len(encoded.ids) > max_length
        last_only += encoded.last_only
    return Kept(rows, tokens, learned, cut, last_only, dict(rejected))


def preferences(contents: Sequence[Content], chat: Chat, max_length: int) -> Kept:
    """Returns the preference rows whose two answers differ within `max_length` tokens of prompt and answer, as
    {"prompt_ids", "chosen_ids", "rejected_ids"}.

    Reasons to reject: those of `Chat.conversation`, `prompts_differ` (the two sides lead to their answers by different
    turns), `prompt_fills_max_length`, `answers_alike`. `tokens` counts both sides.
    """
    rows: list[dict[str, Any]] = []
    rejected: Counter[str] = Counter()
    tokens = learned = cut = 0
    for content in contents:
        try:
            sides = [_completion(chat, [*content["prompt"], *content[side]]) for side in ("chosen", "rejected")]
        except Unsuitable as error:
            rejected[error.reason] += 1
            continue
        (prompt, chosen), (other, refused) = sides
        room = max_length - len(prompt)
        if prompt != other:
            rejected["prompts_differ"] += 1
        elif room <= 0:
            rejected["prompt_fills_max_length"] += 1
        elif chosen[:room] == refused[:room]:
            rejected["answers_alike"] += 1
        else:
            rows.append({"prompt_ids": prompt, "chosen_ids": chosen[:room], "rejected_ids": refused[:room]})
            lengths = [min(len(side), room) for side in (chosen, refused)]
            tokens += sum(lengths) + 2 * len(prompt)
            learned += sum(lengths)
            cut += max(len(chosen), len(refused)) > room
    return Kept(rows, tokens, learned, cut, 0, dict(rejected))


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
        next_step=f"add rows, or raise max_length above {max_length}",
    )
