"""What both methods do with a TRL trainer: run it from where an earlier try was killed, and say how it went.

- A checkpoint stands after each evaluation, and after each `checkpoint_minutes`. The same training, killed anywhere and
  begun again, goes on from the newest that is whole, and on a CPU ends with the same adapter, byte for byte.
- Where memory runs out, the micro-batch is halved and the accumulation doubled: the same steps in smaller passes, from
  the last checkpoint on.
- A loss or gradient that is no number, or losses far above where they began, stop it at once.
"""

import gc
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from pipeline import checkpoints, steps
from pipeline.errors import NotAvailable, Refused
from pipeline.models import Device
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Result, Step
from pipeline.training import adapter, summary
from pipeline.training.curve import Recorder
from pipeline.training.job import Job, Passes
from pipeline.training.observer import BEGUN, observer_of, peak_mib
from pipeline.training.records import Cost, Measures, Tuned
from pipeline.usecase import Price

log = logging.getLogger(__name__)

_TOLERANCE = 0.01  # on a GPU in bfloat16 two evaluations of the same weights differ
_ROUNDED = 1e-5  # below which a loss has no digits to compare
KEPT = timedelta(days=7)  # checkpoints of a training that nobody began again


@contextmanager
def root(settings: Settings, attempt: Attempt, spec: Step) -> Iterator[Path]:
    """Yields the folder of a training's checkpoints: of the same training, whoever began it; of this run alone where
    nothing earlier may be reused; and of this attempt alone where another process is at work on the same one."""
    checkpoints.sweep(settings, KEPT)
    folder = _folder(settings, spec, attempt.key, attempt.run_id)
    with checkpoints.held(folder) as ours:
        if not ours:
            log.warning("another process trains the same: this one begins anew and leaves its checkpoints alone")
        yield folder if ours else attempt.scratch / "checkpoints"


def finished(settings: Settings, origin: Origin, spec: Step, work: Callable[[Attempt], Result]) -> Tuned:
    """Returns what a training hands on, run as a step. Its checkpoints go once its adapter is recorded."""
    folders = []

    def noted(attempt: Attempt) -> Result:
        folders.append(_folder(settings, spec, attempt.key, attempt.run_id))
        return work(attempt)

    outcome = steps.run(settings, origin, spec, noted)
    for folder in folders:
        with checkpoints.held(folder) as ours:
            if ours:
                checkpoints.remove(folder)
    return adapter.tuned(outcome)


def _folder(settings: Settings, spec: Step, key: str, run_id: UUID) -> Path:
    name = key if spec.reuse == "auto" else f"{key[:16]}{run_id.hex[:16]}"
    return checkpoints.folder(settings, spec.use_case, spec.job, name)


