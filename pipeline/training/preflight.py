"""Preflight: pins what the night trains on, and refuses what cannot work before any of it costs time."""

import importlib.util
import logging
from dataclasses import asdict
from typing import Any

from pipeline import database, datasets, models, steps
from pipeline.errors import NotAvailable
from pipeline.models import BaseModel
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Result, Reuse, Step, Version
from pipeline.training import rows, sandbox
from pipeline.usecase import Training, UseCase

log = logging.getLogger(__name__)


def preflight(settings: Settings, usecase: UseCase, origin: Origin, *, reuse: Reuse = "auto") -> dict[str, Any]:
    """Returns {"run", "reused", "outputs": {"base"}, "facts", "dataset", "dataset_version"}.

    Pins the newest dataset version and the base model as it stands. Facts count, per kind and split, the rows that can
    be learned from, their tokens, and the rejected rows by reason.

    Raises NotAvailable where there is no dataset version, base model, device or library for the recipe; Refused where
    the chat template does not mark the assistant's words, or no train row can be learned from.
    """
    base = models.resolve(settings, usecase.base_model)
    return sandbox.call(settings, usecase, origin, "preflight", reuse=reuse, base=asdict(base))


def run(settings: Settings, usecase: UseCase, origin: Origin, *, reuse: Reuse, base: dict[str, Any]) -> dict[str, Any]:
    """Does it, in the training process."""
    found = BaseModel(**base)
    with database.connect(settings, sandbox.ROLE) as connection:
        newest = datasets.newest(connection, usecase.name)
        if newest is None:
            raise NotAvailable(
                f"the use case {usecase.name} has no dataset version",
                where="catalog.dataset_version",
                next_step=f"`nightshift data commit {usecase.name}`, or run the DAG {usecase.name}_data",
            )
    training = usecase.training
    spec = Step(
        usecase.name,
        "training.preflight",
        sandbox.ROLE,
        ("pipeline.training.preflight",),
        params={
            "base": found.digest,
            "quantize": training.quantize,
            "dtype": training.dtype,
            "device": settings.device,
            "sft_max_length": training.sft.max_length,
            "dpo_max_length": training.dpo.max_length if training.dpo.enabled else None,
        },
        inputs={"dataset": newest.artifact},
        reuse=reuse,
    )

    def work(attempt: Attempt) -> Result:
        _demand_device(settings, training)
        return Result({"base": models.register(found)}, _checked(attempt, training, found, newest.artifact))

    outcome = steps.run(settings, origin, spec, work).as_dict()
    return outcome | {"dataset": newest.artifact.as_dict(), "dataset_version": newest.number}


def _checked(attempt: Attempt, training: Training, base: BaseModel, dataset: Version) -> dict[str, Any]:
    """Returns the facts of rows and template. Loads the tokenizer and no weights."""
    from transformers import AutoConfig, AutoTokenizer
    from trl.chat_template_utils import is_chat_template_stop_token_trained

    AutoConfig.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
    own = tokenizer.chat_template
    tokenizer.chat_template = rows.training_template(tokenizer)
    stops = is_chat_template_stop_token_trained(tokenizer)
    if not stops:
        log.warning("the chat template leaves the end of the turn unsupervised: the model may not learn to stop")
    facts: dict[str, Any] = {
        "template": "the model's" if tokenizer.chat_template == own else "TRL's for this family",
        "learns_to_stop": stops,
    }
    tuned = {
        split: rows.supervised(contents, tokenizer, training.sft.max_length)
        for split, contents in rows.read(attempt.connection, dataset, "sft").items()
    }
    rows.demand(tuned["train"], "sft", training.sft.max_length)
    facts["sft"] = {split: kept.counts() for split, kept in tuned.items()}
    if training.dpo.enabled:
        paired = {
            split: rows.preferences(contents, tokenizer, training.dpo.max_length)
            for split, contents in rows.read(attempt.connection, dataset, "preference").items()
        }
        # No pairs at all means no preference tuning; pairs of which none is of use are a mistake.
        if paired["train"].rejected:
            rows.demand(paired["train"], "preference", training.dpo.max_length)
        facts["preference"] = {split: kept.counts() for split, kept in paired.items()}
    return facts


def _demand_device(settings: Settings, training: Training) -> None:
    models.device(settings.device)
    if training.quantize == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise NotAvailable(
            "four-bit training needs bitsandbytes",
            where="training.quantize: nf4",
            next_step="pip install bitsandbytes, or set quantize: none",
        )
