"""Supervised fine-tuning of SmolLM2 on rows of usecases/compliance, beside the plain TRL script: `make bench-sft`.

Both train the same LoRA adapter on the same rows, in the same order, with eight rows to a step, each in a process of
its own. The peer is TRL's SFTTrainer as its documentation begins, with prompt and completion, on a CPU. The model must
be here: `nightshift model pull smollm2-135m-instruct`.
"""

import json
import resource
import subprocess
import sys
import tempfile
from typing import Any

from pipeline import models
from pipeline.chat import Chat
from pipeline.settings import ROOT, from_environment
from pipeline.training import head, rows
from pipeline.usecase import BaseModelSource

ROWS, STEP, STEPS = 32, 8, 4
VARIANTS = {
    "Nightshift, bfloat16": ("ours", True, 1),
    "TRL, bfloat16": ("peer", True, STEP),
    "TRL, float32": ("peer", False, 2),  # fewer rows at once, as float32 takes more memory
}


def measure(name: str) -> dict[str, float]:
    """Returns supervised and all tokens, seconds of the steps, and the peak memory in GiB, of one variant."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    who, bfloat16, batch = VARIANTS[name]
    folder = models.locate(from_environment(), BaseModelSource(name="smollm2-135m-instruct"))
    model, tokenizer = models.load(folder, dtype="bfloat16" if bfloat16 else "float32", trainable=True)
    lines = (ROOT / "usecases" / "compliance" / "examples" / "sft.jsonl").read_text().splitlines()[:ROWS]
    contents = [json.loads(line) for line in lines]
    kept = rows.supervised(contents, Chat(tokenizer), 1024)
    own: dict[str, Any] = {}
    if who == "ours":
        given, own = kept.rows, {"dataset_kwargs": {"skip_prepare_dataset": True}}
    else:
        given = [{"prompt": one["messages"][:-1], "completion": one["messages"][-1:]} for one in contents]
    with tempfile.TemporaryDirectory() as scratch:
        config = SFTConfig(
            output_dir=scratch,
            use_cpu=True,
            bf16=bfloat16,
            max_steps=STEPS,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=STEP // batch,
            gradient_checkpointing=False,
            max_length=1024,
            seed=7,
            report_to="none",
            disable_tqdm=True,
            logging_steps=STEPS,
            save_strategy="no",
            **own,
        )
        trainer = (head.trainer() if who == "ours" else SFTTrainer)(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(given),
            processing_class=tokenizer,
            peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
        )
        done = trainer.train()
    return {
        "supervised": kept.supervised,
        "tokens": kept.tokens,
        "seconds": done.metrics["train_runtime"],
        "loss": done.metrics["train_loss"],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def table() -> str:
    """Returns the measurement as a Markdown table."""
    header = f"| {ROWS} rows, {STEPS} steps | seconds | tokens/s | supervised/s | loss | peak memory | ratio |"
    lines = [header, "|---|---|---|---|---|---|---|"]
    first = 0.0
    for name in VARIANTS:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.sft", name],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        first = first or found["seconds"]
        rates = [f"{found[key] / found['seconds']:.0f}" for key in ("tokens", "supervised")]
        cells = [f"{found['seconds']:.0f}", *rates, f"{found['loss']:.3f}", f"{found['memory']:.1f} GiB"]
        lines.append(f"| {name} | {' | '.join(cells)} | {found['seconds'] / first:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])) if len(sys.argv) > 1 else table())  # noqa: T201
