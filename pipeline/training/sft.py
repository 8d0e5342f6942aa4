"""Supervised fine-tuning: a LoRA adapter on every linear layer, by TRL's SFTTrainer.

- The loss is taken on the assistant's words alone.
- With validation rows it stops when `patience` evaluations brought nothing better, and the best checkpoint counts;
  without them it trains all its steps and takes the last.
- `quantize: nf4` keeps the base in four bits (QLoRA, https://arxiv.org/abs/2305.14314): less memory for more time.
- On a CPU, the same rows, recipe and thread count give the same adapter, byte for byte. On a GPU they do not.
- A killed run starts again from the first step. Checkpoints are scratch and go with the process.
"""

import logging
from dataclasses import asdict
from typing import Any

from pipeline import models, steps
from pipeline.errors import Refused
from pipeline.models import BaseModel
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Result, Reuse, Step, Version
from pipeline.training import adapter, loop, recipe, rows, sandbox
from pipeline.training.trainer import ready
from pipeline.usecase import Training, UseCase

log = logging.getLogger(__name__)


def sft(
    settings: Settings, usecase: UseCase, origin: Origin, prepared: dict[str, Any], *, reuse: Reuse = "auto"
) -> dict[str, Any]:
    """Returns {"run", "reused", "outputs": {"adapter"}, "facts"} of tuning on the rows and base that preflight pinned.

    The adapter is named "sft". Facts hold losses, counts, seconds, threads, device and peak memory.

    Raises Refused where the base model changed since preflight, the training diverged, or it took too long.
    """
    base = pinned_base(settings, usecase, prepared)
    return sandbox.call(settings, usecase, origin, "sft", reuse=reuse, base=asdict(base), prepared=prepared)


def pinned_base(settings: Settings, usecase: UseCase, prepared: dict[str, Any]) -> BaseModel:
    """Returns the base model, which must be what preflight pinned. Raises Refused where it is not."""
    base = models.resolve(settings, usecase.base_model)
    if base.digest != prepared["outputs"]["base"]["digest"]:
        raise Refused(
            "the base model changed since preflight",
            where=base.folder,
            found=base.digest[:12],
            allowed=prepared["outputs"]["base"]["digest"][:12],
            next_step="run preflight again",
        )
    return base


def run(
    settings: Settings,
    usecase: UseCase,
    origin: Origin,
    *,
    reuse: Reuse,
    base: dict[str, Any],
    prepared: dict[str, Any],
) -> dict[str, Any]:
    """Does it, in the training process."""
    pinned = Version(**prepared["outputs"]["base"])
    dataset = Version(**prepared["dataset"])
    in_force = recipe.in_force(usecase.training, "sft")
    spec = Step(
        usecase.name,
        "training.sft",
        sandbox.ROLE,
        ("pipeline.training.sft",),
        params={"recipe": in_force, "device": models.expected_device(settings.device)},
        inputs={"dataset": dataset, "base": pinned},
        reuse=reuse,
    )

    def work(attempt: Attempt) -> Result:
        model, metrics, facts = _tuned(settings, usecase.training, attempt, base["folder"], dataset)
        told = {**in_force, "base": pinned.digest, "dataset": dataset.digest}
        stored = adapter.save(
            attempt.store, model, attempt.scratch / "adapter", base=pinned, settings=told, metrics=metrics
        )
        return Result({"adapter": adapter.output(stored, "sft")}, facts)

    return steps.run(settings, origin, spec, work).as_dict()


def _tuned(
    settings: Settings, training: Training, attempt: Attempt, folder: str, dataset: Version
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Returns the tuned model, its metrics and the run's facts."""
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    found = rows.read(attempt.connection, dataset, "sft")
    made = ready(settings, training, attempt, "sft", folder, found)
    trainer = SFTTrainer(
        **made.trainer,
        args=SFTConfig(**made.config, assistant_only_loss=True, packing=False),
        peft_config=LoraConfig(r=training.sft.lora_rank, lora_alpha=training.sft.lora_alpha, **recipe.LORA),
    )
    before = trainer.evaluate()["eval_loss"] if made.trainer["eval_dataset"] is not None else None
    metrics, facts = loop.train(trainer, made.device)
    metrics["eval_loss_before"] = None if before is None else round(float(before), 6)
    return trainer.model, metrics, facts | {"rows": made.counts, "eval_loss_before": metrics["eval_loss_before"]}
