"""Supervised fine-tuning: a LoRA adapter on every linear layer, by TRL's SFTTrainer.

- The loss is taken on the assistant's words and the end of its turn alone (pipeline/chat.py).
- With validation rows it stops when `patience` evaluations brought nothing better, and the best checkpoint counts;
  without them it trains all its steps and takes the last.
- `quantize: nf4` keeps the base in four bits (QLoRA, https://arxiv.org/abs/2305.14314): less memory for more time.
- On a CPU, the same rows, recipe and thread count give the same adapter, byte for byte. On a GPU they do not.
- A killed run starts again from the first step. Checkpoints are scratch and go with the process.
"""

import logging
from typing import Any

from pipeline import models, steps
from pipeline.context import Context
from pipeline.errors import Refused
from pipeline.models import BaseModel
from pipeline.records import load, plain
from pipeline.settings import Settings
from pipeline.steps import Attempt, Result, Step, Version
from pipeline.training import adapter, head, loop, recipe, rows, sandbox
from pipeline.training.mixing import Mix
from pipeline.training.records import Measures, Prepared, Tuned, TuningFacts
from pipeline.training.trainer import ready
from pipeline.usecase import Training

log = logging.getLogger(__name__)


def sft(context: Context, prepared: Prepared) -> Tuned:
    """Returns the adapter "sft", tuned on the rows and base that preflight pinned.

    Raises Refused where the base model changed since preflight, the training diverged, or it took too long.
    """
    base = pinned_base(context, prepared)
    return load(Tuned, sandbox.call(context, "sft", base=plain(base), prepared=plain(prepared)))


def pinned_base(context: Context, prepared: Prepared) -> BaseModel:
    """Returns the base model, which must be what preflight pinned. Raises Refused where it is not."""
    base = models.resolve(context.settings, context.usecase.base_model)
    if base.digest != prepared.base.digest:
        raise Refused(
            "the base model changed since preflight",
            where=base.folder,
            found=base.digest[:12],
            allowed=prepared.base.digest[:12],
            next_step="run preflight again",
        )
    return base


def run(context: Context, *, base: BaseModel, prepared: Prepared) -> Tuned:
    """Returns what `sft` returns. Runs in the training process."""
    usecase, dataset = context.usecase, prepared.dataset
    training = recipe.measured(usecase.training, prepared.facts.precision)
    mix = Mix(prepared.weights, training.sft.seed)
    in_force = recipe.in_force(training, "sft") | ({"weights": dict(mix.weights)} if mix.weights else {})
    spec = Step(
        usecase.name,
        "training.sft",
        sandbox.ROLE,
        ("pipeline.training.sft",),
        params={"recipe": in_force, "device": models.expected_device(context.settings.device)},
        inputs={"dataset": dataset, "base": prepared.base},
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        model, metrics, measures = _tuned(context.settings, training, attempt, base, dataset, mix)
        used = {**in_force, "base": prepared.base.digest, "dataset": dataset.digest}
        stored = adapter.save(
            attempt.store, model, attempt.scratch / "adapter", base=prepared.base, settings=used, metrics=metrics
        )
        return Result({"adapter": adapter.output(stored, "sft")}, TuningFacts(True, None, measures))

    return adapter.tuned(steps.run(context.settings, context.origin, spec, work))


def _tuned(
    settings: Settings, training: Training, attempt: Attempt, base: BaseModel, dataset: Version, mix: Mix
) -> tuple[Any, dict[str, Any], Measures]:
    """Returns the tuned model, its metrics, and what the training measured."""
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig

    parts = ready(settings, training, attempt, "sft", base, rows.read(attempt.connection, dataset, "sft", mix))
    trainer = loop.only_logs(
        head.trainer()(
            **parts.trainer,
            args=SFTConfig(**parts.config, dataset_kwargs={"skip_prepare_dataset": True}),
            peft_config=LoraConfig(r=training.sft.lora_rank, lora_alpha=training.sft.lora_alpha, **recipe.LORA),
        )
    )
    before = None
    if parts.trainer["eval_dataset"] is not None:
        before = round(float(trainer.evaluate()["eval_loss"]), 6)
    metrics, measures = loop.train(trainer, parts.device, parts.counts, before)
    return trainer.model, metrics | {"eval_loss_before": before}, measures
