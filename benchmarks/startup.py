"""What a training task costs beside its training and its imports: `make bench-startup`.

One step of SFT on models/tiny, through the training process as a night calls it: a login, the rows, the model, the
step, its evaluation, its adapter on record. Beside it a process that imports the same libraries and ends. An embedded
Postgres and a use case of its own are made first.
"""

import logging
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import stage
from benchmarks.processes import run as process
from pipeline import training, usecase
from pipeline.context import Context
from pipeline.settings import ROOT
from pipeline.steps import Origin

TIMES = 3
LIBRARIES = "import torch, transformers, peft, datasets; from trl.trainer.sft_trainer import SFTTrainer"


def keys() -> dict[str, object]:
    """Returns the keys of the use case: 200 rows of usecases/tiny, and one step."""
    sample = ROOT / "usecases" / "tiny"
    return {
        "documents": [{"path": str(sample / "documents")}],
        "examples": [{"path": str(sample / "examples" / "sft.jsonl"), "kind": "sft"}],
        "training": {"dtype": "float32", "sft": {"max_steps": 1, "max_tokens": 20_000}, "dpo": {"enabled": False}},
    }


def table() -> str:
    """Returns the measurement as a Markdown table."""
    with tempfile.TemporaryDirectory() as folder, stage.installation(Path(folder)) as installed:
        installed.write_usecase("startup", keys())
        stage.night(installed, "startup", "startup")
        context = Context(
            installed.settings, usecase.find(installed.settings, "startup"), Origin("cli", "benchmark"), "never"
        )
        prepared = training.preflight(context)
        lines = ["| | imports, s | the task, s | of it training | beside both |", "|---|---|---|---|---|"]
        for number in range(1, TIMES + 1):
            imports = process([sys.executable, "-W", "ignore", "-c", LIBRARIES]).cost.seconds
            begun = time.perf_counter()
            tuned = training.sft(context, prepared)
            whole = time.perf_counter() - begun
            assert tuned.facts.training is not None
            trained = tuned.facts.training.seconds
            cells = [f"{imports:.1f}", f"{whole:.1f}", f"{trained:.1f}", f"{whole - trained - imports:.1f}"]
            lines.append(f"| run {number} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    print(table())  # noqa: T201
