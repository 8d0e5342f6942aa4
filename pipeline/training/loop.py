"""What both methods do with a TRL trainer: run it, and say how it went."""

import logging
import resource
import time
from typing import Any

from pipeline.errors import NotAvailable
from pipeline.models import Device
from pipeline.training import adapter

log = logging.getLogger(__name__)


def early_stopping(patience: int, validated: bool) -> list[Any]:
    """Returns the trainer's callbacks: with validation rows, the one that stops it early."""
    from transformers import EarlyStoppingCallback

    return [EarlyStoppingCallback(early_stopping_patience=patience)] if validated else []


def train(trainer: Any, device: Device) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (metrics, facts) of a training: what the same run gives again, and that with what it took.

    Facts add seconds, threads, device and peak memory in MiB (of the GPU, or of the process). Raises NotAvailable where
    the GPU's memory is not enough, Refused where the loss diverged.
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
