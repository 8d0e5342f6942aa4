"""Training on one GPU: `python -m benchmarks.train_gpu` prints one table, with versions, in under eight minutes.

Random weights of real models' shapes, trained as the night trains them: packs of 4,096 tokens, TRL's own head. The
utilisation is that of the model's operations, without what is computed twice, as a share of what a product of two
matrices of 8,192 by 8,192 in bfloat16 reaches on the same card in the same run. `--smoke` is the same program with
shapes that a CPU trains in a minute.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.memory import stopwatch
from pipeline import models
from pipeline.models import Device
from pipeline.settings import ROOT
from pipeline.training import head, packing, preference, recipe, trainer
from pipeline.training.job import Passes
from pipeline.training.observer import peak_mib
from pipeline.training.recipe import Method
from pipeline.training.records import Plan
from pipeline.training.rows import Kept
from pipeline.training.trainer import Ready, Rows
from pipeline.usecase import Training

STEPS, WARM = 7, 3  # of which the first are not measured
LENGTH, SMOKE_LENGTH = 4096, 256
SUPERVISED = 0.2  # share of a row's tokens
SIDE, SMOKE_SIDE = 8192, 512
_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes")


def _shape(hidden: int, inner: int, layers: int, heads: int, kv_heads: int, words: int, **more: Any) -> dict[str, Any]:
    own = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    return own | {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": words, **more}


# As the models' own configurations have them.
_LLAMA_8B = _shape(4096, 14336, 32, 32, 8, 128256, rope_theta=500000.0)
_QWEN_HALF_B = _shape(896, 4864, 24, 14, 2, 151936, tie_word_embeddings=True)
_SMALL = _shape(64, 160, 2, 4, 2, 3072)
SHAPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "Llama-3.1-8B": ("llama", _LLAMA_8B),
    "Qwen2.5-0.5B": ("qwen2", _QWEN_HALF_B),
}


@dataclass(frozen=True)
class Run:
    """One line of the table."""

    title: str
    shape: str
    method: Method
    rows: int  # packs, or pairs, in a pass
    accumulation: int
    checkpointing: bool
    quantize: str = "none"


RUNS = (
    Run("LoRA, packs", "Llama-3.1-8B", "sft", 2, 2, checkpointing=True),
    Run("LoRA, packs, activations kept", "Llama-3.1-8B", "sft", 1, 4, checkpointing=False),
    Run("QLoRA, packs", "Llama-3.1-8B", "sft", 2, 2, checkpointing=True, quantize="nf4"),
    Run("LoRA, pairs", "Llama-3.1-8B", "dpo", 1, 4, checkpointing=True),
    Run("LoRA, packs", "Qwen2.5-0.5B", "sft", 8, 1, checkpointing=True),
    Run("LoRA, packs, activations kept", "Qwen2.5-0.5B", "sft", 4, 2, checkpointing=False),
)


def measure(run: Run, device: Device, smoke: bool) -> dict[str, float]:
    """Returns tokens a second, the model's operations a second and the peak of memory in MiB."""
    import torch

    length = SMOKE_LENGTH if smoke else LENGTH
    own = {"batch_size": run.rows, "gradient_accumulation": run.accumulation, "max_steps": STEPS, "max_length": length}
    dtype = "float32" if smoke else "bfloat16"
    training = Training.model_validate(
        {"dtype": dtype, "quantize": run.quantize, "sft": {**own, "packing": True}, "dpo": own}
    )
    with tempfile.TemporaryDirectory() as scratch:
        model, tokenizer = _model(run, training, device, smoke, Path(scratch))
        rows: Rows = {"train": _rows(run, length), "validation": Kept([])}
        plan = Plan(run.rows, run.accumulation, run.checkpointing, 0, 0, 0, 0, 0)
        parts = Ready(device, training, run.method, model, tokenizer, rows, Path(scratch), plan)
        job = trainer.job(parts, lambda common, config: _trainer(run.method, common, config, tokenizer))
        built = job.build(Passes(run.rows, run.accumulation))
        taken: list[float] = []
        built.add_callback(stopwatch(taken, torch.cuda.synchronize if device == "cuda" else None))
        built.train()
    seconds = sum(taken[WARM:])
    tokens = built.tokens / STEPS * (STEPS - WARM)
    return {
        "tokens": tokens / seconds,
        "flops": tokens * _flops_per_token(model, rows["train"], run.method) / seconds,
        "mib": float(peak_mib(device)),
    }


def _model(run: Run, training: Training, device: Device, smoke: bool, scratch: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    family, shape = SHAPES[run.shape]
    torch.manual_seed(7)
    config = AutoConfig.for_model(family, **(_SMALL if smoke else shape), max_position_embeddings=8192)
    dtype = getattr(torch, training.dtype)
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "tiny")
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    if training.quantize == "nf4":  # from a file, as any model is quantised
        model.save_pretrained(scratch / "base")
        tokenizer.save_pretrained(scratch / "base")
        del model
        model, tokenizer = models.load(
            scratch / "base", device=device, dtype="bfloat16", quantize="nf4", trainable=True
        )
    return recipe.with_adapter(model, training.sft), tokenizer


