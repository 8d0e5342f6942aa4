"""What preflight expects a training to take beside what it took: `make bench-memory`.

Each configuration is trained for a few steps in a process of its own, as the night trains it, and its peak is what the
system says of the process (on a GPU: what torch says of the GPU). SmolLM2 must be here:
`nightshift model pull smollm2-135m-instruct`; the other models have random weights.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import models
from pipeline.models import Device
from pipeline.settings import ROOT, from_environment
from pipeline.training import allocator, fitting, head, preference, recipe, sandbox, trainer
from pipeline.training.fitting import Lengths
from pipeline.training.job import Passes
from pipeline.training.observer import peak_mib
from pipeline.training.recipe import Method
from pipeline.training.records import Plan
from pipeline.training.rows import Kept
from pipeline.training.tracing import Tracer
from pipeline.training.trainer import Ready, Rows
from pipeline.usecase import BaseModelSource, Training

STEPS = 3


@dataclass(frozen=True)
class Configuration:
    """One training to be measured."""

    title: str
    model: str  # tiny, smollm2-135m-instruct, or a shape below
    method: Method
    rows: int  # in a pass
    length: int  # tokens of each
    scored: float = 0.2  # of a row's tokens
    checkpointing: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)


# Random weights in other families' shapes, small enough for a CPU.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "qwen2": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 10, "num_attention_heads": 8}
    | {"num_key_value_heads": 2, "vocab_size": 49152, "tie_word_embeddings": True},
    "gemma3_text": {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 4}
    | {"num_key_value_heads": 1, "head_dim": 128, "vocab_size": 49152, "sliding_window": 256},
}
CONFIGURATIONS = (
    Configuration("tiny, SFT, 8 rows", "tiny", "sft", 8, 1024),
    Configuration("SmolLM2, SFT, 1 row", "smollm2-135m-instruct", "sft", 1, 1024),
    Configuration("SmolLM2, SFT, 4 rows", "smollm2-135m-instruct", "sft", 4, 512),
    Configuration("SmolLM2, SFT, 2 rows, checkpointing", "smollm2-135m-instruct", "sft", 2, 1024, checkpointing=True),
    Configuration("SmolLM2, DPO, 1 pair", "smollm2-135m-instruct", "dpo", 1, 768),
    Configuration(
        "SmolLM2, SFT, 1 row, bfloat16", "smollm2-135m-instruct", "sft", 1, 512, training={"dtype": "bfloat16"}
    ),
    Configuration("Qwen's shape, SFT, 4 rows, rank 64", "qwen2", "sft", 4, 512, training={"sft": {"lora_rank": 64}}),
    Configuration("Gemma's shape, SFT, 4 rows", "gemma3_text", "sft", 4, 512),
)


def expected(chosen: Configuration, folder: Path, device: Device) -> dict[str, float]:
    """Returns what preflight expects: MiB and the seconds of a step."""
    config, _ = models.require_usable(folder)
    training = _training(chosen)
    lengths = Lengths.of({"train": Kept(_rows(chosen)), "validation": Kept([])})
    tracer, speed = Tracer(config, training, device), fitting.speed(config, training, device)
    passes = Passes(chosen.rows, 1)
    cost = fitting.cost(tracer, chosen.method, lengths, passes, chosen.checkpointing)
    return {"mib": fitting.needed(cost, device) / 2**20, "seconds": fitting.seconds(cost, speed)}


def measured(chosen: Configuration, folder: Path, device: Device) -> dict[str, float]:
    """Returns what a training took, of this process: MiB and the seconds of a step, the best of all but the first."""
    training = _training(chosen)
    assert training.dtype != "auto"
    allocator.give_back()  # as where memory is scarce
    model, tokenizer = models.load(
        folder, device=device, dtype=training.dtype, quantize=training.quantize, trainable=True
    )
    model = recipe.with_adapter(model, training.sft)
    rows: Rows = {"train": Kept(_rows(chosen)), "validation": Kept([])}
    plan = Plan(chosen.rows, 1, chosen.checkpointing, 0, 0, 0, 0, 0)
    with tempfile.TemporaryDirectory() as scratch:
        parts = Ready(device, training, chosen.method, model, tokenizer, rows, Path(scratch), plan)
        built = trainer.job(parts, lambda common, config: _trainer(chosen.method, common, config))
        running = built.build(Passes(chosen.rows, 1))
        taken: list[float] = []
        running.add_callback(stopwatch(taken))
        running.train()
    return {"mib": float(peak_mib(device)), "seconds": min(taken[1:])}


def stopwatch(taken: list[float], wait: Callable[[], None] | None = None) -> Any:
    """Returns a trainer's callback that adds the seconds of each step. `wait` waits until a GPU has done its work."""
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begun = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if wait is not None:
                wait()
            taken.append(time.perf_counter() - self.begun)

    return Stopwatch()


