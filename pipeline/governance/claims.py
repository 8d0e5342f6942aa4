"""Claims: values out of evidence, stated in Markdown so that each can be found again where it came from.

A template prints nothing but its own prose and claims. Each claim carries a footnote marker; the footnotes of a
document name, for every marker, the source, the digest of that source, and the JSON pointer (RFC 6901) of the value in
it. Prose holds no digit, so that a figure without a source has nowhere to stand.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_UNSAFE = re.compile(r"[\s]+")
_DIGITS = re.compile(r"\d")


@dataclass(frozen=True)
class Node:
    """A value in a source, as templates walk it. `form` says how it is put into words."""

    source: str
    pointer: str
    value: Any
    form: str = "plain"

    def __getitem__(self, key: str | int) -> "Node":
        """Returns the node one step down; KeyError or IndexError where there is none."""
        value = self.value[key]
        step = str(key).replace("~", "~0").replace("/", "~1")
        return Node(self.source, f"{self.pointer}/{step}", value)

    def __iter__(self) -> Iterator["Node"]:
        return (self[place] for place in range(len(self.value)))

    def __bool__(self) -> bool:
        return bool(self.value)

    def entries(self) -> list[tuple["Node", "Node"]]:
        """Returns the entries of an object in the order of their keys: the key as a claim, and the value."""
        children = [self[key] for key in sorted(self.value)]
        return [(Node(child.source, child.pointer, child.value, "key"), child) for child in children]

    def leaves(self, *apart: str) -> list[tuple["Node", "Node"]]:
        """Returns every plain value at or below this one: its path from here as a claim, and the value. What stands
        under the keys `apart` is left out."""
        depth = self.pointer.count("/")
        known = [node for key in apart if self.has(key) for node in self[key]._leaves()]
        return [(replace(node, form=f"path {depth}"), node) for node in self._leaves() if node not in known]

    def _leaves(self) -> Iterator["Node"]:
        if not isinstance(self.value, dict | list):
            yield self
            return
        for key in sorted(self.value) if isinstance(self.value, dict) else range(len(self.value)):
            yield from self[key]._leaves()

    def has(self, key: str) -> bool:
        """Returns whether an object has this key."""
        return isinstance(self.value, dict) and key in self.value


def find(content: Any, pointer: str) -> Any:
    """Returns the value at a JSON pointer. Raises LookupError where there is none."""
    value = content
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list):
            value = value[int(key)] if key.isdigit() else _missing(pointer)
        elif isinstance(value, dict):
            value = value[key]
        else:
            _missing(pointer)
    return value


def _missing(pointer: str) -> Any:
    raise KeyError(pointer)


def escape(text: str) -> str:
    """Returns text that is one line and no Markdown of its own."""
    line = _UNSAFE.sub(" ", text).strip()
    return re.sub(r"([\\|\[\]`*_<>#])", r"\\\1", line)


def _plain(value: Any) -> str:
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_plain(entry) for entry in value)
    if isinstance(value, dict):
        return "; ".join(f"{escape(key)}: {_plain(value[key])}" for key in sorted(value))
    return escape(str(value))


def _interval(value: Any) -> str:
    if value is None or value.get("value") is None or not value.get("n"):
        return "not measured"
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f}, n = {value['n']})"


def _difference(value: Any) -> str:
    return f"{value['difference']:+.3f} ({value['low']:+.3f} to {value['high']:+.3f}, n = {value['n']})"


def _digest(value: Any) -> str:
    return "none" if value is None else f"`{str(value)[:16]}`"


def _time(value: Any) -> str:
    return "never" if value is None else str(value)[:19].replace("T", " ") + " UTC"


FORMS: Mapping[str, Callable[[Any], str]] = {
    "plain": _plain,
    "share": lambda value: "none" if value is None else f"{value:.3f}",
    "interval": _interval,
    "difference": _difference,
    "digest": _digest,
    "time": _time,
}


def words(form: str, pointer: str, value: Any) -> str:
    """Returns a claim's text. For the forms `key` and `path N` it is the name under which the value stands: the last
    step of its pointer, or all but the first N."""
    name, _, depth = form.partition(" ")
    if name in ("key", "path"):
        steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
        return escape(" › ".join(steps[-1:] if name == "key" else steps[int(depth) :]))
    return FORMS[form](value)


@dataclass(frozen=True)
class Beside:
    """A file beside the document, which it shows. Its name holds no digit."""

    name: str


@dataclass(frozen=True)
class Figure:
    """One claim of a document."""

    document: str
    number: int
    text: str
    source: str
    pointer: str
    form: str

    @property
    def stated(self) -> str:
        """Returns the claim as the document states it."""
        return f"{self.text}[^{self.number}]"

    def footnote(self, digest: str) -> str:
        """Returns the line that says where the claim came from."""
        return f"[^{self.number}]: {self.source}, sha256 {digest}, at `{self.pointer or '/'}`"

    def as_dict(self, digest: str) -> dict[str, Any]:
        """Returns the claim as evidence.json lists it."""
        return {
            "document": self.document,
            "number": self.number,
            "text": self.text,
            "source": self.source,
            "digest": digest,
            "pointer": self.pointer,
            "form": self.form,
        }


class Ledger:
    """Numbers the claims of one document as its template is rendered."""

    def __init__(self, document: str) -> None:
        self.document = document
        self.figures: list[Figure] = []

    def __call__(self, value: Any) -> str:
        """Returns what a template's expression prints: a claim, or the name of a file beside. Raises TypeError for
        anything that is neither."""
        if isinstance(value, Beside):
            return value.name
        if not isinstance(value, Node):
            raise TypeError(f"{self.document}: a template prints {type(value).__name__}, which has no source")
        text = words(value.form, value.pointer, value.value)
        figure = Figure(self.document, len(self.figures) + 1, text, value.source, value.pointer, value.form)
        self.figures.append(figure)
        return figure.stated


def check(document: str, text: str, figures: list[Figure], digests: Mapping[str, str]) -> list[str]:
    """Returns what a document states otherwise than its figures say: empty when it states exactly those."""
    problems = []
    body, _, notes = text.partition("\n---\n")
    wanted = [figure.footnote(digests.get(figure.source, "unknown")) for figure in figures]
    if notes.strip().splitlines() != wanted:
        problems.append("its footnotes are not those of its figures")
    place = 0
    rest = []
    for figure in figures:
        start = body.find(figure.stated, place)
        if start < 0:
            problems.append(f"figure {figure.number} is not stated as {figure.text!r}")
            continue
        rest.append(body[place:start])
        place = start + len(figure.stated)
    rest.append(body[place:])
    problems += [f"it states {piece.strip()[:80]!r} without evidence" for piece in rest if _DIGITS.search(piece)]
    return problems
