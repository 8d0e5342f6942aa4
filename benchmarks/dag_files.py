"""Parsing all DAG files, beside importing airflow.sdk alone: Airflow parses them again and again, day and night."""

import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 7
_PROBE = """
import sys, time, runpy
begun = time.perf_counter()
import airflow.sdk
sdk = time.perf_counter() - begun
sys.path.insert(0, "dags")
begun = time.perf_counter()
for name in sys.argv[1:]:
    runpy.run_path(name)
print(sdk, time.perf_counter() - begun)
"""


def measure() -> tuple[list[float], list[float]]:
    """Returns the seconds of importing airflow.sdk and of parsing all DAG files after it, one of each per run."""
    files = sorted(str(path) for path in (ROOT / "dags").glob("*.py"))
    sdk, parsing = [], []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, *files], cwd=ROOT, capture_output=True, text=True, check=True
        )
        first, second = done.stdout.split()[-2:]
        sdk.append(float(first))
        parsing.append(float(second))
    return sdk, parsing


def table() -> str:
    """Returns the measurement as a Markdown table: medians, and their ratio."""
    sdk, parsing = measure()
    rows = ["| what | median | min | max |", "|---|---|---|---|"]
    for name, seconds in (("import airflow.sdk", sdk), ("parse all DAG files after it", parsing)):
        middle = statistics.median(seconds)
        rows.append(f"| {name} | {middle:.2f} s | {min(seconds):.2f} s | {max(seconds):.2f} s |")
    rows.append(f"| ratio, {RUNS} runs | {statistics.median(parsing) / statistics.median(sdk):.2f} | | |")
    return "\n".join(rows)
