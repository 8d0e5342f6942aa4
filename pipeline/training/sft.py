"""Supervised fine-tuning: a LoRA adapter on every linear layer, by TRL's SFTTrainer.

- The loss is taken on the assistant's words and the end of its turn alone (pipeline/chat.py).
- With validation rows it stops when `patience` evaluations brought nothing better, and the best checkpoint counts;
  without them it trains all its steps and takes the last.
- `quantize: nf4` keeps the base in four bits (QLoRA, https://arxiv.org/abs/2305.14314): less memory for more time.
- `packing` lays rows end to end; without, rows of like length share a batch, so that little of it is padding.
- On a CPU, the same rows, recipe and thread count give the same adapter, byte for byte, also where the training was
  killed on the way and went on from a checkpoint (loop.py). On a GPU they do not.
"""

import logging
from typing import Any

from pipeline import models
from pipeline.context import Context
from pipeline.errors import Refused
from pipeline.models import BaseModel
from pipeline.records import load, plain
from pipeline.steps import Attempt, Result, Step
from pipeline.training import adapter, head, loop, packing, recipe, rows, sandbox, trainer
from pipeline.training.mixing import Mix
from pipeline.training.records import Prepared, Tuned, TuningFacts
from pipeline.training.trainer import Ready, ready

log = logging.getLogger(__name__)


def sft(context: Context, prepared: Prepared, start: Tuned | None = None, *, trial: bool = False) -> Tuned:
    """Returns the adapter "sft", of a sweep's try "trial", tuned on the rows and base that preflight pinned.
    `start` is the adapter that it goes on from, as `pretrain` returned it; None: a new one.

    Raises Refused where the base model changed since preflight, the training diverged, or it took too long.
    """
    base = pinned_base(context, prepared)
    return load(
        Tuned, sandbox.call(context, "sft", base=plain(base), prepared=plain(prepared), start=plain(start), trial=trial)
    )


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


def run(
    context: Context, *, base: BaseModel, prepared: Prepared, start: Tuned | None = None, trial: bool = False
) -> Tuned:
    """Returns what `sft` returns. Runs in the training process."""
    usecase, dataset = context.usecase, prepared.dataset
    training = recipe.planned(usecase.training, prepared.facts, "sft")
    plan = prepared.facts.plans.get("sft")
    mix = Mix(prepared.weights, training.sft.seed)
    device = models.expected_device(context.settings.device)
    in_force = recipe.in_force(training, "sft", device, plan) | ({"weights": dict(mix.weights)} if mix.weights else {})
    spec = Step(
        usecase.name,
        "training.sft",
        sandbox.ROLE,
        ("pipeline.training.sft",),
        params={"recipe": in_force, "device": device} | ({"trial": True} if trial else {}),
        inputs={"dataset": dataset, "base": prepared.base} | ({} if start is None else {"start": start.adapter}),
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        contents = rows.read(attempt.connection, dataset, "sft", mix)
        earlier = None
        if start is not None:
            earlier = attempt.store.fetch(start.adapter.kind, start.adapter.digest, attempt.scratch / "start")
        with loop.root(context.settings, attempt, spec) as root:
            parts = ready(context.settings, training, "sft", base, contents, root, earlier, plan)
            job = trainer.job(parts, lambda common, config: supervised(parts, common, config))
            model, metrics, measures = loop.train(context.settings, attempt, job, measure_before=True)
        used = {**in_force, "base": prepared.base.digest, "dataset": dataset.digest}
        used |= {} if start is None else {"start": start.adapter.digest}
        stored = adapter.save(
            attempt.store, model, attempt.scratch / "adapter", base=prepared.base, settings=used, metrics=metrics
        )
        return Result(
            {"adapter": adapter.output(stored, adapter.TRIAL if trial else "sft")}, TuningFacts(True, None, measures)
        )

    return loop.finished(context.settings, context.origin, spec, work)


def supervised(parts: Ready, common: dict[str, Any], config: dict[str, Any]) -> Any:
    """Returns the trainer of these arguments, for SFT and for pretraining: both learn the tokens that have labels."""
    from trl.trainer.sft_config import SFTConfig

    packed = recipe.packs(parts.training, parts.method)
    return trainer.counting(head.trainer())(
        **common,
        args=SFTConfig(**config, dataset_kwargs={"skip_prepare_dataset": True}),
        data_collator=packing.collator(parts.tokenizer) if packed else None,
    )
