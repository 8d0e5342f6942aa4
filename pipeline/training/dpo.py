"""Preference tuning: TRL's DPOTrainer goes on from the SFT adapter (https://arxiv.org/abs/2305.18290).

- The reference is the base model with the SFT adapter as it was. (Given a base model and a `peft_config`, TRL would
  start a fresh adapter with the bare base as reference: then the tuning would pull away from what SFT taught.)
- The reference's log-probabilities are computed before the first step, and kept by row: a tuning of the same SFT
  adapter with another recipe reads them (reference.py).
- `loss: orpo` needs no reference: the chosen side's own likelihood and the odds of both (preference.py).
- On a CPU the answers' positions alone are scored; TRL's own head scores every position there, and its entropy.
- Early stopping, best checkpoint, determinism and restarts are as in sft.py.
- Where preference tuning is switched off, or there is no preference row, the candidate is the SFT adapter itself.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import models
from pipeline.artifacts import Stored
from pipeline.context import Context
from pipeline.models import BaseModel
from pipeline.records import load, plain
from pipeline.steps import Attempt, Output, Result, Step
from pipeline.training import adapter, loop, preference, recipe, reference, rows, sandbox, trainer
from pipeline.training.mixing import Mix
from pipeline.training.records import Prepared, Tuned, TuningFacts
from pipeline.training.sft import pinned_base
from pipeline.training.trainer import Ready, ready

log = logging.getLogger(__name__)


def dpo(context: Context, prepared: Prepared, tuned: Tuned, *, trial: bool = False) -> Tuned:
    """Returns the adapter "candidate", of a sweep's try "trial": preference tuning on top of what `sft` returned, or
    that adapter itself where there is nothing to tune; the facts say so and why. Raises as `sft` does."""
    base = pinned_base(context, prepared)
    reply = sandbox.call(context, "dpo", base=plain(base), prepared=plain(prepared), tuned=plain(tuned), trial=trial)
    return load(Tuned, reply)


def run(context: Context, *, base: BaseModel, prepared: Prepared, tuned: Tuned, trial: bool = False) -> Tuned:
    """Returns what `dpo` returns. Runs in the training process."""
    usecase, dataset, start = context.usecase, prepared.dataset, tuned.adapter
    training = recipe.planned(usecase.training, prepared.facts, "dpo")
    plan = prepared.facts.plans.get("dpo")
    enabled = training.dpo.enabled
    mix = Mix(prepared.weights, training.dpo.seed)
    device = models.expected_device(context.settings.device)
    in_force = recipe.in_force(training, "dpo", device, plan) if enabled else {"enabled": False}
    in_force |= {"weights": dict(mix.weights)} if enabled and mix.weights else {}
    spec = Step(
        usecase.name,
        "training.dpo",
        sandbox.ROLE,
        ("pipeline.training.dpo",),
        params={"recipe": in_force, "device": device} | ({"trial": True} if trial else {}),
        inputs={"dataset": dataset, "base": prepared.base, "sft": start},
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        folder = attempt.store.fetch(start.kind, start.digest, attempt.scratch / "sft")
        pairs = rows.read(attempt.connection, dataset, "preference", mix) if enabled else {}
        if not pairs.get("train"):
            return _unchanged(attempt, folder, "no preference rows" if enabled else "switched off")
        addressed = {"base": prepared.base.digest, "adapter": start.digest, "dtype": training.dtype}
        addressed |= {"quantize": training.quantize, "device": device}
        with loop.root(context.settings, attempt, spec) as root:
            parts = ready(context.settings, training, "dpo", base, pairs, root, folder, plan)
            kept = _with_reference(attempt, usecase.name, parts, addressed) if training.dpo.loss == "dpo" else None
            job = trainer.job(parts, lambda common, config: _trainer(parts, common, config))
            model, metrics, measures = loop.train(context.settings, attempt, job, measure_before=False)
        used = {**in_force, "base": prepared.base.digest, "dataset": dataset.digest, "sft": start.digest}
        stored = adapter.save(
            attempt.store, model, attempt.scratch / "adapter", base=prepared.base, settings=used, metrics=metrics
        )
        outputs = {"adapter": adapter.output(stored, adapter.TRIAL if trial else "candidate")}
        if kept is not None:
            outputs["reference"] = Output.of(kept, reference.NAME, private=True)
        return Result(outputs, TuningFacts(True, None, measures))

    return loop.finished(context.settings, context.origin, spec, work)


def _unchanged(attempt: Attempt, folder: Path, why: str) -> Result:
    """Returns the SFT adapter as the candidate. The same content has the same digest, so nothing is stored twice."""
    files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir()}
    log.info("the candidate is the SFT adapter: %s", why)
    stored = attempt.store.put("adapter", files)
    return Result({"adapter": adapter.output(stored, "candidate")}, TuningFacts(False, why, None))


def _with_reference(attempt: Attempt, use_case: str, parts: Ready, addressed: Mapping[str, Any]) -> Stored:
    """Returns the artifact of the reference's values, which the rows of `parts` now have."""
    pairs = [pair for kept in parts.rows.values() for pair in kept.rows]
    keys = [reference.key(pair, addressed) for pair in pairs]
    known = reference.earlier(attempt, use_case)
    values = reference.complete(parts.model, parts.tokenizer, pairs, keys, known, parts.device)
    for pair, name in zip(pairs, keys, strict=True):
        pair["ref_chosen_logps"], pair["ref_rejected_logps"] = values[name]
    return reference.keep(attempt, values)


def _trainer(parts: Ready, common: dict[str, Any], config: dict[str, Any]) -> Any:
    """Returns the trainer of these arguments."""
    from trl.trainer.dpo_config import DPOConfig

    args = DPOConfig(**config, beta=parts.training.dpo.beta, precompute_ref_log_probs=True)
    return trainer.counting(preference.trainer(parts.training.dpo.loss))(**common, args=args)
