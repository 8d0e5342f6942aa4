"""What both methods give a TRL trainer: the model, the rows that can be learned from, and the shared arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import models
from pipeline.chat import Chat
from pipeline.encoding import Content
from pipeline.models import BaseModel, Device
from pipeline.settings import Settings
from pipeline.steps import Attempt
from pipeline.training import loop, recipe, rows
from pipeline.training.recipe import Method
from pipeline.training.records import RowCounts, Split
from pipeline.usecase import Training


@dataclass(frozen=True)
class Ready:
    """What a trainer is made of."""

    device: Device
    config: dict[str, Any]  # arguments that SFTConfig and DPOConfig share
    trainer: dict[str, Any]  # arguments that SFTTrainer and DPOTrainer share
    counts: Mapping[Split, RowCounts]


def ready(
    settings: Settings,
    training: Training,
    attempt: Attempt,
    method: Method,
    base: BaseModel,
    contents: Mapping[Split, Sequence[Content]],
    adapter: Path | None = None,
) -> Ready:
    """Returns what a trainer of this method is made of: the base model, with an adapter on top where one is
    given, and the rows by split, as tokens: a trainer prepares them no further.

    Raises Refused where no train row can be learned from.
    """
    from datasets import Dataset

    chosen = training.sft if method == "sft" else training.dpo
    keep = rows.supervised if method == "sft" else rows.preferences
    device = models.device(settings.device)
    assert training.dtype != "auto"  # recipe.measured
    model, tokenizer = models.load(
        base.folder,
        adapter=adapter,
        digest=base.digest,
        device=device,
        dtype=training.dtype,
        quantize=training.quantize,
        trainable=True,
    )
    chat = Chat(tokenizer)
    kept = {
        split: keep(content, chat, chosen.max_length, rows.budget(chosen, split)) for split, content in contents.items()
    }
    rows.require(kept["train"], "sft" if method == "sft" else "preference", chosen.max_length)
    validated = bool(kept["validation"].rows)
    config = recipe.arguments(
        chosen,
        training,
        folder=attempt.scratch / "checkpoints",
        device=device,
        rows=len(kept["train"].rows),
        validated=validated,
    )
    trainer = {
        "model": model,
        "train_dataset": Dataset.from_list(kept["train"].rows),
        "eval_dataset": Dataset.from_list(kept["validation"].rows) if validated else None,
        "processing_class": tokenizer,
        "callbacks": loop.callbacks(method.upper(), chosen.patience, validated),
    }
    return Ready(device, config, trainer, {split: each.counts() for split, each in kept.items()})
