"""Embedding one question in a process of its own, as `nightshift search` does, beside sentence-transformers."""

import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 5
_OURS = "from pipeline.search.embedder import Embedder; Embedder('cpu').encode(['Who owns the handbook?'])"
_PEER = (
    "from sentence_transformers import SentenceTransformer; from pipeline.search.embedder import model_folder;"
    "SentenceTransformer(str(model_folder()), device='cpu').encode(['Who owns the handbook?'])"
)
_TIMED = "\nimport time; print(time.process_time())"


def _seconds(code: str) -> list[float]:
    """Returns the processor seconds of each run, all threads together."""
    seconds = []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code + _TIMED], cwd=ROOT, capture_output=True, text=True, check=True
        )
        seconds.append(float(done.stdout.split()[-1]))
    return seconds


def table() -> str:
    """Returns the measurement as a Markdown table: medians, and their ratio."""
    ours, peer = _seconds(_OURS), _seconds(_PEER)
    rows = ["| one question, processor time | median | min | max |", "|---|---|---|---|"]
    for name, seconds in (("pipeline.search.embedder", ours), ("sentence-transformers", peer)):
        middle = statistics.median(seconds)
        rows.append(f"| {name} | {middle:.2f} s | {min(seconds):.2f} s | {max(seconds):.2f} s |")
    rows.append(f"| ratio, {RUNS} runs | {statistics.median(ours) / statistics.median(peer):.2f} | | |")
    return "\n".join(rows)
