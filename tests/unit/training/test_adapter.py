"""What an adapter's artifact holds beside its weights."""

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline import canonical
from pipeline.errors import Refused
from pipeline.training import adapter

pytestmark = pytest.mark.unit


def test_the_configuration_is_the_same_on_every_machine() -> None:
    one = {
        "base_model_name_or_path": "/home/someone/models/tiny",
        "revision": "main",
        "target_modules": ["v_proj", "q_proj"],
        "r": 4,
        "layers_to_transform": [2, 1],
    }
    two = {**one, "base_model_name_or_path": "D:\\models", "target_modules": ["q_proj", "v_proj"], "revision": None}
    told = adapter.portable(one, "ab" * 32)
    assert canonical.dumps(told) == canonical.dumps(adapter.portable(two, "ab" * 32))
    assert told["base_model_name_or_path"] == f"sha256:{'ab' * 32}"
    assert told["layers_to_transform"] == [2, 1]  # an order that may mean something stays
    assert "/home" not in canonical.dumps(told)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_an_adapter_with_a_weight_that_is_no_number_is_refused(tmp_path: Path, broken: float) -> None:
    weights = {"layer.0.lora_A": np.ones((2, 3), np.float32), "layer.1.lora_B": np.ones((3, 2), np.float32)}
    save_file(weights, tmp_path / adapter.WEIGHTS)
    adapter.require_finite(tmp_path / adapter.WEIGHTS)
    weights["layer.1.lora_B"][1, 1] = broken
    save_file(weights, tmp_path / adapter.WEIGHTS)
    with pytest.raises(Refused, match="no numbers") as refusal:
        adapter.require_finite(tmp_path / adapter.WEIGHTS)
    assert "layer.1.lora_B" in str(refusal.value)
