"""The figures of a finished training."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.training import summary

pytestmark = pytest.mark.unit


def state(**given: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"global_step": 4, "max_steps": 8, "best_global_step": 2, "best_metric": 0.5, **given})


def test_figures_leave_out_what_differs_from_run_to_run_and_are_means_of_their_steps() -> None:
    logged = [
        {"step": 1, "loss": 1.0, "grad_norm": 1.0, "epoch": 0.25, "rewards/margins": 0.25},
        {"step": 2, "loss": 1.23456789, "grad_norm": 1.0, "epoch": 0.5, "rewards/margins": 0.75},
        {"step": 2, "eval_loss": 0.5, "eval_runtime": 0.123, "eval_samples_per_second": 9.0},
        {"step": 3, "loss": 0.5},
        {"step": 4, "train_runtime": 3.2, "train_loss": 1.0},
    ]
    assert summary.of(state(log_history=logged, global_step=3), 2) == {
        "steps": 3,
        "steps_planned": 8,
        "best_step": 2,
        "train_loss": 0.5,
        "eval_loss": 0.5,
        "eval_accuracy": None,
        "overfitted": False,
        "history": [
            {"step": 2, "loss": 1.117284, "rewards/margins": 0.5, "eval_loss": 0.5},
            {"step": 3, "loss": 0.5},
        ],
    }


def test_the_accuracy_is_that_of_the_best_step() -> None:
    logged = [
        {"step": step, "loss": 0.5, "eval_loss": loss, "eval_rewards/accuracies": share}
        for step, loss, share in ((1, 0.6, 0.7), (2, 0.4, 0.8), (3, 0.5, 0.9))
    ]
    logged = [
        {key: entry[key] for key in keys}
        for entry in logged
        for keys in (("step", "loss"), ("step", "eval_loss", "eval_rewards/accuracies"))
    ]
    assert summary.of(state(log_history=logged, best_global_step=2, global_step=3), 1)["eval_accuracy"] == 0.8


def test_without_validation_rows_there_is_no_best() -> None:
    figures = summary.of(state(log_history=[{"step": 1, "loss": 1.0}], best_metric=None, best_global_step=None), 2)
    assert (figures["eval_loss"], figures["best_step"], figures["train_loss"]) == (None, None, None)


@pytest.mark.parametrize(
    ("losses", "validated", "overfitted"),
    [
        ([3, 2, 1], [3, 2, 2.5], True),
        ([3, 2, 2.1], [3, 2, 2.5], False),  # both rise
        ([3, 2, 1], [3, 2, 2.01], False),  # within noise
        ([3, 2, 1], [3, 2, 1], False),
        ([3], [3], False),
    ],
)
def test_overfitting_is_a_validation_loss_that_rises_while_the_training_loss_falls(
    losses: list[float], validated: list[float], overfitted: bool
) -> None:
    history = [
        {"step": step, "loss": loss, "eval_loss": own}
        for step, (loss, own) in enumerate(zip(losses, validated, strict=True), start=1)
    ]
    assert summary.overfitted(history) == overfitted
