"""What looks at each step of a training: shows it, records it, judges it, and says when a checkpoint is due."""

import logging
import resource
import time
from typing import Any

from pipeline import checkpoints
from pipeline.models import Device
from pipeline.progress import Progress
from pipeline.training.curve import Recorder, StepMetrics
from pipeline.training.divergence import Watch
from pipeline.training.job import Job

log = logging.getLogger(__name__)

BEGUN = "begun.json"  # beside the checkpoints: what the training began with, and the seconds it has taken


def observer_of(job: Job, trainer: Any, recorder: Recorder, earlier: float) -> Any:
    """Returns the callback that shows, records and judges each step, and says when a checkpoint is due."""
    from transformers import TrainerCallback

    class Observer(TrainerCallback):
        def __init__(self) -> None:
            self.earlier = earlier  # seconds that tries before this one took
            self.before: float | None = None
            self._begun = self._saved = time.monotonic()
            self._step_begun, self._tokens, self._supervised = self._begun, 0, 0

        def replay(self, history: list[dict[str, Any]]) -> None:
            """Records what the tries before this one measured: it may be another run's."""
            if self.before is not None:
                recorder.add(StepMetrics(0, eval_loss=self.before))
            for entry in history:
                if "loss" in entry or "eval_loss" in entry:
                    recorder.add(StepMetrics.of(entry["step"], entry))

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._progress = Progress(log, job.what, state.max_steps, done=state.global_step)
            self._watch = Watch(state.max_steps)
            for entry in state.log_history:
                if "loss" in entry:
                    self._watch.see(StepMetrics.of(entry["step"], entry))

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._step_begun = time.monotonic()
            self._tokens, self._supervised = trainer.tokens, trainer.supervised

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._progress.reach(state.global_step)
            now = time.monotonic()
            if now - self._saved >= 60 * job.recipe.checkpoint_minutes:
                control.should_save = True
            limit = job.recipe.max_minutes
            if (
                limit is not None
                and self.earlier + now - self._begun >= 60 * limit
                and not control.should_training_stop
            ):
                log.warning("%s stops after %g minutes, at step %d", job.what, limit, state.global_step)
                control.should_training_stop = control.should_save = True
                control.should_evaluate = job.validated

        def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            logs = given["logs"]
            if "loss" in logs:
                seconds = max(time.monotonic() - self._step_begun, 1e-9)
                measured = StepMetrics.of(
                    state.global_step,
                    logs,
                    tokens_per_second=(trainer.tokens - self._tokens) / seconds,
                    supervised_per_second=(trainer.supervised - self._supervised) / seconds,
                    memory_mib=peak_mib(job.device),
                )
            elif "eval_loss" in logs:
                measured = StepMetrics.of(state.global_step, logs)
            else:
                return
            recorder.add(measured)
            # The loss before the first step is the model's as it came, and no sign of anything.
            if state.global_step:
                self._watch.see(measured)

        def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            loss = given["metrics"]["eval_loss"]
            log.info("%s: validation loss %.4f after %d steps", job.what, loss, state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._saved = time.monotonic()
            checkpoint = job.root / f"checkpoint-{state.global_step}"
            # Of all that the trainer writes the one pickle of Python objects, which nothing reads.
            (checkpoint / "training_args.bin").unlink(missing_ok=True)
            checkpoints.write(
                job.root / BEGUN,
                {"eval_loss_before": self.before, "seconds": self.earlier + self._saved - self._begun},
            )
            checkpoints.complete(checkpoint)
            checkpoints.prune(job.root, {f"checkpoint-{state.best_global_step}"})

    return Observer()


def peak_mib(device: Device) -> int:
    """Returns the peak of the memory so far in MiB: the GPU's, or this process's."""
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated() >> 20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
