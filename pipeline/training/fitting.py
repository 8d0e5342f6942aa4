"""How a training fits into this machine: the passes that an optimizer step is made in, and what they take.

A step stays what the recipe says, so many rows. Where memory is not enough for its passes, they are made smaller, and
then activations are computed twice instead of kept (gradient checkpointing). What cannot fit even so is refused before
anything is trained, with settings that would fit.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.errors import Refused
from pipeline.models import Device
from pipeline.training import recipe
from pipeline.training.head import IGNORED
from pipeline.training.job import Passes
from pipeline.training.precision import product_rate, quickest
from pipeline.training.recipe import Method
from pipeline.training.records import Plan, Split
from pipeline.training.rows import Kept
from pipeline.training.tracing import Shape, StepCost, Tracer
from pipeline.usecase import Recipe, Training

# What the training process has in memory before it loads a model: Python, torch, transformers, TRL and their threads.
PROCESS_BYTES = 560 << 20
_GPU_BYTES = 1 << 30  # of a GPU's memory, that CUDA itself takes
_OF_MACHINE = 0.9  # of its memory: the rest is for Airflow, Postgres and the system
_LENGTHS = (8192, 6144, 4096, 3072, 2048, 1536, 1024, 768, 512, 384, 256, 128, 64)  # that a refusal proposes
_TRIED = 16 << 20  # bytes that are written to see how fast memory is
Spans = tuple[tuple[int, int], ...]  # of a row: where each begins and ends


@dataclass(frozen=True)
class Speed:
    """How fast this processor is, measured."""

    operations: float  # floating-point operations a second, in products of the model's own shapes
    bytes: float  # written a second, into memory that is new
    call: float  # seconds that any operation takes, however small


@dataclass(frozen=True)
class Lengths:
    """How long the rows of a method are."""

    longest: int  # tokens
    scored: int  # at most, of a row's tokens
    rows: Mapping[Split, int]
    tokens: Mapping[Split, int]
    packed: bool = False
    answers: Sequence[Spans] = ()  # where each row to train on is scored, the shortest row first

    def scored_in(self, rows: int) -> int:
        """Returns how many places a pass of so many rows scores at most: at each, all of its rows. Rows of like length
        share a pass."""
        passes = (self.answers[begin : begin + rows] for begin in range(0, len(self.answers), rows))
        return max((_covered([span for row in one for span in row]) for one in passes), default=self.scored)

    @classmethod
    def of(cls, kept: Mapping[Split, Kept], packed: bool = False) -> "Lengths":
        """Returns it of these rows, or packs of rows; of pairs, both sides have the length of the longer one."""
        everything = [row for one in kept.values() for row in one.rows]
        return cls(
            max(recipe.length(row) for row in everything),
            max(_covered(_spans(row)) for row in everything),
            {split: len(one.rows) for split, one in kept.items()},
            {split: sum(recipe.length(row) for row in one.rows) for split, one in kept.items()},
            packed,
            () if packed else [_spans(row) for row in sorted(kept["train"].rows, key=recipe.length)],
        )


def plan(tracer: Tracer, training: Training, method: Method, lengths: Lengths, device: Device, speed: Speed) -> Plan:
    """Returns the first way to train that fits: in the recipe's own passes if it can be.

    Raises Refused where not even passes of one row fit, with the nearest settings that would.
    """
    own = recipe.recipe_of(training, method)
    room = budget(training, device)
    always = device == "cuda"
    tried = None
    for checkpointing in (True,) if always else (False, True):
        passes: Passes | None = Passes(own.batch_size, own.gradient_accumulation)
        while passes is not None:
            tried = needed(cost(tracer, method, lengths, passes, checkpointing), device)
            if tried <= room:
                taken = _whole(tracer, method, own, lengths, passes, checkpointing, speed)
                return Plan(
                    passes.rows,
                    passes.accumulation,
                    checkpointing,
                    tried >> 20,
                    room >> 20,
                    round(taken),
                    tracer.parameters,
                    tracer.trainable,
                )
            passes = passes.smaller()
    assert tried is not None
    raise _too_large(tracer, training, method, lengths, device, tried, room)


def described(plan: Plan) -> str:
    """Returns a plan in a line of a log."""
    share = plan.trainable / (plan.parameters + plan.trainable)
    return (
        f"{plan.batch_size} rows in a pass, {plan.gradient_accumulation} passes to a step"
        f"{', activations computed twice' if plan.gradient_checkpointing else ''}; "
        f"{plan.memory_mib / 1024:.1f} of {plan.budget_mib / 1024:.1f} GiB; about {_time(plan.seconds)}; "
        f"{plan.trainable:,} trained parameters beside {plan.parameters:,} ({share:.2%})"
    )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def cost(tracer: Tracer, method: Method, lengths: Lengths, passes: Passes, checkpointing: bool) -> StepCost:
    """Returns what a pass of the longest rows takes. Packs are laid end to end, too."""
    rows, length = passes.rows, lengths.longest
    if lengths.packed:
        shape = Shape(1, rows * length, rows * min(lengths.scored, length - 1), masked=True)
    else:
        shape = Shape(rows, length, min(lengths.scored_in(rows), length - 1), masked=rows > 1)
    return tracer.cost(method, shape, checkpointing)


def needed(step: StepCost, device: Device) -> int:
    """Returns the bytes of memory at the peak: of the process, or of the GPU."""
    return int(step.weights + step.passing + step.buffers + (0 if device == "cuda" else PROCESS_BYTES))


def budget(training: Training, device: Device) -> int:
    """Returns the bytes of memory that a training may take: always the same on the same machine, whatever else runs."""
    if training.memory_gib is not None:
        return int(training.memory_gib * 2**30)
    if device == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory) - _GPU_BYTES
    return int(_OF_MACHINE * machine_bytes())


def machine(training: Training, device: Device) -> str:
    """Returns what decides about the memory there is, for cache keys: asked without importing torch."""
    if training.memory_gib is not None:
        return f"{training.memory_gib:g} GiB"
    if device == "cuda":
        cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        return ", ".join(card.read_text().partition("\n")[0].removeprefix("Model:").strip() for card in cards) or device
    return f"{machine_bytes() >> 30} GiB"


def machine_bytes(limits: Sequence[Path] = (Path("/sys/fs/cgroup/memory.max"),)) -> int:
    """Returns the machine's memory, or what its container may take of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = [path.read_text().strip() for path in limits if path.is_file()]
    return min([whole, *(int(text) for text in texts if text.isdigit())])


