"""Preference tuning: TRL's DPOTrainer goes on from the SFT adapter (https://arxiv.org/abs/2305.18290).

- The reference is the base model with the SFT adapter as it was: given a PEFT model, TRL 1.16 freezes a copy of its
  adapter under the name "ref" and takes the reference from that. (Given a base model and a `peft_config` it would start
  a fresh adapter, with the bare base as reference: then the tuning would pull away from what SFT taught.)
- The reference's log-probabilities are computed once, before the first step: the same loss in less time.
- Early stopping, best checkpoint, determinism and restarts are as in sft.py.
- Where preference tuning is switched off, or there is no preference row, the candidate is the SFT adapter itself.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import models, steps
from pipeline.context import Context
from pipeline.encoding import Content
from pipeline.models import BaseModel
from pipeline.records import load, plain
from pipeline.settings import Settings
from pipeline.steps import Attempt, Result, Step
from pipeline.training import adapter, loop, recipe, rows, sandbox
from pipeline.training.mixing import Mix
from pipeline.training.records import Measures, Prepared, Split, Tuned, TuningFacts
from pipeline.training.sft import pinned_base
from pipeline.training.trainer import ready
from pipeline.usecase import Training

log = logging.getLogger(__name__)


def dpo(context: Context, prepared: Prepared, tuned: Tuned) -> Tuned:
    """Returns the adapter "candidate": preference tuning on top of what `sft` returned, or that adapter itself where
    there is nothing to tune; the facts say so and why. Raises as `sft` does."""
    base = pinned_base(context, prepared)
    reply = sandbox.call(context, "dpo", base=plain(base), prepared=plain(prepared), tuned=plain(tuned))
    return load(Tuned, reply)


def run(context: Context, *, base: BaseModel, prepared: Prepared, tuned: Tuned) -> Tuned:
    """Returns what `dpo` returns. Runs in the training process."""
    usecase, dataset, start = context.usecase, prepared.dataset, tuned.adapter
    training = recipe.measured(usecase.training, prepared.facts.precision)
    enabled = training.dpo.enabled
    mix = Mix(prepared.weights, training.dpo.seed)
    in_force = recipe.in_force(training, "dpo") if enabled else {"enabled": False}
    in_force |= {"weights": dict(mix.weights)} if enabled and mix.weights else {}
    spec = Step(
        usecase.name,
        "training.dpo",
        sandbox.ROLE,
        ("pipeline.training.dpo",),
        params={"recipe": in_force, "device": models.expected_device(context.settings.device)},
        inputs={"dataset": dataset, "base": prepared.base, "sft": start},
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        folder = attempt.store.fetch(start.kind, start.digest, attempt.scratch / "sft")
        pairs = rows.read(attempt.connection, dataset, "preference", mix) if enabled else {}
        if not pairs.get("train"):
            return _unchanged(attempt, folder, "no preference rows" if enabled else "switched off")
        model, metrics, measures = _tuned(context.settings, training, attempt, base, folder, pairs)
        used = {**in_force, "base": prepared.base.digest, "dataset": dataset.digest, "sft": start.digest}
        stored = adapter.save(
            attempt.store, model, attempt.scratch / "adapter", base=prepared.base, settings=used, metrics=metrics
        )
        return Result({"adapter": adapter.output(stored, "candidate")}, TuningFacts(True, None, measures))

    return adapter.tuned(steps.run(context.settings, context.origin, spec, work))


def _unchanged(attempt: Attempt, folder: Path, why: str) -> Result:
    """Returns the SFT adapter as the candidate. The same content has the same digest, so nothing is stored twice."""
    files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir()}
    log.info("the candidate is the SFT adapter: %s", why)
    stored = attempt.store.put("adapter", files)
    return Result({"adapter": adapter.output(stored, "candidate")}, TuningFacts(False, why, None))


def _tuned(
    settings: Settings,
    training: Training,
    attempt: Attempt,
    base: BaseModel,
    start: Path,
    pairs: Mapping[Split, list[Content]],
) -> tuple[Any, dict[str, Any], Measures]:
    """Returns the tuned model, its metrics, and what the training measured."""
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    class Tokenized(DPOTrainer):
        """Takes rows that are tokens already. TRL 1.16 has a setting for that in SFT alone."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    parts = ready(settings, training, attempt, "dpo", base, pairs, start)
    config = DPOConfig(**parts.config, beta=training.dpo.beta, precompute_ref_log_probs=True)
    trainer = loop.only_logs(Tokenized(**parts.trainer, args=config))
    metrics, measures = loop.train(trainer, parts.device, parts.counts)
    return trainer.model, metrics, measures
