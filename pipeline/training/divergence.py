"""When a training has gone wrong: a loss or a gradient that is no number, or losses far above where they began."""

import math
from collections import deque

from pipeline.errors import Refused
from pipeline.training.curve import StepMetrics

WINDOW = 5  # steps: single batches differ by more than a training does
_FACTOR, _DISTANCE = 2.0, 1.0  # of the loss that it began with, and nats above it


class Watch:
    """Looks at each step's measures, in the order of the steps."""

    def __init__(self, planned: int) -> None:
        """`planned` is how many steps the training takes."""
        self._planned = planned
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=WINDOW)

    def see(self, metrics: StepMetrics) -> None:
        """Raises Refused where the training diverged: where a measure is no number, or where the mean loss of the last
        steps is twice the one that it began with, and more than one nat above it."""
        if not metrics.finite():
            raise _diverged("a loss or a gradient is not a number", metrics.step, self._planned)
        if metrics.loss is None:
            return
        if len(self._first) < WINDOW:
            self._first.append(metrics.loss)
            return
        self._last.append(metrics.loss)
        begun, now = math.fsum(self._first) / WINDOW, math.fsum(self._last) / WINDOW
        if len(self._last) == WINDOW and now > max(_FACTOR * begun, begun + _DISTANCE):
            raise _diverged(
                f"the mean loss of {WINDOW} steps is {now:.2f}, and was {begun:.2f}", metrics.step, self._planned
            )


def _diverged(found: str, step: int, planned: int) -> Refused:
    return Refused(
        "the training diverged",
        where=f"step {step} of {planned}",
        found=found,
        next_step="lower the recipe's learning_rate or max_grad_norm, or raise warmup; with dtype bfloat16 also try "
        "float32. The checkpoints before it stay on this machine for a week; no adapter is made of them",
    )
