"""Training rows: read from a dataset version, and held against what the method can learn from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import Refused
from pipeline.steps import Version
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
    rejected: Mapping[str, int] = field(default_factory=dict)

    def counts(self) -> RowCounts:
        """Returns the counts alone."""
        return RowCounts(len(self.rows), self.tokens, self.supervised, self.cut, dict(self.rejected))


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


def training_template(tokenizer: Any) -> str:
    """Returns the chat template to train with: the model's own where it marks the assistant's words with
    `{% generation %}`, or else TRL's for the families that it knows.

    Raises Refused where there is neither: the loss would be taken on nothing at all.
    """
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    template = tokenizer.chat_template
    if template and has_generation_markers(template):
        return template["default"] if isinstance(template, dict) else str(template)
    try:
        patched = get_training_chat_template(tokenizer) if template else None
    except ValueError:
        patched = None
    if patched is None:
        raise Refused(
            "the chat template does not mark what the assistant says" if template else "the model has no chat template",
            where="chat_template.jinja or tokenizer_config.json of the base model",
            allowed="a template with {% generation %} … {% endgeneration %} around the assistant's content and its end",
            next_step="put a chat_template.jinja with these tags into the model's folder",
        )
    return patched


def supervised(contents: Sequence[Content], tokenizer: Any, max_length: int) -> Kept:
    """Returns the rows with at least one supervised token within `max_length` tokens.

    `tokenizer.chat_template` must be the training template. Reasons to reject: `template_refuses` (roles in an order
    that the model was not made for), `no_supervised_token` (no answer), `answer_beyond_max_length`.
    """
    from jinja2 import TemplateError

    rows: list[dict[str, Any]] = []
    rejected: Counter[str] = Counter()
    tokens = spoken = cut = 0
    for content in contents:
        try:
            encoded = tokenizer.apply_chat_template(
                content["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
        except TemplateError:
            rejected["template_refuses"] += 1
            continue
        mask = encoded["assistant_masks"]
        if not any(mask):
            rejected["no_supervised_token"] += 1
        elif not any(mask[:max_length]):
            rejected["answer_beyond_max_length"] += 1
        else:
            rows.append({"messages": content["messages"]})
            tokens += min(len(mask), max_length)
            spoken += sum(mask[:max_length])
            cut += len(mask) > max_length
    return Kept(rows, tokens, spoken, cut, dict(rejected))


def preferences(contents: Sequence[Content], tokenizer: Any, max_length: int) -> Kept:
    """Returns the preference rows whose two answers differ within `max_length` tokens of prompt and answer.

    Reasons to reject: `template_refuses`, `prompt_fills_max_length`, `answers_alike`. `tokens` counts both sides.
    """
    from jinja2 import TemplateError

    rows: list[dict[str, Any]] = []
    rejected: Counter[str] = Counter()
    tokens = spoken = cut = 0
    for content in contents:
        prompt, chosen, rejecting = content["prompt"], content["chosen"], content["rejected"]
        try:
            start = len(_ids(tokenizer, prompt, add_generation_prompt=True))
            sides = [_ids(tokenizer, [*prompt, *answer]) for answer in (chosen, rejecting)]
        except TemplateError:
            rejected["template_refuses"] += 1
            continue
        if start >= max_length:
            rejected["prompt_fills_max_length"] += 1
        elif sides[0][:max_length] == sides[1][:max_length]:
            rejected["answers_alike"] += 1
        else:
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejecting})
            lengths = [min(len(side), max_length) for side in sides]
            tokens += sum(lengths)
            spoken += sum(length - start for length in lengths)
            cut += any(len(side) > max_length for side in sides)
    return Kept(rows, tokens, spoken, cut, dict(rejected))


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


def _ids(tokenizer: Any, messages: Any, **options: Any) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)["input_ids"])
