"""What both methods do with a TRL trainer: run it, and say how it went."""

import logging
import math
import resource
import time
from collections.abc import Mapping
from typing import Any

from pipeline.errors import NotAvailable, Refused
from pipeline.models import Device
from pipeline.progress import Progress
from pipeline.training import adapter
from pipeline.training.records import Measures, RowCounts, Split

log = logging.getLogger(__name__)

_TOLERANCE = 0.01  # on a GPU in bfloat16 two evaluations of the same weights differ


def callbacks(what: str, patience: int, validated: bool) -> list[Any]:
    """Returns the trainer's callbacks: the one that logs its progress and, with validation rows, the one that stops it
    early."""
    from transformers import EarlyStoppingCallback, TrainerCallback

    class Logged(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.progress = Progress(log, what, state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.progress.reach(state.global_step)

        def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            loss = given["metrics"]["eval_loss"]
            log.info("%s: validation loss %.4f after %d steps", what, loss, state.global_step)

    stopping = [EarlyStoppingCallback(early_stopping_patience=patience)] if validated else []
    return [Logged(), *stopping]


def only_logs(trainer: Any) -> Any:
    """Returns the trainer without the callback that prints every measure as a Python dict."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def train(
    trainer: Any, device: Device, rows: Mapping[Split, RowCounts], before: float | None = None
) -> tuple[dict[str, Any], Measures]:
    """Returns (metrics, measures) of a training: what the same run gives again, and that with what it took. `before`
    is the validation loss that it began with, where that was taken.

    Raises NotAvailable where the GPU's memory is not enough; Refused where the loss diverged or the best checkpoint
    did not load.
    """
    import torch

    begun = time.monotonic()
    try:
        trainer.train()
    except torch.OutOfMemoryError:
        raise NotAvailable(
            "the GPU's memory is not enough",
            where=torch.cuda.get_device_name(),
            next_step="a smaller batch_size with more gradient_accumulation, a smaller max_length, or quantize: nf4",
        ) from None
    metrics = adapter.metrics(trainer.state)
    if metrics["eval_loss"] is not None:
        _require_best(float(trainer.evaluate()["eval_loss"]), metrics["eval_loss"])
    peak = (
        torch.cuda.max_memory_allocated() >> 20
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    )
    measures = Measures(
        steps=metrics["steps"],
        steps_planned=metrics["steps_planned"],
        best_step=metrics["best_step"],
        train_loss=metrics["train_loss"],
        eval_loss=metrics["eval_loss"],
        eval_loss_before=before,
        stopped_early=metrics["steps"] < metrics["steps_planned"],
        seconds=round(time.monotonic() - begun, 1),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        peak_memory_mib=int(peak),
        rows=rows,
    )
    log.info("%s steps, training loss %s, validation loss %s", measures.steps, measures.train_loss, measures.eval_loss)
    return metrics, measures


def _require_best(loss: float, best: float) -> None:
    """Raises Refused where the validation loss of the weights at hand is not the best that was measured. A checkpoint
    that did not load leaves the last weights in place, and no library says so."""
    if not math.isclose(loss, best, rel_tol=_TOLERANCE):
        raise Refused(
            "the best checkpoint was not restored",
            where="validation loss after training",
            found=f"{loss:.6f}",
            allowed=f"{best:.6f}, within {_TOLERANCE:.0%}",
            next_step="this is a fault of the trainer and its libraries: please report it with their versions",
        )
