"""Near duplicates among generated texts, beside datasketch: `make bench-near`.

Of every hundred texts two come near to an earlier one: the Jaccard similarity of their runs of three words is .8 to
.95. Two are decoys, at .6 to .75. Every pair that is reported is judged by its sets, so recall and precision are exact.
The peer is MinHashLSH from datasketch, in a virtual environment of its own, over the same sets, with the same threshold
and as many permutations: once with `update`, a run at a time, as its documentation begins; once with `MinHash.bulk`,
its fastest way without a GPU; both with the bands that it chooses, and no pair verified. And once so that it does the
same work as ours: in bulk, with our bands, each pair verified by its sets.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers, processes
from benchmarks.processes import Done
from benchmarks.rows import SEED, Prose
from pipeline.data import near

TEXTS = 100_000
DATASKETCH = "datasketch==2.0.0"
PERMUTATIONS, BANDS = 128, 32  # as near.pairs has them
PEERS = ("update", "bulk", "bulk, our bands, verified")
PLANTED, DECOYS = (0.8, 0.95), (0.6, 0.75)  # Jaccard similarities
_SHARE = 0.02  # of texts that are planted, and as many decoys
_LENGTHS = (60, 140)  # words
_PEER = f"""
import json, sys, time
from itertools import islice
from datasketch import MinHash, MinHashLSH

how, path = sys.argv[1:]
alike = how.endswith("verified")
with open(path) as file:
    sets = [frozenset(run.encode() for run in json.loads(line)) for line in file]

def sketches():
    if how.startswith("bulk"):
        rest = iter(sets)
        while batch := list(islice(rest, 1_000)):
            yield from MinHash.bulk(batch, num_perm={PERMUTATIONS})
        return
    for runs in sets:
        sketch = MinHash(num_perm={PERMUTATIONS})
        for run in runs:
            sketch.update(run)
        yield sketch

