"""Texts as scorers compare them."""

import re
import unicodedata

_CITATION = re.compile(r"\s*\[[^\[\]]*\]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# A number keeps its point, colon and sign for per cent or money; a word is letters and digits.
_TOKEN = re.compile(r"\d+(?:[.:]\d+)*|[^\W\d_]+|[%€$£]")


def without_citations(text: str) -> str:
    """Returns the text without what stands in brackets."""
    return _CITATION.sub("", text)


def tokens(text: str) -> list[str]:
    """Returns the words and numbers of a text: compatibility forms folded, lower case, no commas in thousands."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _TOKEN.findall(_THOUSANDS.sub("", folded))


def contains(text: list[str], part: list[str]) -> bool:
    """Returns whether the tokens of `part` stand in `text`, together and in order; an empty part stands nowhere."""
    width = len(part)
    return width > 0 and any(text[at : at + width] == part for at in range(len(text) - width + 1))
