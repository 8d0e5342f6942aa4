"""Supervised fine-tuning beside the plain TRL script: `make bench-sft`.

Both train the same LoRA adapter on the same rows, in the same order, with as many rows to a step, each in a process of
its own. The peer is TRL's SFTTrainer as its documentation begins, with prompt and completion, on a CPU, padded, without
gradient checkpointing, which would slow it down. SmolLM2 must be here: `nightshift model pull smollm2-135m-instruct`.
`make bench-sft ALPACA=FILE` adds a file of Alpaca rows.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import models
from pipeline.chat import Chat
from pipeline.settings import ROOT, from_environment
from pipeline.training import head, precision, recipe, rows, sandbox
from pipeline.training.observer import peak_mib
from pipeline.training.order import shuffled
from pipeline.usecase import BaseModelSource, SftRecipe

LENGTH = 1024


@dataclass(frozen=True)
class Given:
    """What is trained on what."""

    model: str
    rows: str  # a use case, "alpaca", or "long": rows of 1,024 tokens, a fifth of them supervised
    step: int  # rows
    steps: int
    passes: int  # rows of ours in a pass
    checkpointing: bool = False  # ours


GIVEN: Mapping[str, Given] = {
    "tiny, usecases/tiny": Given("tiny", "tiny", 8, 10, 8),
    "SmolLM2, usecases/compliance": Given("smollm2-135m-instruct", "compliance", 8, 3, 2),
    "SmolLM2, Alpaca": Given("smollm2-135m-instruct", "alpaca", 8, 4, 4),
    "SmolLM2, 1,024 tokens": Given("smollm2-135m-instruct", "long", 8, 1, 1),
    "SmolLM2, 1,024 tokens, activations twice": Given("smollm2-135m-instruct", "long", 8, 1, 2, checkpointing=True),
}
WHO = ("Nightshift", "TRL")


def measure(title: str, who: str) -> dict[str, Any]:
    """Returns what one side took: supervised and all tokens, seconds of the steps, the mean loss, the peak in MiB."""
    from datasets import Dataset

    given = GIVEN[title]
    folder = models.locate(from_environment(), BaseModelSource(name=given.model))
    config, _ = models.require_usable(folder)
    dtype = precision.choose(config, "cpu").dtype
    model, tokenizer = models.load(folder, dtype=dtype, trainable=True)
    model = recipe.with_adapter(model, SftRecipe())
    contents = _contents(given, tokenizer)
    kept = rows.supervised(contents, Chat(tokenizer), LENGTH)
    # In the order in which ours are trained: the longest of a step first, which pads the peer least, too.
    lengths = [recipe.length(row) for row in kept.rows]
    order = shuffled(lengths, given.step, grouped=True, seed=7, epoch=0)
    own: dict[str, Any] = {}
    if who == "Nightshift":
        data, own = [kept.rows[place] for place in order], {"dataset_kwargs": {"skip_prepare_dataset": True}}
        batch = given.passes
    else:
        messages = [contents[place]["messages"] for place in order]
        data = [{"prompt": one[:-1], "completion": one[-1:]} for one in messages]
        batch = given.step
    trainer = _trainer(who, given, model, tokenizer, Dataset.from_list(data), batch, dtype, own)
    done = trainer.train()
    return {
        "supervised": kept.supervised,
        "tokens": kept.tokens,
        "seconds": done.metrics["train_runtime"],
        "loss": done.metrics["train_loss"],
        "mib": peak_mib("cpu"),
        "dtype": dtype,
    }


def _trainer(
    who: str, given: Given, model: Any, tokenizer: Any, data: Any, batch: int, dtype: str, own: dict[str, Any]
) -> Any:
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=dtype == "bfloat16",
        max_steps=given.steps,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=given.step // batch,
        gradient_checkpointing=who == "Nightshift" and given.checkpointing,
        max_length=LENGTH,
        seed=7,
        train_sampling_strategy="sequential",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
        **own,
    )
    kind = head.trainer() if who == "Nightshift" else SFTTrainer
    return kind(model=model, args=config, train_dataset=data, processing_class=tokenizer)


def _contents(given: Given, tokenizer: Any) -> list[dict[str, Any]]:
    count = given.step * given.steps
    if given.rows == "long":
        return [_long(tokenizer) for _ in range(count)]
    if given.rows == "alpaca":
        read = json.loads(Path(os.environ["ALPACA"]).read_text())
        spoken = [
            {
                "messages": [
                    _said("user", f"{row['instruction']}\n\n{row['input']}".strip()),
                    _said("assistant", row["output"]),
                ]
            }
            for row in read
            if row["output"]
        ]
        return spoken[:count]
    lines = (ROOT / "usecases" / given.rows / "examples" / "sft.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:count]]


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _long(tokenizer: Any) -> dict[str, Any]:
    """Returns a conversation of nearly 1,024 tokens, a fifth of them the answer's."""
    words = "The bank keeps each file of a closed account for seven years in the archive of the branch. "
    tokens = len(tokenizer(words, add_special_tokens=False)["input_ids"])
    question, answer = words * int(0.78 * LENGTH / tokens), words * int(0.2 * LENGTH / tokens)
    return {"messages": [_said("user", question.strip()), _said("assistant", answer.strip())]}


def table() -> str:
    """Returns the measurement as a Markdown table."""
    header = "| | seconds | tokens/s | supervised/s | loss | peak MiB | ratio |"
    lines = [header, "|---|---|---|---|---|---|---|"]
    for title, given in GIVEN.items():
        if given.rows == "alpaca" and "ALPACA" not in os.environ:
            continue
        taken = {}
        for who in WHO if not given.checkpointing else WHO[:1]:  # beside the peer of the line before
            environment = os.environ | (sandbox.computing(os.environ) if who == "Nightshift" else {})
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sft", title, who]
            done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            taken[who] = one = json.loads(done.stdout.splitlines()[-1])
            cells = [f"{one['seconds']:.0f}"] + [f"{one[key] / one['seconds']:.0f}" for key in ("tokens", "supervised")]
            cells += [f"{one['loss']:.3f}", f"{one['mib']:,}", f"{one['seconds'] / taken[WHO[0]]['seconds']:.1f}"]
            lines.append(f"| {title}: {who}, {one['dtype']} | {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)  # noqa: T201
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])) if len(sys.argv) > 1 else table())  # noqa: T201
