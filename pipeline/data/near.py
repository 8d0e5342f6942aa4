"""Near duplicates: rows that say almost the same. Candidates by MinHash (rensa), each pair verified by its sets.

Two rows are near where the Jaccard similarity of their runs of three words is at least THRESHOLD.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from pipeline.data.layouts import Content
from pipeline.data.splits import normalised, question

THRESHOLD = 0.8
_WORDS = 3  # of a run
# Pairs at the threshold that no band brings together: fewer than one in ten million.
_SLOTS, _BANDS = 128, 32
_SEED = 20261126
_LIKELY = 0.6  # estimated similarity from which a pair is verified: five standard errors below the threshold
_BATCH = 1_000


def text(content: Content) -> str:
    """Returns what of a row is compared: what was asked and said in it. Passages that stand before a question are the
    documents', and no part of it."""
    turns = [turn for part in content.values() for turn in part if turn["role"] != "system"]
    return "\n".join(question(turn["content"]) if turn["role"] == "user" else turn["content"] for turn in turns)


def pairs(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the places of near pairs, the earlier one first. Texts without words are near to none."""
    import rensa

    @lru_cache(maxsize=10_000)
    def runs_of(place: int) -> frozenset[str]:
        return runs(texts[place])

    lsh = rensa.RMinHashLSH(threshold=THRESHOLD, num_perm=_SLOTS, num_bands=_BANDS)
    sketches: list[Any] = []
    found = []
    places = iter(range(len(texts)))
    while batch := list(islice(places, _BATCH)):
        sketches += rensa.RMinHash.from_token_sets([list(runs_of(place)) for place in batch], _SLOTS, _SEED)
        for place in batch:
            if not runs_of(place):
                continue
            for other in sorted(lsh.query(sketches[place])):
                if sketches[place].jaccard(sketches[other]) >= _LIKELY:
                    mine, theirs = runs_of(place), runs_of(other)
                    if len(mine & theirs) >= THRESHOLD * len(mine | theirs):
                        found.append((other, place))
            lsh.insert(place, sketches[place])
    return found


def runs(text: str) -> frozenset[str]:
    """Returns the runs of three words of a text; of one with fewer, the words together."""
    words = normalised(text).split()
    if len(words) <= _WORDS:
        return frozenset([" ".join(words)] if words else [])
    return frozenset(map(" ".join, zip(*(words[start:] for start in range(_WORDS)), strict=False)))
