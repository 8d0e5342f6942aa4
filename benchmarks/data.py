"""The check of training rows, each part alone and all together: `make bench-data`.

Rows are generated: sentences of some hundred common words, 600 characters a row in the mean, one in a hundred with an
address, a number or a token in it. Each measurement is a process of its own. The peer of the look for credentials is
detect-secrets' own scan of the same lines, with the same plugins.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROWS, PEER_ROWS = 200_000, 2_000
OFF = dict.fromkeys(
    ("personal_data", "credentials", "other_language", "debris", "mojibake", "repetition", "excuses", "abuse"), "off"
)
VARIANTS: dict[str, dict[str, Any]] = {
    "rules that need no text's parts": OFF,
    "and personal data": {**OFF, "personal_data": "report"},
    "and credentials": {**OFF, "credentials": "report"},
    "and language": {**OFF, "other_language": "report", "languages": ["en"]},
    "and debris, mojibake": {**OFF, "debris": "report", "mojibake": "report"},
    "and repetition, excuses": {**OFF, "repetition": "report", "excuses": "report"},
    "and abuse": {**OFF, "abuse": "report"},
    "all of them": {"languages": ["en"]},
}
_PROSE = (
    "the customer may complain in writing and branch answers within fifteen days where fee was charged twice it is paid"
    " back with interest limit for transfers stands at ten thousand euros unless account is new or someone else asked"
    " officer keeps a record of every decision who took why on what evidence until when card lost abroad blocked at"
    " once report goes to risk committee each quarter if amount exceeds one million or client belongs to another group"
)
WORDS = _PROSE.split()
PLANTED: tuple[Callable[[random.Random], str], ...] = (
    lambda chance: f"Write to {chance.choice(WORDS)}.{chance.choice(WORDS)}@mail.example.org.",
    lambda chance: f"Call +44 20 7946 0{chance.randint(100, 999)}.",
    lambda chance: "The token is ghp_" + "".join(chance.choices("abcdefghijklmnop0123456789", k=36)) + ".",
)


def texts(count: int) -> Iterable[str]:
    """Yields generated texts of 600 characters in the mean, the same ones each time."""
    chance = random.Random(20261126)  # noqa: S311
    for number in range(count):
        words = chance.choices(WORDS, k=chance.randint(40, 185))
        planted = f" {chance.choice(PLANTED)(chance)}" if chance.random() < 0.01 else ""
        yield f"Case {number}: {' '.join(words)}.{planted}"


def write(path: Path, count: int) -> None:
    """Writes a file of examples."""
    with path.open("w") as file:
        for text in texts(count):
            turns = [{"role": "user", "content": text[:120]}, {"role": "assistant", "content": text[120:]}]
            file.write(json.dumps({"messages": turns}) + "\n")


def measure(path: str, variant: str) -> dict[str, float]:
    """Returns rows, seconds of the whole process so far and of the check, and the peak memory in MB."""
    from pipeline.data.filecheck import check_file
    from pipeline.usecase import Checks

    begun = time.perf_counter()
    found = check_file(Path(path), "sft", checks=Checks.model_validate(VARIANTS[variant]))
    seconds = time.perf_counter() - begun
    return {
        "rows": found.rows,
        "rejected": len(found.rejected),
        "seconds": seconds,
        "fixed": time.process_time() - seconds,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "heavy": float(any(name in sys.modules for name in ("great_expectations", "torch", "spacy", "pandas"))),
    }


def peer(path: str) -> dict[str, float]:
    """Returns how many rows detect-secrets scans a second, and how many rows it and we find something in."""
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import transient_settings

    from pipeline.data import credentials

    names = [{"name": name} for _, name in credentials.PLUGINS]
    texts = [
        "\n".join(turn["content"] for turn in json.loads(line)["messages"])
        for line in Path(path).read_text().splitlines()
    ]
    with transient_settings({"plugins_used": names}):
        begun = time.perf_counter()
        theirs = [any(True for line in text.splitlines() for _ in scan_line(line)) for text in texts]
        scanned = time.perf_counter()
    ours = [bool(credentials.kinds(text)) for text in texts]
    return {
        "theirs": len(texts) / (scanned - begun),
        "ours": len(texts) / (time.perf_counter() - scanned),
        "found by both": sum(map(all, zip(ours, theirs, strict=True))),
        "by them alone": sum(them and not us for us, them in zip(ours, theirs, strict=True)),
    }


def aside(*arguments: str) -> dict[str, float]:
    """Returns what this module measures in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.data", *arguments]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def table(folder: Path) -> str:
    """Returns the tables of one run; the files are written below the folder."""
    path, one, few = (str(folder / name) for name in ("rows.jsonl", "one.jsonl", "few.jsonl"))
    write(Path(path), ROWS)
    write(Path(one), 1)
    write(Path(few), PEER_ROWS)
    lines = [
        f"| {ROWS:,} rows, {Path(path).stat().st_size / 1e6:.0f} MB | rows/s | MB | rejected |",
        "|---|---|---|---|",
    ]
    for name in VARIANTS:
        found = aside(name, path)
        if found["heavy"]:
            raise RuntimeError("the check of a file imported a heavy library")
        lines.append(
            f"| {name} | {found['rows'] / found['seconds']:,.0f} | {found['mb']:.0f} | {found['rejected']:.0f} |"
        )
    fixed = aside("all of them", one)
    lines += [
        f"\nFixed: {fixed['seconds'] + fixed['fixed']:.2f} s of processor time for one row.",
        f"Credentials beside detect-secrets, {PEER_ROWS:,} rows: {aside('peer', few)}",
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the tables; with a variant and a file, what is measured in this process."""
    if len(sys.argv) > 2:
        answer = peer(sys.argv[2]) if sys.argv[1] == "peer" else measure(sys.argv[2], sys.argv[1])
        print(json.dumps(answer))  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as folder:
        print(table(Path(folder)))  # noqa: T201


if __name__ == "__main__":
    main()
