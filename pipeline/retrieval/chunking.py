"""Documents to chunks: whole sentences, as many as fit, under the headings they stand below."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline import canonical

# The version of the rules below. Whoever changes what comes out raises it: stored embeddings and the unchanged night
# rest on it. A test pins what the rules give.
RULES = 1

Count = Callable[[Sequence[str]], list[int]]  # tokens of each text, without those that open and close a chunk

_OPEN_AND_CLOSE = 2  # the tokens that the embedder adds around a text
# WordPiece reads a word longer than 100 characters as one unknown token; no piece of text may be endless for that.
_MAX_CHARACTERS_PER_TOKEN = 16
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s+|^\s*\||^\s*>")
# A sentence ends at . ! or ? (with quotes and brackets that close) before blanks and something that begins one. Where
# a source has lost its line breaks, "end.Begin" is two sentences, too.
_END = re.compile(
    r"(?<=[.!?])[\"'”’)\]]*(\s+)(?=[\"'“‘(\[]*[A-Z0-9À-ÖØ-Þ])|(?<=[a-z0-9][a-z0-9)][.!?])()(?=[A-Z][a-z]*\s)"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“‘])(?:[A-Z]|[a-z]\.[a-z]|Dr|Mr|Mrs|Ms|Prof|St|Sr|Jr|No|Nos|Art|Sec|Fig|Eq|Vol|vs|cf|al|approx|ca|pp?|"
    r"Inc|Ltd|Co|Corp|U\.S|U\.K|[Ee]\.g|[Ii]\.e)\.$"
)


@dataclass(frozen=True)
class Chunker:
    """The settings that chunks depend on."""

    tokens: int  # the most that a chunk has, with those that open and close it
    overlap: int  # sentences of a chunk that the next one repeats

    def identity(self) -> dict[str, Any]:
        """Returns the chunker's identity."""
        return {"rules": RULES, "tokens": self.tokens, "overlap": self.overlap}


@dataclass(frozen=True)
class Chunk:
    """A piece of a document as it is embedded and quoted."""

    ordinal: int  # place in its document, from 0
    text: str
    digest: str  # of the text under its chunker


@dataclass(frozen=True)
class Sentence:
    """One sentence, or one line of a list or table, with what parts it from the one before."""

    text: str
    gap: str  # "", " ", "\n" or a blank line
    headings: tuple[str, ...]  # those it stands below, the outermost first


def chunks(title: str, body: str, chunker: Chunker, count: Count) -> list[Chunk]:
    """Returns the chunks of a document, in its order. Each has at most `chunker.tokens` tokens and stands below one
    heading; a sentence is split only where it alone is too long."""
    pieces_so_far: list[Chunk] = []
    runs: list[list[Sentence]] = []
    for sentence in sentences(title, body):
        if not runs or runs[-1][0].headings != sentence.headings:
            runs.append([])
        runs[-1].append(sentence)
    for run in runs:
        context = _context(run[0].headings, chunker, count)
        room = chunker.tokens - _OPEN_AND_CLOSE - (count([context])[0] if context else 0)
        for pieces in _pack(_fitted(run, room, count), room, chunker.overlap):
            text = f"{context}{_joined(pieces)}"
            digest = canonical.digest({"chunker": chunker.identity(), "text": text})
            pieces_so_far.append(Chunk(len(pieces_so_far), text, digest))
    return pieces_so_far


def sentences(title: str, body: str) -> list[Sentence]:
    """Returns the sentences of a Markdown or plain text, each below the document's title and its own headings."""
    parts: list[Sentence] = []
    levels: list[tuple[int, str]] = []
    for kind, text in _blocks(body):
        if kind == "heading":
            match = _HEADING.match(text)
            assert match is not None
            level = len(match[1])
            levels = [entry for entry in levels if entry[0] < level] + [(level, match[2])]
            continue
        names = [name for _, name in levels if name]
        headings = tuple(dict.fromkeys([*([title] if title else []), *names]))
        for place, (gap, sentence) in enumerate(split(text)):
            parted = gap if place else "\n" if kind == "line" else "\n\n"
            parts.append(Sentence(sentence, parted, headings))
    return parts


def split(text: str) -> list[tuple[str, str]]:
    """Returns the sentences of one paragraph, each with what stood before it: a blank, or nothing. Blanks and line
    breaks inside count as one blank."""
    text = " ".join(text.split())
    parts: list[tuple[str, str]] = []
    start, gap = 0, ""
    for match in _END.finditer(text):
        blank = match.start(1) if match[1] is not None else match.end()
        if _ABBREVIATION.search(text[start:blank]):
            continue
        parts.append((gap, text[start:blank]))
        start, gap = match.end(), " " if match[1] else ""
    if text[start:]:
        parts.append((gap, text[start:]))
    return parts


