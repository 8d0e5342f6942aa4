"""What counts as a training that has gone wrong, and what does not."""

import math
from collections.abc import Sequence

import pytest

from pipeline.errors import Refused
from pipeline.training.curve import StepMetrics
from pipeline.training.divergence import WINDOW, Watch

pytestmark = pytest.mark.unit


def see(losses: Sequence[float]) -> None:
    watch = Watch(100)
    for step, loss in enumerate(losses, start=1):
        watch.see(StepMetrics(step, loss=loss, gradient_norm=1.0))


@pytest.mark.parametrize(
    "broken",
    [
        StepMetrics(7, loss=math.nan),
        StepMetrics(7, loss=math.inf),
        StepMetrics(7, loss=1.0, gradient_norm=math.nan),
        StepMetrics(7, loss=1.0, gradient_norm=math.inf),
        StepMetrics(7, eval_loss=math.nan),
        StepMetrics(7, eval_loss=-math.inf),
        StepMetrics(7, loss=1.0, margin=math.nan),
    ],
)
def test_what_is_no_number_stops_at_once(broken: StepMetrics) -> None:
    with pytest.raises(Refused, match="diverged") as refusal:
        Watch(100).see(broken)
    assert "step 7 of 100" in str(refusal.value)
    assert "learning_rate" in str(refusal.value)


@pytest.mark.parametrize("begun", [0.693, 1.6, 5.9])
def test_losses_far_above_the_first_ones_stop(begun: float) -> None:
    high = max(2 * begun, begun + 1) + 0.01
    with pytest.raises(Refused, match="diverged") as refusal:
        see([begun] * WINDOW + [high] * WINDOW)
    assert f"{begun:.2f}" in str(refusal.value)
    see([begun] * WINDOW + [high] * (WINDOW - 1))


@pytest.mark.parametrize(
    "losses",
    [
        [1.6, 1.4, 1.2, 1.1, 1.0] + [0.2, 1.9, 0.1, 1.8, 0.3] * 10,  # batches of one row differ
        [0.69] * 5 + [1.2] * 20,  # preferences got worse, by less than a nat
        [9.0] * 5 + [17.0] * 20,  # bad from the start: early stopping's to judge
        [2.0] * 5 + [8.0] + [2.0] * 20,  # one outlier
    ],
)
def test_what_a_sound_training_does_too_does_not(losses: list[float]) -> None:
    see(losses)
