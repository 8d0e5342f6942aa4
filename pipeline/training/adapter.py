"""Adapters as artifacts: weights, their configuration without a machine's paths, the settings in force, the losses."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import canonical
from pipeline.artifacts import ArtifactStore, Stored
from pipeline.errors import Refused
from pipeline.records import load
from pipeline.steps import Outcome, Output, Version
from pipeline.training.records import Tuned, TuningFacts

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
# Of what TRL logs, the measures that the same rows and seed give again. Times and rates belong into facts.
_MEASURES = (
    "loss",
    "eval_loss",
    "rewards/accuracies",
    "rewards/margins",
    "eval_rewards/accuracies",
    "eval_rewards/margins",
)
_DIGITS = 6


def save(
    store: ArtifactStore,
    model: Any,
    folder: Path,
    *,
    base: Version,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> Stored:
    """Returns the artifact of the model's adapter "default": two runs with the same weights and settings are one."""
    # Without save_embedding_layers=False PEFT asks the base model's address whether the vocabulary grew.
    model.save_pretrained(str(folder), selected_adapters=["default"], save_embedding_layers=False)
    config = json.loads((folder / CONFIG).read_text())
    files: dict[str, bytes | Path] = {
        WEIGHTS: folder / WEIGHTS,
        CONFIG: canonical.dumps(portable(config, base.digest)).encode(),
        "recipe.json": canonical.dumps(dict(settings)).encode(),
        "metrics.json": canonical.dumps(dict(metrics)).encode(),
    }
    return store.put("adapter", files)


def portable(config: Mapping[str, Any], base_digest: str) -> dict[str, Any]:
    """Returns an adapter's configuration as it is the same on every machine: the base model by digest in place of its
    path, and what are sets in PEFT in alphabetical order."""
    same = {
        name: sorted(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value
        for name, value in config.items()
    }
    return same | {"base_model_name_or_path": f"sha256:{base_digest}", "revision": None}


def output(stored: Stored, name: str) -> Output:
    """Returns an adapter as a step's output. It is private: weights can give back rows that they were trained on, so an
    erasure must be able to reach them."""
    return Output.of(stored, name, private=True)


def tuned(outcome: Outcome) -> Tuned:
    """Returns what a method hands on, from how its step ended."""
    return Tuned(outcome.run_id, outcome.reused, outcome.outputs["adapter"], load(TuningFacts, outcome.facts))


def metrics(state: Any) -> dict[str, Any]:
    """Returns the losses of a finished training from the trainer's state, rounded.

    `eval_loss` is the best on the validation rows, taken at `best_step`; both are None where there were no such rows.
    Raises Refused where a loss is not a number.
    """
    history = [
        {"step": entry["step"]} | {name: round(float(entry[name]), _DIGITS) for name in _MEASURES if name in entry}
        for entry in state.log_history
    ]
    history = [entry for entry in history if len(entry) > 1]
    for entry in history:
        if not all(math.isfinite(value) for value in entry.values()):
            raise Refused(
                "the training diverged: a loss is not a number",
                where=f"step {entry['step']} of {state.max_steps}",
                next_step="lower the recipe's learning_rate; with dtype bfloat16 also try float32",
            )
    losses = [entry["loss"] for entry in history if "loss" in entry]
    return {
        "steps": state.global_step,
        "steps_planned": state.max_steps,
        "best_step": state.best_global_step,
        "train_loss": losses[-1] if losses else None,
        "eval_loss": None if state.best_metric is None else round(float(state.best_metric), _DIGITS),
        "history": history,
    }
