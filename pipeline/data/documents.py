"""Documents: Markdown files with YAML front matter, or text files with one document a line.

Who may read a document stands in its front matter. So whatever is not surely front matter, and not surely none, is a
document whose rights cannot be read, and is rejected."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from functools import cached_property
from typing import Any

from pipeline import canonical, parsing
from pipeline.data.rows import Problem, storable
from pipeline.usecase import USES, DocumentDefaults, narrowed

FIELDS = (
    "id",
    "title",
    "tenant",
    "classification",
    "groups",
    "owner",
    "status",
    "fresh_until",
    "retain_until",
    "source",
    "data_subject",
    "uses",
)
_FENCE = re.compile(r"^---[ \t]*$", re.MULTILINE)
_HEADING = re.compile(r"^#+[ \t]+(.+?)[ \t]*$", re.MULTILINE)
_FRONT = parsing.Bounds(size=64 << 10, depth=4, nodes=1_000)
# What a text begins with that was meant to be front matter: a fence of any make, or a key of ours near the beginning.
_FENCE_LIKE = ("--", "—", "–", "‐", "−", "+++", ";;;", "{", "```", "...", "<!--")
_KEY_LIKE = re.compile(
    r"^\W*(?:classification|tenant|groups?|status|owner|fresh_until|retain_until)\W*[:=]", re.MULTILINE
)
_NEAR = 2_000  # characters


@dataclass(frozen=True)
class Document:
    """One document as its source has it."""

    file: str
    line: int
    key: str | None  # the id in the source
    title: str = ""
    text: str | None = None  # None where there is a problem
    tenant: str = ""
    classification: str = ""
    groups: tuple[str, ...] = ()
    owner: str = ""
    source: str | None = None
    status: str = "approved"
    fresh_until: str | None = None  # ISO dates
    retain_until: str | None = None
    subject: str | None = None  # the person a document is about, if any
    uses: tuple[str, ...] = USES  # what it may be used for, in the order of USES
    problem: Problem | None = None

    @cached_property
    def text_digest(self) -> str:
        """Returns the digest of the text alone."""
        return canonical.digest_text(self.text or "")

    @cached_property
    def digest(self) -> str:
        """Returns the digest of text and metadata. Its place does not count."""
        return metadata_digest({**self.__dict__, "document_key": self.key, "text_digest": self.text_digest})

    def place(self, problem: Problem, *, rights: bool) -> "Document":
        """Returns where the document stands, without a word of it; `rights`: with who may read it, until when and for
        what."""
        place = Document(self.file, self.line, self.key, problem=problem)
        names = ("tenant", "classification", "groups", "status", "fresh_until", "retain_until", "uses")
        return replace(place, **{name: getattr(self, name) for name in names}) if rights else place

    def as_dict(self) -> dict[str, Any]:
        """Returns the document as a snapshot keeps it."""
        problem = None if self.problem is None else [self.problem.rule, self.problem.detail]
        own = {name: self.__dict__[name] for name in _FIELDS}
        return {**own, "groups": list(self.groups), "uses": list(self.uses), "problem": problem}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Document":
        """Returns the document that a snapshot kept."""
        problem = None if row["problem"] is None else Problem(*row["problem"])
        uses = tuple(row.get("uses", USES))
        return cls(**{**row, "groups": tuple(row["groups"]), "uses": uses, "problem": problem})


_FIELDS = tuple(field.name for field in fields(Document))
_METADATA = ("document_key", "text_digest", "title", "tenant", "classification", "owner", "source", "status")


def metadata_digest(row: Mapping[str, Any]) -> str:
    """Returns the digest of a document version, from its fields as catalog.document_version names them."""
    dates = {name: None if row[name] is None else str(row[name]) for name in ("fresh_until", "retain_until")}
    # A document about nobody has the digest that it had before documents could say so.
    person = {"subject": row["subject"]} if row.get("subject") else {}
    # So has one that may be used for anything.
    uses = sorted(row.get("uses", USES))
    limits = {} if uses == sorted(USES) else {"uses": uses}
    fields = {name: row[name] for name in _METADATA}
    return canonical.digest({**fields, "groups": sorted(row["groups"]), **dates, **person, **limits})


class _Unfit(Exception):
    def __init__(self, rule: str, detail: str, line: int = 1) -> None:
        super().__init__(detail)
        self.problem = Problem(rule, detail)
        self.line = line


def markdown(
    data: bytes, file: str, defaults: DocumentDefaults, *, required: bool = True, uses: tuple[str, ...] = USES
) -> Document:
    """Returns the document of a Markdown file, or the problem it has: `not_utf8`, `not_storable` or `front_matter`.

    Without an id the file's name gives one; without a title, the first heading or the id. An unknown key is a problem:
    a misspelt classification must not leave a document with the default one. Where front matter is not `required`, a
    text that shows no trace of any has the defaults' rights. `uses` are the source's: front matter narrows them.
    """
    stem = slug(re.sub(r"\.[A-Za-z]+$", "", file.rsplit("/", 1)[-1]))
    try:
        text = _decode(data)
        front, body = _front_matter(text, required)
        fields = _fields(front)
    except _Unfit as unfit:
        return Document(file, unfit.line, stem or None, problem=unfit.problem)
    key = fields.pop("id", None) or stem
    heading = _HEADING.search(body)
    title = fields.pop("title", None) or (heading.group(1) if heading else key)
    fields["uses"] = narrowed(uses, fields.get("uses", USES))
    return Document(file, 1, key, title, body.strip(), **{**_defaults(defaults), **fields})


def lines(data: bytes, file: str, defaults: DocumentDefaults, uses: tuple[str, ...] = USES) -> list[Document]:
    """Returns one document for each line that is not blank. Its id and title are made of the file's name and a digest
    of the line: both can be read by whoever may not read the text."""
    stem = slug(re.sub(r"\.[A-Za-z]+$", "", file.rsplit("/", 1)[-1]))[:60].strip("-") or "line"
    documents = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            text = _decode(raw).strip()
        except _Unfit as unfit:
            documents.append(Document(file, number, None, problem=unfit.problem))
            continue
        key = f"{stem}-{canonical.digest_text(text)[:16]}"
        documents.append(Document(file, number, key, key, text, uses=uses, **_defaults(defaults)))
    return documents


def slug(text: str) -> str:
    """Returns lower-case ASCII letters and digits with single hyphens between: the form of ids that can be cited."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _decode(data: bytes) -> str:
    """Returns the text, every line of it ended as on Unix: a fence ends with its line, whoever wrote the file."""
    try:
        text = parsing.decode(data).replace("\r\n", "\n").replace("\r", "\n")
    except parsing.ParseError as error:
        raise _Unfit("not_utf8", "the document holds bytes that are not UTF-8", error.line or 1) from None
    if not storable(text):
        raise _Unfit("not_storable", "the document holds a NUL character")
    return text