def _training(chosen: Configuration) -> Training:
    own = {"batch_size": chosen.rows, "max_steps": STEPS, "max_length": chosen.length}
    given = dict(chosen.training)
    shared = dict(given.pop("sft", {}))
    return Training.model_validate({"dtype": "float32", "sft": own | shared, "dpo": own} | given)


def _rows(chosen: Configuration) -> list[dict[str, Any]]:
    scored = int(chosen.scored * chosen.length)
    if chosen.method == "sft":
        # Of unlike length: rows of the same would need no mask.
        lengths = [chosen.length - place % chosen.rows for place in range(STEPS * chosen.rows)]
        ids = [5 + place % 3000 for place in range(chosen.length)]
        labels = [head.IGNORED] * (chosen.length - scored) + ids[chosen.length - scored :]
        return [{"input_ids": ids[:length], "labels": labels[:length]} for length in lengths]
    prompt, answer = [5] * (chosen.length - scored), [6] * scored
    pair = {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": answer[::-1]}
    return [pair | {"ref_chosen_logps": -1.0, "ref_rejected_logps": -1.0} for _ in range(STEPS * chosen.rows)]


def _trainer(method: Method, common: dict[str, Any], config: dict[str, Any]) -> Any:
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.sft_config import SFTConfig

    if method == "sft":
        own = SFTConfig(**config, dataset_kwargs={"skip_prepare_dataset": True})
        return trainer.counting(head.trainer())(**common, args=own)
    return trainer.counting(preference.trainer())(**common, args=DPOConfig(**config, precompute_ref_log_probs=True))


def _folder(name: str, scratch: Path) -> Path:
    """Returns the folder of a model; one of random weights is written first."""
    if name not in SHAPES:
        return models.locate(from_environment(), BaseModelSource(name=name))
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = scratch / name
    torch.manual_seed(7)
    config = AutoConfig.for_model(name, **SHAPES[name], max_position_embeddings=4096)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    AutoTokenizer.from_pretrained(ROOT / "models" / "tiny").save_pretrained(folder)
    return folder


def table(device: Device) -> str:
    """Returns the measurement as a Markdown table."""
    lines = [
        "| training | expected MiB | measured | difference | expected s a step | measured |",
        "|---|---|---|---|---|---|",
    ]
    environment = {**os.environ, **sandbox.computing(os.environ)}
    with tempfile.TemporaryDirectory() as scratch:
        for number, chosen in enumerate(CONFIGURATIONS):
            folder = _folder(chosen.model, Path(scratch))
            results = []
            for what in ("expected", "measured"):
                command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", what, str(number), str(folder)]
                done = subprocess.run(
                    [*command, device], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
                )
                results.append(json.loads(done.stdout.splitlines()[-1]))
            before, after = results
            cells = [f"{before['mib']:,.0f}", f"{after['mib']:,.0f}", f"{before['mib'] / after['mib'] - 1:+.0%}"]
            cells += [f"{before['seconds']:.2f}", f"{after['seconds']:.2f}"]
            lines.append(f"| {chosen.title} | {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)  # noqa: T201
    return "\n".join(lines)


def main() -> None:
    """Prints the table, or as JSON one part of one line of it."""
    if len(sys.argv) == 1:
        print(table(models.device("auto")))  # noqa: T201
        return
    what, number, folder, device = sys.argv[1:]
    part = {"expected": expected, "measured": measured}[what]
    print(json.dumps(part(CONFIGURATIONS[int(number)], Path(folder), device)))  # type: ignore[arg-type]  # noqa: T201


if __name__ == "__main__":
    main()
