"""What both methods do with a TRL trainer: run it, and say how it went."""

import logging
import math
import resource
import time
from typing import Any

from pipeline.errors import NotAvailable, Refused
from pipeline.models import Device
from pipeline.progress import Progress
from pipeline.training import adapter

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

    stopping = [EarlyStoppingCallback(early_stopping_patience=patience)] if validated else []
    return [Logged(), *stopping]


def train(trainer: Any, device: Device) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (metrics, facts) of a training: what the same run gives again, and that with what it took.

    Facts add seconds, threads, device and peak memory in MiB (of the GPU, or of the process). Raises NotAvailable where
    the GPU's memory is not enough; Refused where the loss diverged or the best checkpoint did not load.
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
        _demand_best(float(trainer.evaluate()["eval_loss"]), metrics["eval_loss"])
    peak = (
        torch.cuda.max_memory_allocated() >> 20
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    )
    facts = {name: value for name, value in metrics.items() if name != "history"} | {
        "stopped_early": metrics["steps"] < metrics["steps_planned"],
        "seconds": round(time.monotonic() - begun, 1),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "peak_memory_mib": int(peak),
    }
    log.info("%s steps, training loss %s, validation loss %s", facts["steps"], facts["train_loss"], facts["eval_loss"])
    return metrics, facts


def _demand_best(found: float, best: float) -> None:
    """Raises Refused where the validation loss of the weights at hand is not the best that was measured. A checkpoint
    that did not load leaves the last weights in place, and no library says so."""
    if not math.isclose(found, best, rel_tol=_TOLERANCE):
        raise Refused(
            "the best checkpoint was not restored",
            where="validation loss after training",
            found=f"{found:.6f}",
            allowed=f"{best:.6f}, within {_TOLERANCE:.0%}",
            next_step="this is a fault of the trainer and its libraries: please report it with their versions",
        )