begun, pairs = time.perf_counter(), []
bands = ({BANDS}, {PERMUTATIONS // BANDS}) if alike else None
lsh = MinHashLSH(threshold={near.THRESHOLD}, num_perm={PERMUTATIONS}, params=bands)
for place, sketch in enumerate(sketches()):
    for other in lsh.query(sketch):
        mine, theirs = sets[place], sets[other]
        if not alike or len(mine & theirs) >= {near.THRESHOLD} * len(mine | theirs):
            pairs.append((other, place))
    lsh.insert(place, sketch, check_duplication=False)
print(json.dumps({{"seconds": time.perf_counter() - begun, "pairs": pairs}}))
"""


@dataclass(frozen=True)
class Planted:
    """Generated texts, and which of them are near."""

    texts: list[str]
    near: frozenset[tuple[int, int]]  # places, the earlier first
    decoys: int  # pairs that are similar, and not near


def plant(count: int) -> Planted:
    """Returns texts of which some are near others, and some almost."""
    chance = random.Random(SEED)  # noqa: S311
    prose = Prose(chance)
    words: list[list[str]] = []
    copies: dict[int, int] = {}
    for place in range(count):
        share = chance.random()
        if place and share < 2 * _SHARE:
            # The copy of a copy would be less similar to the first text than was planned.
            drawn_from = chance.randrange(place)
            original = copies.get(drawn_from, drawn_from)
            copies[place] = original
            words.append(
                _similar(words[original], chance.uniform(*(PLANTED if share < _SHARE else DECOYS)), prose, chance)
            )
        else:
            words.append(prose.draw(chance.randint(*_LENGTHS)))
    texts = [" ".join(each) for each in words]
    groups: dict[int, list[int]] = {}
    for place, original in copies.items():
        groups.setdefault(original, [original]).append(place)
    pairs = [(one, other) for group in groups.values() for other in group for one in group if one < other]
    close = frozenset(pair for pair in pairs if similarity(texts[pair[0]], texts[pair[1]]) >= near.THRESHOLD)
    return Planted(texts, close, len(pairs) - len(close))


def _similar(words: list[str], wanted: float, prose: Prose, chance: random.Random) -> list[str]:
    """Returns words whose runs of three have about this Jaccard similarity to those of `words`: a word that is another
    changes three runs, where its neighbours stay."""
    runs = len(words) - 2
    changes = round(runs * (1 - wanted) / (1 + wanted) / 3)
    changed = [*words]
    for place in chance.sample(range(2, len(words) - 2, 3), k=max(1, changes)):
        changed[place] = prose.other(words[place])
    return changed


def similarity(one: str, other: str) -> float:
    """Returns the Jaccard similarity of two texts' runs."""
    mine, theirs = near.runs(one), near.runs(other)
    return len(mine & theirs) / len(mine | theirs)


@dataclass(frozen=True)
class Judged:
    """What was reported, held against what is near."""

    recall: float
    precision: float

    @classmethod
    def of(cls, planted: Planted, reported: Iterable[tuple[int, int]]) -> "Judged":
        """Returns recall and precision of pairs."""
        pairs = {(min(pair), max(pair)) for pair in reported}
        # Pairs that nobody planted may be near all the same.
        true = {
            pair
            for pair in pairs
            if pair in planted.near or similarity(planted.texts[pair[0]], planted.texts[pair[1]]) >= near.THRESHOLD
        }
        known = planted.near | true
        return cls(len(true) / len(known) if known else 1.0, len(true) / len(pairs) if pairs else 1.0)


def ours(path: Path) -> dict[str, object]:
    """Returns the seconds of all, of making the sets alone, and the pairs of the texts of a file."""
    texts: list[str] = json.loads(path.read_text())
    begun = time.perf_counter()
    pairs = near.among(texts)
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    for text in texts:
        near.runs(text)
    return {"seconds": seconds, "sets": time.perf_counter() - begun, "pairs": pairs}


def table(folder: Path, count: int) -> str:
    """Returns the measurement as a Markdown table; its files are written below the folder."""
    planted = plant(count)
    texts, sets = folder / "texts.json", folder / "sets.jsonl"
    texts.write_text(json.dumps(planted.texts))
    with sets.open("w") as file:
        for text in planted.texts:
            file.write(f"{json.dumps(sorted(near.runs(text)))}\n")
    own = processes.run([sys.executable, "-m", "benchmarks.near", "--file", str(texts)])
    answer = json.loads(own.output)
    making = answer["sets"]
    lines = [
        f"| {count:,} texts, {len(planted.near):,} near pairs, {planted.decoys:,} decoys | seconds | of it sets | MB |"
        " recall | precision | ratio |",
        "|---" * 7 + "|",
        _line("Nightshift", planted, own, answer["seconds"], making, answer["seconds"]),
    ]
    try:
        programs = peers.environment(folder / "datasketch", DATASKETCH)
    except peers.Missing as missing:
        return "\n".join([*lines, f"\nWithout its peer: {missing}"])
    for how in PEERS:
        done = processes.run([str(programs / "python"), "-c", _PEER, how, str(sets)], folder=folder)
        seconds = json.loads(done.output)["seconds"] + making
        lines.append(_line(f"{DATASKETCH}, {how}", planted, done, seconds, making, answer["seconds"]))
    return "\n".join(lines)


def _line(name: str, planted: Planted, done: Done, seconds: float, sets: float, own: float) -> str:
    """Returns a line of the table. The peer is given its sets: the seconds that they take us are added to its own."""
    judged = Judged.of(planted, [(one, other) for one, other in json.loads(done.output)["pairs"]])
    cells = (
        name,
        f"{seconds:.1f}",
        f"{sets:.1f}",
        f"{done.cost.megabytes:,.0f}",
        f"{judged.recall:.4f}",
        f"{judged.precision:.4f}",
        f"{seconds / own:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; with `--file`, what is measured in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=TEXTS, help="texts")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.file:
        print(json.dumps(ours(chosen.file)))  # noqa: T201
        return
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder:
        print(table(Path(folder), chosen.rows))  # noqa: T201


if __name__ == "__main__":
    main()
