"""Splits. Rows that ask the same share a split, and it is fixed when the question is first seen: nothing that is added
later moves a row, so that no test row was ever trained on."""

import re
import unicodedata
from typing import Literal

from pipeline import canonical, prompt
from pipeline.data.layouts import Content
from pipeline.data.normal import normal
from pipeline.usecase import Splits

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_WORDS = re.compile(r"[\W_]+")
_SCALE = 1 << 64


def group(content: Content) -> str:
    """Returns the digest of the group that a row belongs to: its first question, normalised.

    It counts alike for supervised and preference rows, and whichever passages stand before the question. The first
    question alone, since a longer conversation repeats the shorter one that it goes on from.
    """
    turns = content["messages"] if "messages" in content else content["prompt"]
    question = next((turn["content"] for turn in turns if turn["role"] == "user"), "")
    return canonical.digest_text(normalised(_question(question)))


def normalised(text: str) -> str:
    """Returns a text without what may differ between two writings of it: case, width, blanks and punctuation."""
    plain = unicodedata.normalize("NFKC", normal(text)).casefold()
    return _WORDS.sub(" ", plain).strip() or plain.strip()


def assign(group_digest: str, shares: Splits) -> Split:
    """Returns the split of a group that was never seen before: by its digest, so that it depends on nothing else."""
    place = int(group_digest[:16], 16) / _SCALE
    if place < shares.test:
        return "test"
    return "validation" if place < shares.test + shares.validation else "train"


def _question(text: str) -> str:
    """Returns what follows the mark of a question, where a prompt has passages before it; the whole without a mark."""
    return f"\n{text}".rpartition(f"\n{prompt.QUESTION} ")[2].removeprefix("\n")
