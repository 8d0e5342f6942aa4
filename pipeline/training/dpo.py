"""Preference tuning: TRL's DPOTrainer goes on from the SFT adapter (https://arxiv.org/abs/2305.18290).

- The reference is the base model with the SFT adapter as it was: given a PEFT model, TRL 1.16 freezes a copy of its
  adapter under the name "ref" and takes the reference from that. (Given a base model and a `peft_config` it would start
  a fresh adapter, with the bare base as reference: then the tuning would pull away from what SFT taught.)
- The reference's log-probabilities are computed once, before the first step: the same loss in less time.
- Early stopping, best checkpoint, determinism and restarts are as in sft.py.
- Where preference tuning is switched off, or there is no preference row, the candidate is the SFT adapter itself.
"""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline import models, steps
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Result, Reuse, Step, Version
from pipeline.training import adapter, loop, recipe, rows, sandbox
from pipeline.training.sft import pinned_base
from pipeline.training.trainer import ready
from pipeline.usecase import Training, UseCase

log = logging.getLogger(__name__)


def dpo(
    settings: Settings,
    usecase: UseCase,
    origin: Origin,
    prepared: dict[str, Any],
    tuned: dict[str, Any],
    *,
    reuse: Reuse = "auto",
) -> dict[str, Any]:
    """Returns {"run", "reused", "outputs": {"adapter"}, "facts"} of preference tuning on top of what `sft` returned.

    The adapter is named "candidate". Facts say with "tuned": false and "why" where it is the SFT adapter unchanged.

    Raises as `sft` does.
    """
    base = pinned_base(settings, usecase, prepared)
    return sandbox.call(
        settings, usecase, origin, "dpo", reuse=reuse, base=asdict(base), prepared=prepared, tuned=tuned
    )


def run(
    settings: Settings,
    usecase: UseCase,
    origin: Origin,
    *,
    reuse: Reuse,
    base: dict[str, Any],
    prepared: dict[str, Any],
    tuned: dict[str, Any],
) -> dict[str, Any]:
    """Does it, in the training process."""
    pinned = Version(**prepared["outputs"]["base"])
    dataset = Version(**prepared["dataset"])
    start = Version(**tuned["outputs"]["adapter"])
    enabled = usecase.training.dpo.enabled
    in_force = recipe.in_force(usecase.training, "dpo") if enabled else {"enabled": False}
    spec = Step(
        usecase.name,
        "training.dpo",
        sandbox.ROLE,
        ("pipeline.training.dpo",),
        params={"recipe": in_force, "device": models.expected_device(settings.device)},
        inputs={"dataset": dataset, "base": pinned, "sft": start},
        reuse=reuse,
    )

    def work(attempt: Attempt) -> Result:
        folder = attempt.store.fetch(start.kind, start.digest, attempt.scratch / "sft")
        found = rows.read(attempt.connection, dataset, "preference") if enabled else {}
        if not found.get("train"):
            return _unchanged(attempt, folder, "no preference rows" if enabled else "switched off")
        model, metrics, facts = _tuned(settings, usecase.training, attempt, base["folder"], folder, found)
        told = {**in_force, "base": pinned.digest, "dataset": dataset.digest, "sft": start.digest}
        stored = adapter.save(
            attempt.store, model, attempt.scratch / "adapter", base=pinned, settings=told, metrics=metrics
        )
        return Result({"adapter": adapter.output(stored, "candidate")}, {"tuned": True, **facts})

    return steps.run(settings, origin, spec, work).as_dict()


def _unchanged(attempt: Attempt, folder: Path, why: str) -> Result:
    """Returns the SFT adapter as the candidate. The same content has the same digest, so nothing is stored twice."""
    files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir()}
    log.info("the candidate is the SFT adapter: %s", why)
    stored = attempt.store.put("adapter", files)
    return Result({"adapter": adapter.output(stored, "candidate")}, {"tuned": False, "why": why})


def _tuned(
    settings: Settings,
    training: Training,
    attempt: Attempt,
    folder: str,
    start: Path,
    found: dict[rows.Split, list[rows.Content]],
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Returns the tuned model, its metrics and the run's facts."""
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    made = ready(settings, training, attempt, "dpo", folder, found, start)
    trainer = DPOTrainer(
        **made.trainer, args=DPOConfig(**made.config, beta=training.dpo.beta, precompute_ref_log_probs=True)
    )
    metrics, facts = loop.train(trainer, made.device)
    return trainer.model, metrics, facts | {"rows": made.counts}
