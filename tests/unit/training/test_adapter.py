"""What an adapter's artifact holds beside its weights."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

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


def state(**told: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"global_step": 4, "max_steps": 8, "best_global_step": 2, "best_metric": 0.5, **told})


def test_metrics_leave_out_what_differs_from_run_to_run() -> None:
    history = [
        {"step": 2, "loss": 1.23456789, "grad_norm": 1.0, "epoch": 0.5},
        {"step": 2, "eval_loss": 0.5, "eval_runtime": 0.123, "eval_samples_per_second": 9.0},
        {"step": 4, "train_runtime": 3.2, "train_loss": 1.0},
    ]
    assert adapter.metrics(state(log_history=history)) == {
        "steps": 4,
        "steps_planned": 8,
        "best_step": 2,
        "train_loss": 1.234568,
        "eval_loss": 0.5,
        "history": [{"step": 2, "loss": 1.234568}, {"step": 2, "eval_loss": 0.5}],
    }


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_a_number_is_refused(loss: float) -> None:
    with pytest.raises(Refused, match="diverged") as told:
        adapter.metrics(state(log_history=[{"step": 2, "loss": 1.0}, {"step": 4, "eval_loss": loss}]))
    assert "step 4 of 8" in str(told.value)
