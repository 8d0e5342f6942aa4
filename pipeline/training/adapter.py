"""Adapters as artifacts: weights, their configuration without a machine's paths, the settings in force, the losses."""

import json
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
TRIAL = "trial"  # the name of an adapter that a sweep tried


def save(
    store: ArtifactStore,
    model: Any,
    folder: Path,
    *,
    base: Version,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> Stored:
    """Returns the artifact of the model's adapter "default": two runs with the same weights and settings are one.
    Raises Refused where a weight is no number."""
    # Without save_embedding_layers=False PEFT asks the base model's address whether the vocabulary grew.
    model.save_pretrained(str(folder), selected_adapters=["default"], save_embedding_layers=False)
    require_finite(folder / WEIGHTS)
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


def require_finite(weights: Path) -> None:
    """Raises Refused where a weight of a safetensors file is infinite or not a number: nothing of it may be kept."""
    from safetensors.torch import load_file

    broken = sorted(name for name, tensor in load_file(weights).items() if not bool(tensor.isfinite().all()))
    if broken:
        raise Refused(
            "the adapter has weights that are no numbers",
            where=broken[0],
            found=f"{len(broken)} tensors with infinite or undefined values",
            next_step="lower the recipe's learning_rate; with dtype bfloat16 also try float32",
        )
