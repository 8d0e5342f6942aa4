"""Generated training rows, the same ones each time: 600 characters in the mean, over thirty thousand words of which few
are frequent and most are rare, as in any language. One row in a hundred says almost what another says, and one in a
hundred has an address, a telephone number or a token in it."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.data import PLANTED, WORDS

SEED = 20261127
NEAR, HELD, SPOKEN_OF = 0.01, 0.01, 0.005  # shares: of near duplicates, of what checks look for, of documents named
DOCUMENTS = 20  # that rows speak of, by the ids of `document_id`
# Per row of a file: what a night changes, adds and removes, a thousandth of the rows in all.
CHANGED, ADDED, REMOVED = 500e-6, 250e-6, 250e-6
_LENGTHS = (26, 142)  # words of a row
_POOL, _POOLED = 50, 0.005  # rows that others come near to, and the share of rows that become one
_STEMS = (
    "act arm band bill bond book cap card case cash claim clerk code count court credit date deed draft duty farm file"
    " firm form fund gain grant guard hand hold house land law lead lease list loan mail mark meet mint note order pact"
    " part pay plan pledge point port post press price proof quote rank rate rent report rest risk rule sale seal ship"
    " sign stock store sum tax term test title trade trust value vault vote wage ward watch work writ yard year yield"
)
_BEGINNINGS = ("", "a", "be", "by", "de", "en", "in", "mis", "out", "re", "un", "up")
_ENDINGS = (
    " s ed ing er ers or y ly al ty ful less ness ment able ist ism ive ic ish dom age ate ary ance ence ure ize ized"
    " ial ation"
)


def vocabulary() -> list[str]:
    """Returns the words, the most frequent first: common ones, then stems with what can stand before and behind, the
    shorter ones earlier, as frequent words are short."""
    derived = [
        f"{first}{stem}{last}" for first in _BEGINNINGS for stem in _STEMS.split() for last in _ENDINGS.split(" ")
    ]
    random.Random(SEED).shuffle(derived)  # noqa: S311
    return list(dict.fromkeys([*WORDS, *sorted(derived, key=len)]))


class Prose:
    """Draws words by Zipf's law as Mandelbrot has it: the n-th most frequent with a weight of 1 / (n + 2.7)."""

    def __init__(self, chance: random.Random) -> None:
        self.words = vocabulary()
        self._chance = chance
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(1, len(self.words) + 1)))

    def draw(self, count: int) -> list[str]:
        """Returns words."""
        return self._chance.choices(self.words, cum_weights=self._weights, k=count)

    def other(self, word: str) -> str:
        """Returns a word that is another than this one, rare ones as often as frequent ones."""
        return next(other for other in iter(lambda: self._chance.choice(self.words), None) if other != word)

    def close(self, words: list[str]) -> list[str]:
        """Returns words of which one in fifty, one at least, is another."""
        changed = [*words]
        for place in self._chance.sample(range(len(words)), k=1 + len(words) // 50):
            changed[place] = self.other(words[place])
        return changed


def rows(count: int, seed: int = SEED) -> Iterator[dict[str, Any]]:
    """Yields so many examples of a question and its answer."""
    chance = random.Random(seed)  # noqa: S311
    prose = Prose(chance)
    pool: list[list[str]] = []
    for _ in range(count):
        near = bool(pool) and chance.random() < NEAR
        words = prose.close(chance.choice(pool)) if near else prose.draw(chance.randint(*_LENGTHS))
        if not near and chance.random() < _POOLED:
            pool = [*pool[-_POOL + 1 :], words]
        row: dict[str, Any] = {"messages": _turns(words)}
        if chance.random() < HELD:
            row["messages"][1]["content"] += f" {chance.choice(PLANTED)(chance)}"
        if chance.random() < SPOKEN_OF:
            row["documents"] = [document_id(chance.randrange(DOCUMENTS))]
        yield row


def document_id(number: int) -> str:
    """Returns the id of a document that rows speak of."""
    return f"document-{number}"


def write(path: Path, count: int) -> None:
    """Writes a file of examples, one a line."""
    with path.open("w") as file:
        for row in rows(count):
            file.write(f"{json.dumps(row)}\n")


@dataclass(frozen=True)
class Change:
    """How many rows a file was changed by."""

    changed: int
    added: int
    removed: int


def change(path: Path, count: int) -> Change:
    """Returns what was changed in a file of `count` rows, three at least: rows that say more than they did, rows that
    are new and rows that are gone, spread over the file."""
    change = Change(*(max(1, round(count * share)) for share in (CHANGED, ADDED, REMOVED)))
    # Side by side, from places that lie evenly over the file: no row is of two of them.
    changed, removed = _spread(count, change.changed, 0), _spread(count, change.removed, 1)
    added = _spread(count, change.added, 2)
    new = rows(change.added, seed=SEED + 1)
    part = path.with_suffix(".part")
    with path.open() as before, part.open("w") as after:
        for place, line in enumerate(before):
            if place in added:
                after.write(f"{json.dumps(next(new))}\n")
            if place in changed:
                row = json.loads(line)
                row["messages"][1]["content"] += " Since last night another rule is in force."
                after.write(f"{json.dumps(row)}\n")
            elif place not in removed:
                after.write(line)
    part.replace(path)
    return change


def _spread(count: int, wanted: int, offset: int) -> frozenset[int]:
    return frozenset(number * count // wanted + offset for number in range(wanted))


def _turns(words: list[str]) -> list[dict[str, str]]:
    """Returns a question of a fifth of the words, and the sentences that answer it."""
    asking = max(6, len(words) // 5)
    sentences = [words[start : start + 14] for start in range(asking, len(words), 14)]
    question = f"{' '.join(words[:asking]).capitalize()}?"
    answer = " ".join(f"{' '.join(sentence).capitalize()}." for sentence in sentences)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
