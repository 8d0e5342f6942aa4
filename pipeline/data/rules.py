"""The rules, all of them, in one table: what a row is held against, by which name a finding calls it, and whether a
breach rejects the row or is only told. A row is rejected by the first rule that it breaks, in the table's order.

Rules speak of measures (lengths, roles, counts), which are taken here, and never of text. The pipeline has Great
Expectations apply them (expectations.py); `breach` applies the same table to one row where its import would take longer
than the work."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.usecase import CLASSIFICATIONS, Checks

# waiting: until a person has accepted it, what was served before is served on.
Severity = Literal["rejected", "warning", "waiting"]
Measures = dict[str, Any]
_ROLES = {"system": "s", "user": "u", "assistant": "a"}


@dataclass(frozen=True)
class Between:
    """A number in a range; None passes."""

    low: int | None
    high: int | None

    def holds(self, value: Any) -> bool:
        """Returns whether the value is in the range."""
        return value is None or ((self.low is None or value >= self.low) and (self.high is None or value <= self.high))


@dataclass(frozen=True)
class Matches:
    """A text of a certain form; None passes."""

    pattern: str

    def holds(self, value: Any) -> bool:
        """Returns whether the pattern is found."""
        return value is None or re.search(self.pattern, value) is not None


@dataclass(frozen=True)
class OneOf:
    """One of the values; None passes."""

    values: tuple[str, ...]

    def holds(self, value: Any) -> bool:
        """Returns whether the value is one of them."""
        return value is None or value in self.values


@dataclass(frozen=True)
class NoneOf:
    """Anything but these values; None passes."""

    values: tuple[str, ...]

    def holds(self, value: Any) -> bool:
        """Returns whether the value is none of them."""
        return value is None or value not in self.values


Test = Between | Matches | OneOf | NoneOf


@dataclass(frozen=True)
class Rule:
    """One rule."""

    name: str
    measure: str  # the column it looks at
    test: Test
    detail: str
    severity: Severity = "rejected"


def _read(name: str, detail: str) -> Rule:
    """Returns the rule that reading did not find this problem."""
    return Rule(name, "problem", NoneOf((name,)), detail)


_READING = (
    _read("malformed", "not JSON"),
    _read("truncated", "the file ends before its rows do"),
    _read("not_utf8", "bytes that are not UTF-8"),
    _read("not_storable", "a NUL character or half of a surrogate pair"),
    _read("not_an_object", "a row is an object with named fields"),
    _read("missing_field", "a field is missing"),
    _read("wrong_type", "a field is of another type"),
    _read("front_matter", "front matter that cannot be read"),
    _read("outside", "a file that is not the source's own"),
)
_OF_DOCUMENTS = ("not_utf8", "not_storable", "front_matter", "outside")
# What a file's share of bad rows does not count: it says nothing against the file.
NOT_MALFORMED = frozenset({"erased", "duplicate", "duplicate_id", "outside"})


def for_examples(checks: Checks) -> tuple[Rule, ...]:
    """Returns the rules that examples are held against."""
    return (
        *(rule for rule in _READING if rule.name not in ("front_matter", "outside")),
        Rule("erased", "erased", NoneOf(("erased",)), "this was erased and must not come back"),
        Rule(
            "roles",
            "roles",
            Matches(r"\A(?:s?(?:ua)+|s?u(?:au)*/a/a)\Z"),
            "after at most one system message, user and assistant alternate and the assistant has the last word",
        ),
        Rule("empty_turn", "blank_turns", Between(None, 0), "a message before the answer is empty"),
        Rule("empty_answer", "answer_characters", Between(1, None), "an answer is empty"),
        Rule(
            "short_answer",
            "answer_characters",
            Between(checks.min_characters, None),
            f"an answer has fewer than {checks.min_characters} characters",
        ),
        Rule(
            "long_row",
            "characters",
            Between(None, checks.max_characters),
            f"the row has more than {checks.max_characters} characters",
        ),
        Rule("same_answers", "answers", NoneOf(("same",)), "chosen and rejected are the same answer"),
        Rule("duplicate", "repeats", NoneOf(("row",)), "the same row stands earlier"),
        Rule(
            "duplicate_content",
            "repeats",
            NoneOf(("content",)),
            "the same content stands earlier, about others",
            "warning",
        ),
        Rule("unknown_keys", "unknown_keys", Between(None, 0), "it has keys that nothing reads", "warning"),
        Rule(
            "unknown_document",
            "missing_documents",
            Between(None, 0),
            "it names a document that is not there",
            "warning",
        ),
        Rule(
            "withdrawn_document",
            "withdrawn_documents",
            Between(None, 0),
            "it names a document that is withdrawn",
            "warning",
        ),
    )


def for_documents() -> tuple[Rule, ...]:
    """Returns the rules that documents are held against."""
    return (
        *(rule for rule in _READING if rule.name in _OF_DOCUMENTS),
        Rule("erased", "erased", NoneOf(("erased",)), "this was erased and must not come back"),
        Rule(
            "document_id",
            "key",
            Matches(r"\A(?=.{1,100}\Z)[a-z0-9]+(?:-[a-z0-9]+)*\Z"),
            "an id has lower-case letters, digits and single hyphens, 100 at most: answers cite documents by it",
        ),
        Rule("duplicate_id", "repeats", NoneOf(("id",)), "another document has this id"),
        Rule("tenant", "tenant", Matches(r"\A[a-z][a-z0-9_]{0,39}\Z"), "a tenant has lower-case letters, digits and _"),
        Rule("classification", "classification", OneOf(CLASSIFICATIONS), f"one of {', '.join(CLASSIFICATIONS)}"),
        Rule("groups", "groups", Between(1, 64), "1 to 64 groups may read a document, and each has a name"),
        Rule("group_names", "group_bytes", Between(None, 1_500), "the names of all groups have 1,500 bytes at most"),
        Rule(
            "control_characters",
            "controls",
            Between(None, 0),
            "a title, owner, source or group holds a control character",
        ),
        Rule("long_field", "longest", Between(None, 300), "a title, owner or source has more than 300 characters"),
        Rule("dates", "years", Matches(r"\A(?:(?:19[7-9]\d|2[0-4]\d\d) ?)*\Z"), "a date lies between 1970 and 2499"),
        Rule("status", "status", OneOf(("approved", "withdrawn")), "approved or withdrawn"),
        Rule("empty_document", "characters", Between(1, None), "the document has no text"),
        Rule(
            "long_document", "characters", Between(None, 2_000_000), "the document has more than 2,000,000 characters"
        ),
        Rule("duplicate_text", "repeats", NoneOf(("text",)), "another document has the same text", "warning"),
    )


def breach(rules: Iterable[Rule], measures: Measures) -> Rule | None:
    """Returns the first rejecting rule that a row breaks, or None."""
    return next((r for r in rules if r.severity == "rejected" and not r.test.holds(measures[r.measure])), None)


def detail(rule: Rule, row: Example | Document) -> str:
    """Returns what a finding says: what reading found, where it did, else the rule's own words."""
    return row.problem.detail if row.problem is not None and row.problem.rule == rule.name else rule.detail


