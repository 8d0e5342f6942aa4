"""Our commit beside DVC, for what both do: take a version of a file of rows, and of a folder of documents, and another
one after a small change: `make bench-dvc`.

DVC hashes and copies files, and knows nothing of what is in them. Fetch, check and commit read every row, hold it
against the rules, and record which rows came and went. DVC runs in a virtual environment of its own, with a cache on
the same disk, without Git and without its analytics; its state begins empty.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import commit, peers, processes, rows, stage
from benchmarks.processes import Cost
from benchmarks.stage import Installation

DVC = "dvc==3.67.1"
MEGABYTES, FILES, FILES_CHANGED = 700, 100_000, 100
_ROW = 687  # bytes of a generated row as JSON, in the mean
_A_FOLDER = 1_000  # documents


@dataclass(frozen=True)
class Peer:
    """DVC, installed, with a repository."""

    program: Path
    repository: Path
    environ: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path) -> "Peer":
        """Returns DVC in a new repository below a folder. Raises peers.Missing where it cannot be installed."""
        program = peers.environment(folder / "dvc", DVC) / "dvc"
        repository = folder / "repository"
        repository.mkdir()
        # Nothing of ours may be imported in its place.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environ = {**inherited, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / "dvc-state")}
        peer = cls(program, repository, environ)
        peer.run("init", "--no-scm", "--quiet")
        peer.run("config", "core.check_update", "false")
        return peer

    def run(self, *arguments: str) -> Cost:
        """Returns what a command of DVC cost."""
        return processes.run([str(self.program), *arguments], environ=self.environ, folder=self.repository).cost


@dataclass(frozen=True)
class Pair:
    """The same work done by both."""

    what: str
    ours: Cost
    theirs: Cost | None


def one_file(installed: Installation, peer: Peer | None, count: int, checks: str) -> list[Pair]:
    """Returns what a file of so many rows costs at first, and after a thousandth of it changed."""
    path = commit.prepare(installed, "file", count, checks)

    def both(title: str, *command: str) -> Pair:
        theirs = None
        if peer is not None:
            shutil.copyfile(path, peer.repository / path.name)
            theirs = peer.run(*command)
        what = f"one file, {count:,} rows, {path.stat().st_size / 1e6:,.0f} MB: {title}"
        return Pair(what, stage.night(installed, "file", f"file-{title}").whole, theirs)

    first = both("first", "add", "--quiet", path.name)
    rows.change(path, count)
    return [first, both("changed", "commit", "--quiet", "--force", f"{path.name}.dvc")]


def write_documents(folder: Path, count: int) -> None:
    """Writes a folder of Markdown files with front matter, a thousand to each folder below it."""
    for number, row in enumerate(rows.rows(count)):
        below = folder / f"{number // _A_FOLDER:03}"
        below.mkdir(parents=True, exist_ok=True)
        title, text = (turn["content"] for turn in row["messages"])
        front = f"id: rule-{number}\ntitle: Rule {number}\nclassification: internal\ngroups: [staff]\nowner: desk"
        (below / f"rule-{number}.md").write_text(f"---\n{front}\n---\n# {title}\n\n{text}\n")


def change_documents(folder: Path, count: int, changed: int) -> None:
    """Adds a sentence to some of the documents of a folder, spread over it."""
    for place in range(changed):
        number = place * count // changed
        with (folder / f"{number // _A_FOLDER:03}" / f"rule-{number}.md").open("a") as file:
            file.write("\nSince last night another rule is in force.\n")


def many_files(installed: Installation, peer: Peer | None, count: int, changed: int) -> list[Pair]:
    """Returns what a folder of so many documents costs at first, and after some of them changed."""
    keys = {"documents": [{"path": "documents"}], "examples": [{"path": "rows.jsonl", "kind": "sft"}]}
    folder = installed.write_usecase("folder", keys)
    rows.write(folder / "rows.jsonl", 1)
    own = folder / "documents"
    write_documents(own, count)
    copies = [] if peer is None else [Path(shutil.copytree(own, peer.repository / "documents"))]

    def both(title: str, what: str) -> Pair:
        theirs = None if peer is None else peer.run("add", "--quiet", "documents")
        return Pair(
            f"{count:,} Markdown files: {what}", stage.night(installed, "folder", f"folder-{title}").whole, theirs
        )

    first = both("first", "first")
    for each in (own, *copies):
        change_documents(each, count, changed)
    return [first, both("changed", f"{changed:,} changed")]


def table(folder: Path, chosen: argparse.Namespace) -> str:
    """Returns the measurement as a Markdown table; its files are written below the folder."""
    try:
        peer, note = Peer.of(folder), ""
    except peers.Missing as missing:
        peer, note = None, f"\nWithout its peer: {missing}"
    with stage.installation(folder, chosen.profiles) as installed:
        pairs: list[Pair] = []
        if chosen.megabytes:
            count = chosen.rows or round(chosen.megabytes * 1e6 / _ROW)
            pairs += one_file(installed, peer, count, chosen.checks)
        if chosen.files:
            pairs += many_files(installed, peer, chosen.files, min(chosen.changed, chosen.files))
    columns = "seconds | processor s | MB | Postgres s | Postgres MB | DVC seconds | DVC MB | ratio"
    lines = [f"| checks: {chosen.checks}; {DVC} | {columns} |", "|---" * 9 + "|", *map(_line, pairs)]
    return "\n".join([*lines, note])


def _line(pair: Pair) -> str:
    ours, theirs = pair.ours, pair.theirs
    cells = [
        pair.what,
        f"{ours.seconds:,.1f}",
        f"{ours.processor:,.1f}",
        f"{ours.megabytes:,.0f}",
        f"{ours.postgres_processor:,.1f}",
        f"{ours.postgres_megabytes:,.0f}",
    ]
    if theirs is None:
        cells += ["", "", ""]
    else:
        cells += [f"{theirs.seconds:,.1f}", f"{theirs.megabytes:,.0f}", f"{ours.seconds / theirs.seconds:.2f}"]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=MEGABYTES, help="of the file; 0: no file")
    parser.add_argument("--rows", type=int, help="of the file, in place of megabytes")
    parser.add_argument("--checks", choices=commit.CHECKS, default="default", help="which checks of texts are on")
    parser.add_argument("--files", type=int, default=FILES, help="in the folder; 0: no folder")
    parser.add_argument("--changed", type=int, default=FILES_CHANGED, help="files that change")
    parser.add_argument("--profiles", type=Path, help="a folder for a cProfile of each step; slows everything down")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-", ignore_cleanup_errors=True) as folder:
        print(table(Path(folder), chosen))  # noqa: T201


if __name__ == "__main__":
    main()
