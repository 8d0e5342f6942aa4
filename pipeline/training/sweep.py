"""A sweep: the same training with several values of a few settings, of which the validation rows choose.

Every try is a run on record, with its curve and what it took; its adapter is called "trial", so that no evaluation,
gate or release takes it for the candidate. What is chosen is put into the use case's YAML by whoever owns it.
"""

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from pipeline import parsing, validation
from pipeline.context import Context
from pipeline.errors import BadInput, NightshiftError, NotAvailable, Refused
from pipeline.training.dpo import dpo
from pipeline.training.preflight import preflight
from pipeline.training.pretrain import pretrain
from pipeline.training.recipe import Method
from pipeline.training.records import Cost, Measures, Prepared, Tuned
from pipeline.training.sft import sft
from pipeline.usecase import Recipe, UseCase

log = logging.getLogger(__name__)

_MOST = 64  # tries: a night has so many hours
# Keys that change what is measured, and not how well is learned: tries with other values of them do not compare.
_NOT_COMPARABLE = ("seed", "max_length", "max_tokens", "checkpoint_minutes", "enabled")
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Try:
    """One try of a sweep."""

    settings: Values
    eval_loss: float | None  # on the validation rows, the best; None where it failed
    eval_accuracy: float | None  # of pairs, at that step
    steps: int | None
    seconds: float | None
    peak_memory_mib: int | None
    cost: Cost | None
    overfitted: bool | None
    reused: bool
    run: UUID | None
    failed: str | None = None  # why, where it did


@dataclass(frozen=True)
class Swept:
    """What a sweep came to."""

    method: Method
    chosen_by: str
    best: Values
    tries: Sequence[Try]


def sweep(context: Context, wanted: Sequence[str], start: Tuned | None = None) -> Swept:
    """Returns every try of the settings wanted, such as "sft.lora_rank=4,16,64", best first; of several, each value
    with each. `start` is the SFT adapter that preference tuning goes on from; None: one is trained, as the YAML says.

    Raises BadInput for a setting that is none or a value that it may not have; Refused where there are no validation
    rows to choose by; NotAvailable where every try failed.
    """
    method, grid = _grid(context.usecase, wanted)
    prepared = preflight(context)
    _require_validation(prepared, method)
    if method == "dpo" and start is None:
        start = sft(context, prepared, pretrain(context, prepared))
    tries = []
    for number, settings in enumerate(grid, 1):
        log.info("try %d of %d: %s", number, len(grid), _words(settings))
        tries.append(
            _tried(replace(context, usecase=_with(context.usecase, method, settings)), method, settings, start)
        )
    # A pair's loss depends on beta and on the kind of loss: which side is likelier does not.
    by_accuracy = method == "dpo" and any(name in ("beta", "loss") for name in grid[0])
    tries.sort(key=lambda one: _rank(one, by_accuracy))
    if tries[0].failed is not None:
        raise NotAvailable("every try of the sweep failed", found=tries[0].failed, next_step="try other values")
    return Swept(method, "validation accuracy" if by_accuracy else "validation loss", tries[0].settings, tries)


def _tried(context: Context, method: Method, settings: Values, start: Tuned | None) -> Try:
    """Returns what one try came to. Of what is wrong with it alone, the others are tried all the same."""
    try:
        prepared = preflight(context)
        if method == "sft":
            done = sft(context, prepared, pretrain(context, prepared), trial=True)
        else:
            assert start is not None
            done = dpo(context, prepared, start, trial=True)
    except (Refused, NotAvailable) as error:
        log.warning("the try failed: %s", error.what)
        return Try(settings, None, None, None, None, None, None, None, False, None, _line(error))
    measures = done.facts.training
    assert isinstance(measures, Measures)
    return Try(
        settings,
        measures.eval_loss,
        measures.eval_accuracy,
        measures.steps,
        measures.seconds,
        measures.peak_memory_mib,
        measures.cost,
        measures.overfitted,
        done.reused,
        done.run,
    )


def _grid(usecase: UseCase, wanted: Sequence[str]) -> tuple[Method, list[Values]]:
    """Returns the method that is swept, and each combination of values."""
    axes: dict[str, list[Any]] = {}
    methods: set[Method] = set()
    for entry in wanted:
        key, equals, values = entry.partition("=")
        section, dot, name = key.strip().partition(".")
        known = _keys(usecase, section)
        if not equals or not dot or name not in known:
            raise BadInput(
                "a sweep names a setting and its values",
                where="--sweep",
                found=entry,
                allowed="sft.lora_rank=4,16,64, or another of "
                + ", ".join(f"{section or 'sft'}.{one}" for one in known)
                if known
                else "sft.NAME=VALUE,VALUE or dpo.NAME=VALUE,VALUE",
            )
        methods.add("sft" if section == "sft" else "dpo")
        axes[name] = axes.get(name, []) + [_value(value, entry) for value in values.split(",")]
    if len(methods) != 1:
        raise BadInput(
            "a sweep is of one method",
            where="--sweep",
            found=", ".join(sorted(methods)) or "nothing",
            allowed="settings of sft, or of dpo",
            next_step="sweep sft first, put the best into the YAML, and then sweep dpo",
        )
    method = methods.pop()
    count = math.prod(len(values) for values in axes.values())
    if count > _MOST:
        raise BadInput("a sweep has too many tries", where="--sweep", found=count, allowed=f"up to {_MOST}")
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    # As the recipe has them: "5e-4" is a number there, and a word in YAML.
    recipes = [getattr(_with(usecase, method, settings).training, method) for settings in grid]
    return method, [{name: getattr(recipe, name) for name in axes} for recipe in recipes]


def _keys(usecase: UseCase, section: str) -> list[str]:
    if section not in ("sft", "dpo"):
        return []
    recipe: Recipe = getattr(usecase.training, section)
    return [name for name in type(recipe).model_fields if name not in _NOT_COMPARABLE]


def _value(text: str, entry: str) -> Any:
    try:
        return parsing.parse_yaml(text.strip().encode())
    except parsing.ParseError as error:
        raise BadInput("a sweep's value is not read", where="--sweep", found=entry, allowed=error.problem) from None


def _with(usecase: UseCase, method: Method, settings: Values) -> UseCase:
    """Returns the use case with these settings. Raises BadInput for a value that is not allowed."""
    recipe: Recipe = getattr(usecase.training, method)
    try:
        own = type(recipe).model_validate(recipe.model_dump() | dict(settings))
    except ValidationError as error:
        raise validation.bad_input(error, type(recipe), f"--sweep {method}") from None
    training = usecase.training.model_copy(update={method: own})
    return usecase.model_copy(update={"training": training})


def _require_validation(prepared: Prepared, method: Method) -> None:
    counts = prepared.facts.sft if method == "sft" else prepared.facts.preference
    if counts is None:
        raise Refused(
            "preference tuning is switched off", where="training.dpo.enabled", next_step="set it to true, or sweep sft"
        )
    if not counts["validation"].rows:
        raise Refused(
            "there are no validation rows to choose by",
            where="the dataset version's validation split",
            next_step="add rows, or raise splits.validation",
        )


def _rank(one: Try, by_accuracy: bool) -> tuple[bool, float, float]:
    loss = math.inf if one.eval_loss is None else one.eval_loss
    accuracy = one.eval_accuracy if by_accuracy and one.eval_accuracy is not None else 0.0
    return one.failed is not None, -accuracy, loss


def _words(settings: Values) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _line(error: NightshiftError) -> str:
    found = error.details.get("found")
    return error.what if found is None else f"{error.what}: {found}"
