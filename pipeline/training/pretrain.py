"""Continued pretraining: a LoRA adapter on plain texts, which supervised fine-tuning goes on from.

- The loss is taken on every token. Texts are laid end to end in packs of max_length, none of which attends to another;
  a longer one is divided.
- The adapter has the shape that the recipe of SFT names, since SFT trains the same one on.
- Early stopping, best checkpoint, determinism and restarts are as in sft.py.
"""

from pipeline import models
from pipeline.context import Context
from pipeline.models import BaseModel
from pipeline.records import load, plain
from pipeline.steps import Attempt, Result, Step
from pipeline.training import adapter, loop, recipe, rows, sandbox, trainer
from pipeline.training.mixing import Mix
from pipeline.training.records import Prepared, Tuned, TuningFacts
from pipeline.training.sft import pinned_base, supervised
from pipeline.training.trainer import ready


def pretrain(context: Context, prepared: Prepared) -> Tuned | None:
    """Returns the adapter "pretrained", trained on the texts that preflight pinned; None where there are none, or the
    use case does not train on them. Raises as `sft` does."""
    if prepared.facts.text is None or not prepared.facts.text["train"].rows:
        return None
    base = pinned_base(context, prepared)
    return load(Tuned, sandbox.call(context, "pretrain", base=plain(base), prepared=plain(prepared)))


def run(context: Context, *, base: BaseModel, prepared: Prepared) -> Tuned:
    """Returns what `pretrain` returns. Runs in the training process."""
    usecase, dataset = context.usecase, prepared.dataset
    training = recipe.planned(usecase.training, prepared.facts, "pretrain")
    plan = prepared.facts.plans.get("pretrain")
    mix = Mix(prepared.weights, training.pretrain.seed)
    device = models.expected_device(context.settings.device)
    in_force = recipe.in_force(training, "pretrain", device, plan)
    in_force |= {"weights": dict(mix.weights)} if mix.weights else {}
    spec = Step(
        usecase.name,
        "training.pretrain",
        sandbox.ROLE,
        ("pipeline.training.pretrain",),
        params={"recipe": in_force, "device": device},
        inputs={"dataset": dataset, "base": prepared.base},
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        contents = rows.read(attempt.connection, dataset, "text", mix)
        with loop.root(context.settings, attempt, spec) as root:
            parts = ready(context.settings, training, "pretrain", base, contents, root, plan=plan)
            job = trainer.job(parts, lambda common, config: supervised(parts, common, config))
            model, metrics, measures = loop.train(context.settings, attempt, job, measure_before=True)
        used = {**in_force, "base": prepared.base.digest, "dataset": dataset.digest}
        stored = adapter.save(
            attempt.store, model, attempt.scratch / "adapter", base=prepared.base, settings=used, metrics=metrics
        )
        return Result({"adapter": adapter.output(stored, "pretrained")}, TuningFacts(True, None, measures))

    return loop.finished(context.settings, context.origin, spec, work)