def train(
    settings: Settings, attempt: Attempt, job: Job, *, measure_before: bool
) -> tuple[Any, dict[str, Any], Measures]:
    """Returns (model, metrics, measures) of a training: what the same run gives again, and that with what it took. With
    `measure_before`, the validation loss that it begins with is taken.

    Raises NotAvailable where the memory is not enough; Refused where the loss diverged or the best checkpoint did not
    load; FencedOut where a newer attempt took over.
    """
    passes = Passes(job.recipe.batch_size, job.recipe.gradient_accumulation)
    begun = time.monotonic()
    with Recorder(settings, attempt) as recorder:
        while True:
            try:
                return _run(job, passes, recorder, begun, measure_before)
            except (MemoryError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
            # Outside of the handler: the error holds what the failed pass had in memory.
            smaller = passes.smaller()
            if smaller is None:
                raise _out_of_memory(job.device)
            log.warning("out of memory with %d rows in a pass: going on with %d", passes.rows, smaller.rows)
            passes = smaller
            _free(job.device)


def _run(
    job: Job, passes: Passes, recorder: Recorder, begun: float, measure_before: bool
) -> tuple[Any, dict[str, Any], Measures]:
    trainer = job.build(passes)
    resumed = checkpoints.newest(job.root) if job.root.is_dir() else None
    earlier = _earlier(job.root) if resumed is not None else {}
    observer = observer_of(job, trainer, recorder, earlier.get("seconds", 0.0))
    trainer.add_callback(observer)
    if resumed is None:
        before = float(trainer.evaluate()["eval_loss"]) if measure_before and job.validated else None
        observer.before = before
    else:
        before = observer.before = earlier.get("eval_loss_before")
        log.info("%s goes on from step %d", job.what, checkpoints.state(resumed)["global_step"])
        observer.replay(checkpoints.state(resumed)["log_history"])
    _go_on(trainer, resumed)
    trainer.remove_callback(observer)  # what is evaluated from here on is no step
    before = None if before is None else round(before, 6)
    metrics = summary.of(trainer.state, job.every)
    if metrics["eval_loss"] is not None:
        _require_best(float(trainer.evaluate()["eval_loss"]), metrics["eval_loss"])
    measures = _measures(job, metrics, before, passes, observer, resumed, begun)
    log.info("%s steps, training loss %s, validation loss %s", measures.steps, measures.train_loss, measures.eval_loss)
    return trainer.model, metrics | {"eval_loss_before": before}, measures


def _go_on(trainer: Any, resumed: Path | None) -> None:
    """Trains from the beginning or a checkpoint on. A training that had ended when it was killed is only loaded: the
    trainer would take a step more."""
    if resumed is None:
        trainer.train()
        return
    control = checkpoints.state(resumed)["stateful_callbacks"]["TrainerControl"]["args"]
    if not control["should_training_stop"]:
        trainer.train(resume_from_checkpoint=str(resumed))
        return
    from transformers import TrainerState

    trainer.state = TrainerState.load_from_json(str(resumed / "trainer_state.json"))
    trainer._load_from_checkpoint(str(resumed))
    if trainer.state.best_model_checkpoint is not None:
        trainer._load_best_model()


def _measures(
    job: Job,
    metrics: Mapping[str, Any],
    before: float | None,
    passes: Passes,
    observer: Any,
    resumed: Path | None,
    begun: float,
) -> Measures:
    import torch

    seconds = time.monotonic() - begun
    return Measures(
        steps=metrics["steps"],
        steps_planned=metrics["steps_planned"],
        best_step=metrics["best_step"],
        train_loss=metrics["train_loss"],
        eval_loss=metrics["eval_loss"],
        eval_loss_before=before,
        stopped_early=metrics["steps"] < metrics["steps_planned"],
        seconds=round(seconds, 1),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name() if job.device == "cuda" else "cpu",
        peak_memory_mib=peak_mib(job.device),
        rows=job.rows,
        overfitted=metrics["overfitted"],
        resumed_from=None if resumed is None else int(resumed.name.rpartition("-")[2]),
        seconds_before=round(observer.earlier, 1),
        batch_size=passes.rows,
        gradient_accumulation=passes.accumulation,
        eval_accuracy=metrics["eval_accuracy"],
        plan=job.plan,
        cost=None if job.price is None else _cost(job.price, seconds + observer.earlier),
    )


def _cost(price: Price, seconds: float) -> Cost:
    return Cost(round(price.hour * seconds / 3600, 4), price.currency)


def callbacks(patience: int, validated: bool) -> list[Any]:
    """Returns the trainer's callbacks beside the observer: with validation rows, the one that stops it early."""
    from transformers import EarlyStoppingCallback

    return [EarlyStoppingCallback(early_stopping_patience=patience)] if validated else []


def only_logs(trainer: Any) -> Any:
    """Returns the trainer without the callback that prints every measure as a Python dict."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def _earlier(folder: Path) -> dict[str, Any]:
    """Returns what the tries before this one wrote beside their checkpoints."""
    loaded: dict[str, Any] = json.loads((folder / BEGUN).read_text())
    return loaded


def _is_memory(error: BaseException) -> bool:
    """Returns whether memory ran out: a GPU's has a class of its own, a machine's may be any RuntimeError."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _out_of_memory(device: Device) -> NotAvailable:
    import torch

    return NotAvailable(
        "the memory is not enough for one row at a time",
        where=torch.cuda.get_device_name() if device == "cuda" else "this machine",
        next_step="a smaller max_length, a lower lora_rank, or quantize: nf4",
    )


def _free(device: Device) -> None:
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _require_best(loss: float, best: float) -> None:
    """Raises Refused where the validation loss of the weights at hand is not the best that was measured. A checkpoint
    that did not load leaves the last weights in place, and no library says so."""
    if not math.isclose(loss, best, rel_tol=_TOLERANCE, abs_tol=_ROUNDED):
        raise Refused(
            "the best checkpoint was not restored",
            where="validation loss after training",
            found=f"{loss:.6f}",
            allowed=f"{best:.6f}, within {_TOLERANCE:.0%}",
            next_step="this is a fault of the trainer and its libraries: please report it with their versions",
        )