def _front_matter(text: str, required: bool) -> tuple[dict[Any, Any], str]:
    """Returns the front matter, empty where there is none and need not be, and the text below it."""
    opening = _FENCE.match(text)
    if opening is None:
        if required:
            raise _Unfit("front_matter", "the document does not begin with a line of ---, so nobody knows its rights")
        if _like_front_matter(text):
            raise _Unfit("front_matter", "the document begins with what may be front matter, and is not: a line of ---")
        return {}, text
    closing = _FENCE.search(text, opening.end())
    if closing is None:
        raise _Unfit("front_matter", "the front matter does not end with a line of ---")
    try:
        front = parsing.parse_yaml(text[opening.end() : closing.start()], _FRONT)
    except parsing.ParseError as error:
        # The fence is the first line.
        raise _Unfit("front_matter", f"the front matter: {error.problem}", error.line or 1) from None
    if not isinstance(front, dict):
        raise _Unfit("front_matter", "the front matter is a mapping of keys")
    if not storable(front):
        raise _Unfit("not_storable", "the front matter holds a NUL character or half of a surrogate pair")
    return front, text[closing.end() :]


def _like_front_matter(text: str) -> bool:
    """Returns whether a text begins as if it had front matter, once nothing that cannot be seen is before it."""
    start = next((place for place, character in enumerate(text) if not _invisible(character)), len(text))
    near = text[start : start + _NEAR]
    return near.startswith(_FENCE_LIKE) or _KEY_LIKE.search(near) is not None


def _invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Co", "Cn")


def _fields(front: Mapping[Any, Any]) -> dict[str, Any]:
    unknown = [key for key in front if key not in FIELDS]
    if unknown:
        raise _Unfit("front_matter", f"{len(unknown)} unknown keys; known are {', '.join(FIELDS)}")
    fields: dict[str, Any] = {}
    for name, value in front.items():
        if value is None:
            continue
        if name == "groups":
            if not isinstance(value, list) or not all(isinstance(group, str) for group in value):
                raise _Unfit("front_matter", "groups is a list of names")
            fields[name] = tuple(value)
        elif name == "uses":
            if not isinstance(value, list) or not set(map(str, value)) <= set(USES):
                raise _Unfit("front_matter", f"uses is a list of {', '.join(USES)}")
            fields[name] = tuple(value)
        elif name in ("fresh_until", "retain_until"):
            fields[name] = _date(name, value)
        elif not isinstance(value, str):
            raise _Unfit("front_matter", f"{name} is text")
        else:
            fields["subject" if name == "data_subject" else name] = value.strip() or None
    return fields


def _date(name: str, value: Any) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise _Unfit("front_matter", f"{name} is a date such as 2026-12-31") from None


def _defaults(defaults: DocumentDefaults) -> dict[str, Any]:
    return {
        "tenant": defaults.tenant,
        "classification": defaults.classification,
        "groups": defaults.groups,
        "owner": defaults.owner,
        "fresh_until": None if defaults.fresh_until is None else defaults.fresh_until.isoformat(),
        "retain_until": None if defaults.retain_until is None else defaults.retain_until.isoformat(),
    }
