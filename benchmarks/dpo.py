"""What keeping the reference's log-probabilities saves: `make bench-dpo`.

Three epochs of preference tuning over the same pairs in equal batches, each variant in a process of its own. The peer
is TRL's DPOTrainer that asks the reference in each step. "values kept" is the same loss with what reference.py computes
once, and reads the second time; "ours" scores the answers' positions alone besides.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import models
from pipeline.chat import Chat
from pipeline.settings import ROOT, from_environment
from pipeline.training import head, preference, recipe, reference, rows
from pipeline.training.observer import peak_mib
from pipeline.usecase import BaseModelSource, SftRecipe

EPOCHS = 3


@dataclass(frozen=True)
class Given:
    """What is tuned on what."""

    model: str
    use_case: str
    pairs: int
    batch: int
    longest: int  # tokens of a pair's longer side


GIVEN: Mapping[str, Given] = {
    "tiny": Given("tiny", "tiny", 48, 8, 1024),
    "SmolLM2": Given("smollm2-135m-instruct", "compliance", 6, 1, 512),
}
VARIANTS = ("TRL, reference in each step", "TRL's loss, values kept", "ours, values kept")


def measure(title: str, variant: str) -> dict[str, Any]:
    """Returns the seconds of the first and the second run, what the reference's values took of the first, the mean loss
    of the last epoch, and the peak memory in MiB."""
    given = GIVEN[title]
    pairs, model, tokenizer = _loaded(given)
    seconds: dict[str, float] = {"reference": 0.0}
    known: reference.Values = {}
    if variant != VARIANTS[0]:
        begun = time.perf_counter()
        keys = [str(place) for place in range(len(pairs))]
        known = reference.complete(model, tokenizer, pairs, keys, {}, "cpu")
        seconds["reference"] = time.perf_counter() - begun
        for pair, name in zip(pairs, keys, strict=True):
            pair["ref_chosen_logps"], pair["ref_rejected_logps"] = known[name]
    trainer = _trainer(variant, given, pairs, model, tokenizer)
    begun = time.perf_counter()
    trainer.train()
    seconds["training"] = time.perf_counter() - begun
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    last = losses[-len(losses) // EPOCHS :]
    return {**seconds, "loss": sum(last) / len(last), "mib": peak_mib("cpu")}


def _loaded(given: Given) -> tuple[list[dict[str, Any]], Any, Any]:
    folder = models.locate(from_environment(), BaseModelSource(name=given.model))
    model, tokenizer = models.load(folder, trainable=True)
    lines = (ROOT / "usecases" / given.use_case / "examples" / "preferences.jsonl").read_text().splitlines()
    kept = rows.preferences([_content(json.loads(line)) for line in lines], Chat(tokenizer), given.longest)
    whole = [row for row in kept.rows if recipe.length(row) < given.longest]
    return whole[: given.pairs], recipe.with_adapter(model, SftRecipe()), tokenizer


def _content(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a pair's prompt and answers as lists of messages."""

    def spoken(side: str, role: str) -> Any:
        return [{"role": role, "content": row[side]}] if isinstance(row[side], str) else row[side]

    return {
        side: spoken(side, "user" if side == "prompt" else "assistant") for side in ("prompt", "chosen", "rejected")
    }


def _trainer(variant: str, given: Given, pairs: list[dict[str, Any]], model: Any, tokenizer: Any) -> Any:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig

    if variant != VARIANTS[2]:
        head.scores_itself = lambda *_: False
    config = DPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        bf16=False,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=given.batch,
        gradient_checkpointing=False,
        learning_rate=5e-5,
        max_length=given.longest,
        precompute_ref_log_probs=variant != VARIANTS[0],
        seed=7,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
    )
    return preference.trainer()(
        model=model, args=config, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer
    )


def table() -> str:
    """Returns the measurement as a Markdown table."""
    header = "| pairs, batch, 3 epochs | first run, s | of it reference | second run, s | loss | MiB | first, second |"
    lines = [header, "|---|---|---|---|---|---|---|"]
    for title, given in GIVEN.items():
        peer = 0.0
        for variant in VARIANTS:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.dpo", title, variant]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            taken = json.loads(done.stdout.splitlines()[-1])
            second = taken["training"]
            first = second + taken["reference"]
            peer = peer or first
            cells = [f"{title}, {given.pairs}, {given.batch}: {variant}", f"{first:.1f}", f"{taken['reference']:.1f}"]
            cells += [f"{second:.1f}", f"{taken['loss']:.4f}", f"{taken['mib']:,}"]
            lines.append(f"| {' | '.join(cells)} | {peer / first:.2f}x, {peer / second:.2f}x |")
            print(lines[-1], file=sys.stderr, flush=True)  # noqa: T201
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])) if len(sys.argv) > 1 else table())  # noqa: T201
