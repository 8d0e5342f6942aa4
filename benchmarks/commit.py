"""Fetch, check and commit of generated training rows, the first night and those after it: `make bench-commit`.

Four nights: all rows are new; a thousandth of them changed, came in or went; nothing changed; and a use case of one
row, for what a night costs in any case. Each step is a process of its own, from its start to its end. The peer is the
least that a loader does with the same rows in the same Postgres: parse each, digest it, COPY it into a table with a
primary key. It checks nothing, keeps no version and finds no duplicates.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import processes, rows, stage
from benchmarks.data import OFF
from benchmarks.processes import Cost
from benchmarks.stage import Installation, Night
from pipeline import database

ROWS = 1_000_000
CHECKS: Mapping[str, Mapping[str, Any]] = {"default": {}, "off": OFF, "all": {"languages": ["en"]}}
_COLUMNS = ("seconds", "processor s", "MB", "Postgres s", "Postgres MB", "rows/s", "of the first night")


def prepare(installed: Installation, name: str, count: int, checks: str) -> Path:
    """Returns the file of training rows of a new use case, written, beside the documents that rows speak of."""
    folder = installed.write_usecase(
        name,
        {
            "documents": [{"path": "documents"}],
            "examples": [{"path": "rows.jsonl", "kind": "sft"}],
            "checks": dict(CHECKS[checks]),
        },
    )
    (folder / "documents").mkdir()
    for number in range(rows.DOCUMENTS):
        key = rows.document_id(number)
        text = f"---\nid: {key}\nclassification: internal\ngroups: [staff]\n---\n# Rule {number}\n\nIt is in force.\n"
        (folder / "documents" / f"{key}.md").write_text(text)
    rows.write(folder / "rows.jsonl", count)
    return folder / "rows.jsonl"


def load_plainly(dsn: str, path: Path) -> None:
    """Reads a file of rows into a new table: the peer."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "create table plain_rows (digest text, line bigint, content jsonb not null, primary key (digest, line))"
        )
        with connection.cursor().copy("copy plain_rows from stdin") as copy, path.open("rb") as file:
            for number, line in enumerate(file, 1):
                content = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"))
                copy.write_row((hashlib.sha256(content.encode()).hexdigest(), number, content))


def peer(installed: Installation, folder: Path, path: Path) -> Cost:
    """Returns what a plain loader costs for the rows of a file, in the installation below a folder."""
    command = [sys.executable, "-m", "benchmarks.commit", "--plain", str(folder), str(path)]
    return processes.run(command, postgres=installed.postgres).cost


def table(folder: Path, count: int, checks: str, profiles: Path | None) -> str:
    """Returns the measurement as a Markdown table; its files are written below the folder."""
    with stage.installation(folder, profiles) as installed:
        path = prepare(installed, "many", count, checks)
        size = path.stat().st_size / 1e6
        first = stage.night(installed, "many", "first")
        loaded = peer(installed, folder, path)
        change = rows.change(path, count)
        changed = stage.night(installed, "many", "changed")
        unchanged = stage.night(installed, "many", "unchanged")
        prepare(installed, "one", 1, checks)
        one = stage.night(installed, "one", "one")
    whole = first.whole.seconds
    dataset = first.committed.dataset
    lines = [
        f"| {count:,} rows, {size:,.0f} MB, checks: {checks} | {' | '.join(_COLUMNS)} |",
        "|---" * (len(_COLUMNS) + 1) + "|",
        *_night("first night", first, count, whole),
        *_night(f"{_changes(change)}", changed, count, whole),
        *_night("nothing changed", unchanged, count, whole),
        *_night("one row", one, 1, whole),
        _line("peer: parse, digest, COPY", loaded, count, whole),
        f"\nThe first night took {whole / loaded.seconds:.1f} times as long as the peer. Its version has"
        f" {dataset.rows:,} rows; the next one lost {changed.committed.dataset.removed:,} and gained"
        f" {changed.committed.dataset.added:,}.",
    ]
    return "\n".join(lines)


def _changes(change: rows.Change) -> str:
    return f"{change.changed:,} changed, {change.added:,} added, {change.removed:,} removed"


def _night(name: str, night: Night, count: int, whole: float) -> list[str]:
    steps = [
        _line(f"{name}: {step}{' (reused)' if night.reused[step] else ''}", cost, count, whole)
        for step, cost in night.costs.items()
    ]
    return [*steps, _line(f"**{name}: all**", night.whole, count, whole)]


def _line(name: str, cost: Cost, count: int, whole: float) -> str:
    cells = (
        name,
        f"{cost.seconds:,.1f}",
        f"{cost.processor:,.1f}",
        f"{cost.megabytes:,.0f}",
        f"{cost.postgres_processor:,.1f}",
        f"{cost.postgres_megabytes:,.0f}",
        f"{count / cost.seconds:,.{0 if count > cost.seconds else 2}f}",
        f"{cost.seconds / whole:.3f}",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; with `--plain`, loads a file as the peer does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of the file")
    parser.add_argument("--checks", choices=CHECKS, default="default", help="which checks of texts are on")
    parser.add_argument("--profiles", type=Path, help="a folder for a cProfile of each step; slows everything down")
    parser.add_argument("--plain", nargs=2, metavar=("FOLDER", "FILE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.plain:
        home, path = map(Path, chosen.plain)
        load_plainly(database.superuser_dsn(stage.settings_of(home)), path)
        return
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-", ignore_cleanup_errors=True) as folder:
        print(table(Path(folder), chosen.rows, chosen.checks, chosen.profiles))  # noqa: T201


if __name__ == "__main__":
    main()
