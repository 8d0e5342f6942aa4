"""Preflight: pins what the night trains on, and refuses what cannot work before any of it costs time."""

import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

from pipeline import database, datasets, models, steps
from pipeline.chat import Chat
from pipeline.context import Context
from pipeline.datasets import DatasetVersion
from pipeline.errors import NotAvailable
from pipeline.models import BaseModel, Device
from pipeline.records import load, plain
from pipeline.settings import Settings
from pipeline.steps import Attempt, Result, Step, Version
from pipeline.training import fitting, mixing, packing, recipe, rows, sandbox
from pipeline.training.fitting import Lengths
from pipeline.training.mixing import Mix
from pipeline.training.precision import choose
from pipeline.training.recipe import METHODS, Method
from pipeline.training.records import Plan, Precision, PreflightFacts, Prepared, Split
from pipeline.training.rows import Kept
from pipeline.training.tracing import Tracer, Untraceable
from pipeline.usecase import Training

log = logging.getLogger(__name__)


def preflight(context: Context) -> Prepared:
    """Returns the newest dataset version and the base model as it stands, pinned, with the counts of the rows that can
    be learned from.

    Raises NotAvailable where there is no dataset version, base model, device or library for the recipe; BadInput where
    the chat template is missing or cannot be rendered; Refused where no train row can be learned from, or no dataset
    version is signed. Where only the newest is not, the night goes on with the one before, and `waiting` says so.
    """
    base = models.resolve(context.settings, context.usecase.base_model)
    prepared = load(Prepared, sandbox.call(context, "preflight", base=plain(base)))
    if prepared.waiting is not None:
        log.warning(
            "dataset version %d is not signed: the night goes on with version %d",
            prepared.waiting,
            prepared.dataset_version,
        )
    return prepared


def run(context: Context, *, base: BaseModel) -> Prepared:
    """Returns what `preflight` returns. Runs in the training process."""
    usecase, training = context.usecase, context.usecase.training
    newest = _newest(context)
    with database.connect(context.settings, sandbox.ROLE) as connection:
        weights = mixing.weights(connection, usecase.name, newest.number)
    spec = Step(
        usecase.name,
        "training.preflight",
        sandbox.ROLE,
        ("pipeline.training.preflight",),
        params={
            "base": base.digest,
            "quantize": training.quantize,
            "dtype": training.dtype,
            "device": context.settings.device,
            "memory": fitting.machine(training, models.expected_device(context.settings.device)),
            "sft": training.sft.model_dump(mode="json"),
            "dpo": training.dpo.model_dump(mode="json") if training.dpo.enabled else None,
            "pretrain": training.pretrain.model_dump(mode="json") if training.pretrain.enabled else None,
            "mix": weights or None,
        },
        inputs={"dataset": newest.artifact},
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        _require_device(context.settings, training)
        return Result(
            {"base": models.register(base)}, _facts(context.settings, attempt, training, base, newest.artifact, weights)
        )

    outcome = steps.run(context.settings, context.origin, spec, work)
    facts = load(PreflightFacts, outcome.facts)
    pinned = (outcome.outputs["base"], newest.artifact, newest.number)
    return Prepared(outcome.run_id, outcome.reused, *pinned, facts, newest.waiting, weights)


def _newest(context: Context) -> DatasetVersion:
    """Returns the newest dataset version; where persons sign what is new, the newest that is signed. Raises
    NotAvailable where there is none, Refused where none is signed, rows of it were erased or it is not what was
    committed."""
    name = context.usecase.name
    with database.connect(context.settings, sandbox.ROLE) as connection:
        newest = (datasets.newest_signed if context.usecase.signs_data else datasets.newest)(connection, name)
        if newest is not None:
            datasets.require_trainable(connection, name, newest)
    if newest is None:
        raise NotAvailable(
            f"the use case {name} has no dataset version",
            where="catalog.dataset_version",
            next_step=f"`nightshift data commit {name}`, or run the DAG {name}_data",
        )
    return newest


def _facts(
    settings: Settings,
    attempt: Attempt,
    training: Training,
    base: BaseModel,
    dataset: Version,
    weights: Mapping[str, float],
) -> PreflightFacts:
    """Returns what is known of rows, template, processor and memory. Loads no weights."""
    config, tokenizer = models.require_usable(base.folder)
    chat = Chat(tokenizer)
    device = models.device(settings.device)
    precision = choose(config, device) if training.dtype == "auto" else Precision(training.dtype)
    chosen = recipe.measured(training, precision)
    kept = {
        method: _kept(attempt, chosen, method, chat, dataset, weights)
        for method in METHODS
        if method == "sft" or recipe.recipe_of(chosen, method).enabled  # type: ignore[attr-defined]
    }
    rows.require(kept["sft"]["train"], "sft", training.sft.max_length)
    for method, own in kept.items():
        # No rows at all mean nothing of this method; rows of which none is of use are a mistake.
        if own["train"].rejected:
            rows.require(own["train"], rows.KINDS[method], recipe.recipe_of(chosen, method).max_length)
    counts = {method: {split: one.counts() for split, one in own.items()} for method, own in kept.items()}
    return PreflightFacts(
        chat.form,
        precision,
        counts["sft"],
        counts.get("dpo"),
        counts.get("pretrain"),
        _plans(config, chosen, device, {method: own for method, own in kept.items() if own["train"].rows}),
    )


def _kept(
    attempt: Attempt, training: Training, method: Method, chat: Chat, dataset: Version, weights: Mapping[str, float]
) -> dict[Split, Kept]:
    """Returns the rows that a method can learn from, by split."""
    own = recipe.recipe_of(training, method)
    read = rows.read(attempt.connection, dataset, rows.KINDS[method], Mix(weights, own.seed))
    return {
        split: rows.kept(method, contents, chat, own.max_length, rows.budget(own, split))
        for split, contents in read.items()
    }


def _plans(
    config: Any, training: Training, device: Device, kept: Mapping[Method, Mapping[Split, Kept]]
) -> dict[str, Plan]:
    """Returns how each method is trained on this machine. Raises Refused where one cannot be."""
    tracer = Tracer(config, training, device)
    speed = fitting.speed(config, training, device)
    plans: dict[str, Plan] = {}
    for method, own in kept.items():
        wanted, packed = recipe.recipe_of(training, method), recipe.packs(training, method)
        trained = packing.packed(own["train"], wanted.max_length) if packed else own["train"]
        lengths = Lengths.of({**own, "train": trained}, packed)
        try:
            plan = fitting.plan(tracer, training, method, lengths, device, speed)
        except Untraceable as error:
            log.warning("what %s takes of memory and time is not known of this model: %s", method.upper(), error)
            continue
        plans[method] = plan
        log.info("%s: %s", method.upper(), fitting.described(plan))
        if plan.batch_size != wanted.batch_size or (plan.gradient_checkpointing and device == "cpu"):
            log.warning("%s would not fit into memory as the recipe has it: the same steps, in smaller passes", method)
    return plans


def _require_device(settings: Settings, training: Training) -> None:
    models.device(settings.device)
    if training.quantize == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise NotAvailable(
            "four-bit training needs bitsandbytes",
            where="training.quantize: nf4",
            next_step="pip install bitsandbytes, or set quantize: none",
        )