def _blocks(body: str) -> Iterator[tuple[str, str]]:
    """Yields headings, paragraphs, and single lines of lists, tables, quotations and code."""
    paragraph: list[str] = []
    fenced = False
    for line in body.splitlines():
        fence = line.lstrip().startswith(("```", "~~~"))
        heading = not fenced and _HEADING.match(line)
        item = not fenced and _ITEM.match(line)
        if paragraph and (fence or fenced or heading or item or not line.strip()):
            yield "paragraph", "\n".join(paragraph)
            paragraph = []
        if fence:
            fenced = not fenced
        elif heading:
            yield "heading", line
        elif (fenced or item) and line.strip():
            yield "line", line
        elif line.strip():
            paragraph.append(line)
    if paragraph:
        yield "paragraph", "\n".join(paragraph)


def _context(headings: tuple[str, ...], chunker: Chunker, count: Count) -> str:
    """Returns the headings as a chunk's first line. They may take a third of it; the inner ones go first, then all."""
    for kept in range(len(headings), 0, -1):
        names = (headings[0], *headings[len(headings) - kept + 1 :]) if kept > 1 else headings[:1]
        line = "# " + " / ".join(names) + "\n\n"
        if count([line])[0] <= chunker.tokens // 3:
            return line
    return ""


def _fitted(run: Sequence[Sentence], room: int, count: Count) -> list[tuple[Sentence, int]]:
    """Returns the sentences with their costs in tokens, those that alone are too long cut at blanks."""
    fitted: list[tuple[Sentence, int]] = []
    for sentence, cost in zip(run, _costs([sentence.text for sentence in run], count), strict=True):
        if cost <= room:
            fitted.append((sentence, cost))
            continue
        for place, (piece, size) in enumerate(_cut(sentence.text, room, count)):
            gap = sentence.gap if place == 0 else " "
            fitted.append((replace(sentence, text=piece, gap=gap), size))
    return fitted


def _cut(text: str, room: int, count: Count) -> Iterator[tuple[str, int]]:
    """Yields pieces of one sentence that fit, cut at blanks; a word that alone is too long is cut anywhere."""
    held: list[str] = []
    size = 0
    words = [piece for word in text.split(" ") for piece in _halved(word, room, count)]
    for word, cost in zip(words, _costs(words, count), strict=True):
        if held and size + cost > room:
            yield " ".join(held), size
            held, size = [], 0
        held.append(word)
        size += cost
    if held:
        yield " ".join(held), size


def _halved(word: str, room: int, count: Count) -> list[str]:
    if len(word) == 1 or _costs([word], count)[0] <= room:
        return [word]
    middle = len(word) // 2
    return [*_halved(word[:middle], room, count), *_halved(word[middle:], room, count)]


def _costs(texts: Sequence[str], count: Count) -> list[int]:
    lengths = (-(-len(text) // _MAX_CHARACTERS_PER_TOKEN) for text in texts)
    return [max(pair) for pair in zip(count(texts), lengths, strict=True)]


def _pack(fitted: Sequence[tuple[Sentence, int]], room: int, overlap: int) -> Iterator[list[Sentence]]:
    """Yields the sentences of each chunk. A chunk begins with the last sentences of the one before, as far as they
    leave room for a new one."""
    start = 0
    while start < len(fitted):
        end, size = start, 0
        while end < len(fitted) and size + fitted[end][1] <= room:
            size += fitted[end][1]
            end += 1
        yield [sentence for sentence, _ in fitted[start:end]]
        if end == len(fitted):
            return
        start = _overlapping(fitted, start, end, room, overlap)


def _overlapping(fitted: Sequence[tuple[Sentence, int]], start: int, end: int, room: int, overlap: int) -> int:
    """Returns where the next chunk begins: at most `overlap` sentences before `end`, and so that `end` still fits."""
    begin = end
    size = fitted[end][1]
    while begin - 1 > start and end - (begin - 1) <= overlap and size + fitted[begin - 1][1] <= room:
        begin -= 1
        size += fitted[begin][1]
    return begin


def _joined(pieces: Sequence[Sentence]) -> str:
    return "".join(("" if place == 0 else piece.gap) + piece.text for place, piece in enumerate(pieces))
