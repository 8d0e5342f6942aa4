"""How a training went, from what the trainer logged: the figures that the same rows, settings and seed give again."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

# Of what TRL logs. Times and rates belong into facts.
_TRAINED = ("loss", "rewards/accuracies", "rewards/margins")
_VALIDATED = ("eval_loss", "eval_rewards/accuracies", "eval_rewards/margins")
_DIGITS = 6
_RISE = 1.02  # of the validation loss over its best: less is noise


def of(state: Any, every: int) -> dict[str, Any]:
    """Returns the losses of a finished training from the trainer's state, rounded.

    `history` has a row for each `every` steps and for the last: the means of what was logged since the row before, and
    what was measured on the validation rows. `train_loss` is the last such mean. `eval_loss` is the best on the
    validation rows, taken at `best_step`; both are None where there were no such rows. `overfitted` says that the
    validation loss rose after its best while the training loss went on falling.
    """
    history = _history(state.log_history, every, state.global_step)
    losses = [entry["loss"] for entry in history if "loss" in entry]
    return {
        "steps": state.global_step,
        "steps_planned": state.max_steps,
        "best_step": state.best_global_step,
        "train_loss": losses[-1] if losses else None,
        "eval_loss": None if state.best_metric is None else round(float(state.best_metric), _DIGITS),
        "eval_accuracy": _at_best(history, state.best_global_step).get("eval_rewards/accuracies"),
        "overfitted": overfitted(history),
        "history": history,
    }


def overfitted(history: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether the validation loss rose after its best while the training loss went on falling."""
    both = [entry for entry in history if "loss" in entry and "eval_loss" in entry]
    if len(both) < 2:
        return False
    best, last = min(both, key=lambda entry: entry["eval_loss"]), both[-1]
    return bool(last["eval_loss"] > _RISE * best["eval_loss"] and last["loss"] < best["loss"])


def _at_best(history: Sequence[Mapping[str, Any]], step: int | None) -> Mapping[str, Any]:
    return next((entry for entry in history if entry["step"] == step), {})


def _history(logged: Sequence[Mapping[str, Any]], every: int, steps: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    waiting: dict[str, list[float]] = {}
    validated = {entry["step"]: entry for entry in logged if "eval_loss" in entry}
    for entry in logged:
        if "loss" not in entry:
            continue
        for name in _TRAINED:
            if name in entry:
                waiting.setdefault(name, []).append(float(entry[name]))
        step = entry["step"]
        if step % every and step != steps and step not in validated:
            continue
        row = {"step": step} | {name: _rounded(math.fsum(values) / len(values)) for name, values in waiting.items()}
        measured = validated.get(step, {})
        rows.append(row | {name: _rounded(measured[name]) for name in _VALIDATED if name in measured})
        waiting = {}
    return rows


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)