def _rows(run: Run, length: int) -> Kept:
    """Returns rows for all steps: packs of documents of unlike length, or pairs."""
    generator = random.Random(7)  # noqa: S311  it is to be drawn the same again
    count = STEPS * run.rows * run.accumulation
    if run.method == "dpo":
        prompt, answer = [5] * int(0.6 * length / 2), [6] * int(0.4 * length / 2)
        pair = {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": answer[::-1]}
        return Kept([pair | {"ref_chosen_logps": -1.0, "ref_rejected_logps": -1.0} for _ in range(count)])
    rows = []
    for _ in range(count):
        lengths: list[int] = []
        while sum(lengths) < length:
            lengths.append(min(generator.randint(length // 16, length // 4), length - sum(lengths)))
        ids, labels = [], []
        for one in lengths:
            own = [generator.randrange(5, 3000) for _ in range(one)]
            scored = max(int(SUPERVISED * one), 1)
            ids += own
            labels += [head.IGNORED] * (one - scored) + own[one - scored :]
        rows.append({"input_ids": ids, "labels": labels, "seq_lengths": lengths})
    return Kept(rows)


def _trainer(method: Method, common: dict[str, Any], config: dict[str, Any], tokenizer: Any) -> Any:
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.sft_config import SFTConfig

    if method == "dpo":
        return trainer.counting(preference.trainer())(**common, args=DPOConfig(**config, precompute_ref_log_probs=True))
    own = SFTConfig(**config, dataset_kwargs={"skip_prepare_dataset": True})
    return trainer.counting(head.trainer())(**common, args=own, data_collator=packing.collator(tokenizer))


def _flops_per_token(model: Any, kept: Kept, method: Method) -> float:
    """Returns the floating-point operations of LoRA training per token, without what is computed twice: 4 per weight of
    a linear layer, 6 per weight of the adapter, 4 of the output layer for what is scored, and attention."""
    import torch

    config = model.config.get_text_config()
    adapter = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    shape = {name: getattr(config, name) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")}
    inner = shape["num_hidden_layers"] * shape["hidden_size"]
    linear = 0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lora" not in name and "lm_head" not in name:
            linear += module.in_features * module.out_features
    if method == "dpo":
        lengths, scored = [recipe.length(row) for row in kept.rows], 0.4
    else:
        lengths, scored = [one for row in kept.rows for one in row["seq_lengths"]], SUPERVISED
    seen = sum(one * one for one in lengths) / sum(lengths)
    output = 4 * config.vocab_size * config.hidden_size * scored
    return float(4 * linear + output + 6 * inner * seen + 6 * adapter)


def product_rate(device: Device, side: int) -> float:
    """Returns the floating-point operations a second of a product of two square matrices in bfloat16."""
    import torch

    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    taken = []
    for _ in range(12):
        if device == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        one @ one
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begun)
    return float(2 * side**3 / min(taken))


def table(device: Device, smoke: bool) -> str:
    """Returns the measurement as a Markdown table under a line that says where it was made."""
    rate = product_rate(device, SMOKE_SIDE if smoke else SIDE)
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "trl", "peft", "bitsandbytes")
    )
    lines = [f"{_card(device)}; {libraries}; a bfloat16 product reaches {rate / 1e12:.1f} TFLOP/s.", ""]
    lines += [
        "| model | training | tokens/s | TFLOP/s | share of the product | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    for number, run in enumerate(RUNS):
        if run.quantize == "nf4" and smoke:
            continue
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.train_gpu", "--run", str(number)]
        done = subprocess.run(
            [*command, *(["--smoke"] if smoke else [])], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:  # a card may be too small for one line of the table
            lines.append(f"| {run.shape} | {run.title} | failed, see above | | | |")
            continue
        taken = json.loads(done.stdout.splitlines()[-1])
        cells = [f"{taken['tokens']:,.0f}", f"{taken['flops'] / 1e12:.1f}", f"{taken['flops'] / rate:.0%}"]
        lines.append(f"| {run.shape} | {run.title} | {' | '.join(cells)} | {taken['mib']:,.0f} |")
    return "\n".join(lines)


def _card(device: Device) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "CPU, small shapes: these figures say nothing"


def main() -> None:
    """Prints the table, or as JSON one line of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="small shapes, on a CPU")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    device = models.device("cpu" if given.smoke else "cuda")
    if given.run is None:
        print(table(device, given.smoke))  # noqa: T201
    else:
        print(json.dumps(measure(RUNS[given.run], device, given.smoke)))  # noqa: T201


if __name__ == "__main__":
    main()