def measure_examples(
    examples: Sequence[Example],
    erased: Callable[[Example], bool],
    documents: Mapping[str, str] | None,
) -> list[Measures]:
    """Returns the measures of each example; those of content are None where it could not be read.

    `documents` are the documents that there are, id to status; None where they are not known.
    """
    repeats = _Repeats()
    rows = []
    for row in examples:
        measures: Measures = {**dict.fromkeys(_EXAMPLE_MEASURES), **_problem(row)}
        if row.content is not None:
            statuses = Counter((documents or {}).get(key, "missing") for key in row.documents)
            measures |= {
                "erased": "erased" if erased(row) else None,
                "repeats": repeats.of({"row": row.digest, "content": row.content_digest}),
                "unknown_keys": row.unknown_keys,
                "missing_documents": None if documents is None else statuses["missing"],
                "withdrawn_documents": statuses["withdrawn"],
                **_content_measures(row.content),
            }
        rows.append(measures)
    return rows


_EXAMPLE_MEASURES = (
    "erased",
    "roles",
    "blank_turns",
    "answer_characters",
    "characters",
    "answers",
    "repeats",
    "unknown_keys",
    "missing_documents",
    "withdrawn_documents",
)


def _content_measures(content: Mapping[str, Sequence[Mapping[str, str]]]) -> Measures:
    parts = (
        [content["messages"]] if "messages" in content else [content[name] for name in ("prompt", "chosen", "rejected")]
    )
    answers = [part[-1]["content"].strip() for part in (parts[1:] or parts)]
    others = [
        *parts[0][:-1],
        *(turn for part in parts[1:] for turn in part[:-1]),
        *(parts[0][-1:] if parts[1:] else []),
    ]
    return {
        "roles": "/".join("".join(_ROLES.get(turn["role"], "?") for turn in part) for part in parts),
        "blank_turns": sum(not turn["content"].strip() for turn in others),
        "answer_characters": min(len(answer) for answer in answers),
        "characters": sum(len(turn["content"]) for part in parts for turn in part),
        "answers": "same" if len(answers) > 1 and answers[0] == answers[1] else None,
    }


def measure_documents(documents: Sequence[Document], erased: Callable[[Document], bool]) -> list[Measures]:
    """Returns the measures of each document; None where it could not be read."""
    repeats = _Repeats()
    rows = []
    for row in documents:
        measures: Measures = {**dict.fromkeys(_DOCUMENT_MEASURES), **_problem(row)}
        if row.text is not None:
            measures |= {
                "erased": "erased" if erased(row) else None,
                "key": row.key or "",
                "repeats": repeats.of({"id": row.key or "", "text": row.text_digest}),
                "tenant": row.tenant,
                "classification": row.classification,
                "groups": 0 if any(not group.strip() for group in row.groups) else len(row.groups),
                "group_bytes": sum(len(group.encode()) for group in row.groups),
                "controls": sum(_CONTROL.search(text) is not None for text in (*_named(row), *row.groups)),
                "longest": max(len(text) for text in _named(row)),
                "years": " ".join(date[:4] for date in (row.fresh_until, row.retain_until) if date),
                "status": row.status,
                "characters": len(row.text.strip()),
            }
        rows.append(measures)
    return rows


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def _named(row: Document) -> tuple[str, ...]:
    return row.title, row.owner, row.source or ""


_DOCUMENT_MEASURES = (
    "erased",
    "key",
    "repeats",
    "tenant",
    "classification",
    "groups",
    "group_bytes",
    "controls",
    "longest",
    "years",
    "status",
    "characters",
)


def _problem(row: Example | Document) -> Measures:
    rule = row.problem.rule if row.problem else None
    return {"problem": rule, "erased": "erased" if rule == "erased" else None}


class _Repeats:
    """Remembers what was seen before, by several names of sameness."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def of(self, names: Mapping[str, str]) -> str | None:
        """Returns the first kind of sameness that was met before, and remembers all of them."""
        met = next((kind for kind, value in names.items() if (kind, value) in self.seen), None)
        self.seen.update(names.items())
        return met


def statuses(documents: Collection[Document]) -> dict[str, str]:
    """Returns id to status of documents."""
    return {row.key: row.status for row in documents if row.key is not None}
