"""Splits. Rows that ask the same share a split, and it is fixed when the question is first seen: nothing that is added
later moves a row, so that no test row was ever trained on."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pipeline import canonical, prompt
from pipeline.data import layouts
from pipeline.data.components import components
from pipeline.data.layouts import Content
from pipeline.data.normal import normal
from pipeline.usecase import Splits

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ANY: frozenset[Split] = frozenset(SPLITS)
_ORDER: tuple[Split, ...] = ("test", "validation", "train")  # in which shares follow each other
_WORDS = re.compile(r"[\W_]+")
_SCALE = 1 << 64


def group(content: Content) -> str:
    """Returns the digest of the group that a row belongs to: its first question, normalised.

    It counts alike for supervised and preference rows, and whichever passages stand before the question. The first
    question alone, since a longer conversation repeats the shorter one that it goes on from. Of a text, the text.
    """
    return canonical.digest_text(normalised(next(iter(questions(content)), "")))


def questions(content: Content) -> list[str]:
    """Returns what a row asks, without the passages that stand before it; of a text, the text."""
    (name, *_), first = content, layouts.parts(content)[0]
    if name == "text":
        return [turn["content"] for turn in first]
    return [question(turn["content"]) for turn in first if turn["role"] == "user"]


def key_group(key: str) -> str:
    """Returns the digest of the group that all rows with a value belong to, `field=value`."""
    return canonical.digest({"key": key})


def straddling(
    linked: Iterable[tuple[str, str]], keyed: Iterable[tuple[str, str]], fixed: Mapping[str, Split]
) -> set[str]:
    """Returns the groups outside the test split that a group of the test split says the same as, or shares a key with.

    `linked` are pairs of groups that say the same, `keyed` pairs of a group and the group of a key.
    """
    tested: set[str] = {name for name, split in fixed.items() if split == "test"}
    touched = {key for name, key in keyed if name in tested}
    beside = {name for pair in linked for name in pair if not tested.isdisjoint(pair)}
    beside |= {name for name, key in keyed if key in touched}
    return {name for name in beside if fixed.get(name, "test") != "test"}


@lru_cache(maxsize=128)  # a row's question is compared in several ways, one after another
def normalised(text: str) -> str:
    """Returns a text without what may differ between two writings of it: case, width, blanks and punctuation."""
    plain = unicodedata.normalize("NFKC", normal(text)).casefold()
    return _WORDS.sub(" ", plain).strip() or plain.strip()


def assign(group_digest: str, shares: Splits, allowed: frozenset[Split] = ANY) -> Split:
    """Returns the split of a group that was never seen before: one of those that are allowed, in proportion to their
    shares, by its digest and the use case's salt, so that it depends on nothing else."""
    chosen = [split for split in _ORDER if split in allowed]
    whole = 1.0 if allowed == ANY else sum(shares.shares[split] for split in chosen)
    salted = canonical.digest_text(f"{shares.salt}\n{group_digest}") if shares.salt else group_digest
    place = int(salted[:16], 16) / _SCALE * whole
    for split in chosen[:-1]:
        place -= shares.shares[split]
        if place < 0:
            return split
    return chosen[-1]


def allowed(uses: Collection[str]) -> frozenset[Split]:
    """Returns the splits that a row may stand in, by what it may be used for."""
    trained: frozenset[Split] = frozenset(("train", "validation")) if "train" in uses else frozenset()
    return trained | (frozenset(("test",)) if "evaluate" in uses else frozenset())


@dataclass(frozen=True)
class Settled:
    """The splits of groups."""

    splits: Mapping[str, Split]  # of all that have one
    fresh: Mapping[str, Split]  # of these: those of groups that had none
    bridging: frozenset[str]  # groups without one, since they link groups of different splits


def settle(
    groups: Iterable[str],
    linked: Iterable[tuple[str, str]],
    fixed: Mapping[str, Split],
    shares: Splits,
    fitting: Mapping[str, frozenset[Split]] | None = None,
) -> Settled:
    """Returns the splits of groups, of which those that are linked share one. `fitting` are the splits that a group
    may have, where these are not all: linked groups get one that fits each of them, where there is one.

    A group that has a split keeps it. A new one takes that of the groups it is linked to, over others too; where these
    have different ones, it has none: whoever was trained on it would have seen the test.
    """
    names = sorted(set(groups))
    place = {name: number for number, name in enumerate(names)}
    first = components(len(names), ((place[one], place[other]) for one, other in linked))
    known: dict[int, set[Split]] = defaultdict(set)
    common: dict[int, frozenset[Split]] = defaultdict(lambda: ANY)
    for name in names:
        if name in fixed:
            known[first[place[name]]].add(fixed[name])
        if fitting is not None and name in fitting:
            common[first[place[name]]] &= fitting[name]
    fresh: dict[str, Split] = {}
    bridging = set()
    for name in names:
        if name in fixed:
            continue
        root = first[place[name]]
        if len(known[root]) > 1:
            bridging.add(name)
        else:
            # The first of a component has the smallest digest of it.
            fresh[name] = min(known[root]) if known[root] else assign(names[root], shares, common[root] or ANY)
    return Settled({**{name: fixed[name] for name in names if name in fixed}, **fresh}, fresh, frozenset(bridging))


def question(text: str) -> str:
    """Returns what follows the mark of a question, where a prompt has passages before it; the whole without a mark."""
    return f"\n{text}".rpartition(f"\n{prompt.QUESTION} ")[2].removeprefix("\n")
