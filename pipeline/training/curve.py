"""What a training measures at each step, as rows of the database while it runs."""

import logging
import math
import threading
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from pipeline import database
from pipeline.errors import FencedOut, NightshiftError
from pipeline.settings import Settings
from pipeline.steps import Attempt
from pipeline.training import sandbox

log = logging.getLogger(__name__)

_EVERY = 2.0  # seconds between two writes: a step must not wait for the database
# What a trainer logs, by the column that keeps it.
_LOGGED = {
    "epoch": "epoch",
    "loss": "loss",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "eval_loss": "eval_loss",
    "eval_rewards/margins": "eval_margin",
    "eval_rewards/accuracies": "eval_accuracy",
}


@dataclass(frozen=True)
class StepMetrics:
    """What was measured at a step; None where it was not."""

    step: int  # 0: before the first
    epoch: float | None = None
    loss: float | None = None  # of the rows of this step; nats per supervised token, or a pair's loss
    learning_rate: float | None = None
    gradient_norm: float | None = None  # before it was cut
    margin: float | None = None
    accuracy: float | None = None
    eval_loss: float | None = None
    eval_margin: float | None = None
    eval_accuracy: float | None = None
    tokens_per_second: float | None = None
    supervised_per_second: float | None = None
    memory_mib: int | None = None

    @classmethod
    def of(cls, step: int, logs: dict[str, Any], **measured: Any) -> "StepMetrics":
        """Returns what a trainer logged at a step, with what else was measured."""
        logged: dict[str, Any] = {_LOGGED[name]: float(logs[name]) for name in logs.keys() & _LOGGED.keys()}
        return cls(step, **logged, **measured)

    def finite(self) -> bool:
        """Returns whether nothing that was measured is infinite or not a number."""
        return all(math.isfinite(value) for value in asdict(self).values() if value is not None)


class Recorder:
    """Writes the rows from a thread with a connection of its own. A database that does not answer for a while loses
    nothing and stops no training; an attempt that a newer one took over from is stopped at its next step."""

    def __init__(self, settings: Settings, attempt: Attempt) -> None:
        self._settings, self._attempt = settings, attempt
        self._rows: list[StepMetrics] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._fenced: FencedOut | None = None
        self._thread = threading.Thread(target=self._write, name="training-steps", daemon=True)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def add(self, metrics: StepMetrics) -> None:
        """Takes what a step measured. Raises FencedOut where a newer attempt of the run took over."""
        if self._fenced is not None:
            raise self._fenced
        with self._lock:
            self._rows.append(metrics)

    def _write(self) -> None:
        while not self._stop.wait(_EVERY):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            rows, self._rows = self._rows, []
        if not rows or self._fenced is not None:
            return
        try:
            with database.connect(self._settings, sandbox.ROLE) as connection:
                database.call(
                    connection, "lineage.record_steps", self._attempt.run_id, self._attempt.fence, Jsonb(_merged(rows))
                )
        except FencedOut as error:
            self._fenced = error
        except (NightshiftError, psycopg.Error) as error:
            log.warning("%d steps' measures are not in the database yet: %s", len(rows), error)
            with self._lock:
                self._rows = rows + self._rows


def _merged(rows: list[StepMetrics]) -> list[dict[str, Any]]:
    """Returns one row a step, as JSON: a step is measured when it is trained, and again when it is evaluated. What JSON
    has no number for is a word."""
    by_step: dict[int, dict[str, Any]] = {}
    for row in rows:
        measured = {name: value for name, value in asdict(row).items() if value is not None}
        by_step.setdefault(row.step, {}).update(measured)
    return [
        {name: value if math.isfinite(value) else str(value) for name, value in row.items()} for row in by_step.values()
    ]