def speed(config: Any, training: Training, device: Device) -> Speed:
    """Returns how fast this processor is with a model of this configuration."""
    import torch

    assert training.dtype != "auto"
    kind = getattr(torch, training.dtype)
    small = torch.ones(8, dtype=kind, device=device)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def write() -> None:
        torch.full((_TRIED // 4,), 1.0, device=device)
        wait()

    def calls() -> None:
        for _ in range(1000):
            small.add_(1)
        wait()

    return Speed(product_rate(config, training.dtype, device), _TRIED / quickest(write), quickest(calls) / 1000)


def _whole(
    tracer: Tracer,
    method: Method,
    own: Recipe,
    lengths: Lengths,
    passes: Passes,
    checkpointing: bool,
    speed: Speed,
) -> float:
    """Returns how long a training takes that does not stop early, its evaluations with it."""
    rows = lengths.rows["train"]
    if not rows:
        return 0.0
    mean = math.ceil(lengths.tokens["train"] / rows)
    one = cost(tracer, method, replace(lengths, longest=mean), passes, checkpointing)
    whole = seconds(one, speed)
    steps = recipe.steps(own, rows)
    taken = steps * passes.accumulation * whole
    if validating := lengths.rows["validation"]:
        times = 1 + math.ceil(steps / min(own.eval_steps, steps))
        taken += times * math.ceil(validating / passes.rows) * whole * one.forward / one.operations
    return taken


def seconds(step: StepCost, speed: Speed) -> float:
    """Returns the seconds of a pass, forward and backward: products, memory and calls come one after the other."""
    return step.operations / speed.operations + step.written / speed.bytes + step.calls * speed.call


def _spans(row: Mapping[str, Any]) -> Spans:
    """Returns where a row, or either side of a pair, is scored."""
    if "labels" not in row:
        begin = len(row["prompt_ids"])
        return ((begin, begin + max(len(row["chosen_ids"]), len(row["rejected_ids"]))),)
    spans, place = [], 0
    for is_scored, labels in groupby(row["labels"], key=lambda label: label != IGNORED):
        count = sum(1 for _ in labels)
        spans += [(place, place + count)] if is_scored else []
        place += count
    return tuple(spans)


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Returns how many places lie in any of these spans."""
    covered = end = 0
    for begin, stop in sorted(spans):
        covered += max(stop - max(begin, end), 0)
        end = max(end, stop)
    return covered


def _too_large(
    tracer: Tracer, training: Training, method: Method, lengths: Lengths, device: Device, tried: int, room: int
) -> Refused:
    """Returns the refusal of a training that does not fit, with what would."""
    advice, single = [], Passes(1, 1)
    for length in _LENGTHS:
        shorter = replace(lengths, longest=length)
        if length < lengths.longest and needed(cost(tracer, method, shorter, single, True), device) <= room:
            advice.append(f"max_length: {length}")
            break
    if training.quantize == "none" and tried - tracer.saved_by_nf4() <= room:
        advice.append("quantize: nf4")
    advice.append(f"a machine with {_gib(int(tried / _OF_MACHINE))}")
    return Refused(
        "the training does not fit into memory",
        where=f"training.{method}",
        found=f"{_gib(tried)} for one row of {lengths.longest} tokens in a pass, activations computed twice",
        allowed=f"{_gib(room)} ({'training.memory_gib' if training.memory_gib else 'what is there to train in'})",
        next_step=", or ".join(advice),
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
