"""The rules, all of them, in one table: what a row is held against, by which name a finding calls it, and whether a
breach rejects the row or is a warning. A row is rejected by the first rule that it breaks, in the table's order.

Rules speak of measures (lengths, roles, counts; see measures.py) and never of text. The pipeline applies them a column
at a time (verdicts.py), `breach` to one row."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.chat import Reason
from pipeline.data import lengths
from pipeline.data.measures import Measures
from pipeline.data.rows import Problem
from pipeline.usecase import CLASSIFICATIONS, Checks, DocumentChecks

# waiting: until a person has accepted it, what was served before is served on.
Severity = Literal["rejected", "warning", "waiting"]


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

    @property
    def may_be_waived(self) -> bool:
        """Returns whether a person may accept a row that breaks the rule."""
        return self.severity == "waiting" or self.name in WAIVABLE

    @property
    def says_against_source(self) -> bool:
        """Returns whether a row that breaks the rule counts in its source's share of bad rows."""
        return self.severity == "rejected" and self.name not in NOT_MALFORMED


# What a rule of these says is a matter of judgement. What cannot be read or trained on, was erased, stands twice, or
# would show the evaluation's questions, no person lets in.
WAIVABLE = frozenset(
    {
        "short_answer",
        "long_row",
        "credentials",
        "personal_data",
        "mojibake",
        "other_language",
        "debris",
        "repetition",
        "other_answers",
        "excuses",
        "abuse",
        "truncated_answer",
    }
)


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
    _read("columns", "a row of a table has more cells than columns, or fewer"),
    _read("long_line", "a line is longer than a row may be"),
    _read("tools", "it calls tools, or offers them, which nothing here trains"),
    _read("media", "it shows more than text"),
    _read("bad_label", "its label says that the answer is a bad one"),
    _read("weighted_turn", "it says that it is not to be learned, or not as others are"),
    _read("no_preference", "it prefers none of its answers"),
    _read("no_shared_prompt", "its two conversations do not begin alike"),
    _read("two_systems", "it has two system messages that differ"),
    _read("two_subjects", "it names two persons that it is about"),
    _read("front_matter", "front matter that cannot be read"),
    _read("outside", "a file that is not the source's own"),
    _read("no_rows", "a file in a folder of rows that is not called one"),
)
_OF_DOCUMENTS = ("not_utf8", "not_storable", "front_matter", "outside")
# What a file's share of bad rows does not count: it says nothing against the file.
NOT_MALFORMED = frozenset(
    {
        "erased",
        "duplicate",
        "duplicate_id",
        "outside",
        "no_rows",
        # These are as much the base model's and its recipe's.
        "untrainable",
        "equal_after_truncation",
        "truncated_answer",
    }
)


def for_examples(checks: Checks) -> tuple[Rule, ...]:
    """Returns the rules that examples are held against."""
    return (
        *(rule for rule in _READING if rule.name != "front_matter"),
        Rule("erased", "erased", NoneOf(("erased",)), "this was erased and must not come back"),
        Rule(
            "roles",
            "roles",
            Matches(r"\A(?:s?(?:ua)+|s?u(?:au)*/a/a|d)\Z"),
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
        *_of_lengths(checks),
        *_of_example_texts(checks),
        Rule(
            "duplicate_content",
            "repeats",
            NoneOf(("content",)),
            "the same content stands earlier, about others",
            "warning",
        ),
        Rule(
            "unread_meaning",
            "unread",
            Between(None, 0),
            "it has keys that say how it is meant, and that nothing reads",
            "warning",
        ),
        Rule("old_key", "old_names", Between(None, 0), "the key subject is called data_subject now", "warning"),
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


_SEVERITIES: Mapping[str, Severity] = {"reject": "rejected", "quarantine": "waiting", "report": "warning"}


def _of_lengths(checks: Checks) -> list[Rule]:
    """Returns the rules about a row in the tokens of the base model. Training leaves out what breaks the first two."""
    rules = [
        Rule("untrainable", "untrainable", NoneOf(tuple(lengths.REASONS)), "nothing can be learned from it"),
        Rule(
            "equal_after_truncation",
            "equal_after_cut",
            Between(None, 0),
            "chosen and rejected are the same within training.dpo.max_length",
        ),
    ]
    if checks.truncation not in _SEVERITIES:
        return rules
    return [
        *rules,
        Rule(
            "truncated_answer",
            "cut_answers",
            Between(None, 0),
            "an answer reaches beyond max_length of its training",
            _SEVERITIES[checks.truncation],
        ),
        Rule(
            "lost_answer",
            "lost_answers",
            Between(None, 0),
            "its last answer lies beyond training.sft.max_length",
            "warning",
        ),
    ]


_NONE = Between(None, 0)
# What texts hold, by the key of `checks` or `checks.documents` that says what becomes of it: what passes, and the words
# of a finding.
_OF_TEXTS: Mapping[str, tuple[Between, str]] = {
    "credentials": (_NONE, "it holds a credential"),
    "personal_data": (_NONE, "it holds personal data"),
    "abuse": (_NONE, "it holds a slur, an insult, a threat or a call for hate"),
    "mojibake": (_NONE, "letters in it were decoded in the wrong encoding"),
    "other_language": (_NONE, "it is in a language that the use case does not have"),
    "debris": (_NONE, "it holds tags or entities of HTML"),
    "repetition": (Between(None, 33), "a third or more of it says again what stands before"),
    "contamination": (_NONE, "it asks what a suite of the evaluation asks"),
    "other_answers": (_NONE, "the same prompt stands earlier, with another answer"),
    "excuses": (_NONE, "an answer speaks of itself as a model"),
}
OF_DOCUMENT_TEXTS = frozenset(_OF_TEXTS.keys() & DocumentChecks.model_fields.keys())


def _of_texts(actions: Mapping[str, str]) -> Iterator[Rule]:
    """Yields the rules about what texts hold, each with the severity that the use case gives it."""
    for name, (test, text) in _OF_TEXTS.items():
        if actions.get(name) in _SEVERITIES:
            yield Rule(name, name, test, text, _SEVERITIES[actions[name]])


def _of_example_texts(checks: Checks) -> Iterator[Rule]:
    yield from _of_texts(
        {
            "credentials": checks.credentials,
            "personal_data": checks.personal_data,
            "abuse": checks.abuse,
            "mojibake": checks.mojibake,
            "other_language": checks.other_language,
            "debris": checks.debris,
            "repetition": checks.repetition,
            "contamination": checks.contamination,
            "other_answers": checks.other_answers,
            "excuses": checks.excuses,
        }
    )
    if checks.personal_data == "redact":
        yield Rule("redacted", "redacted", _NONE, "personal data in it was redacted", "warning")


def for_documents(checks: Checks) -> tuple[Rule, ...]:
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
        # After those about its rights and dates: what waits by one of these has rights that can be read.
        *_of_texts(checks.documents.model_dump()),
        Rule("duplicate_text", "repeats", NoneOf(("text",)), "another document has the same text", "warning"),
    )


def breach(rules: Iterable[Rule], measures: Measures) -> Rule | None:
    """Returns the first rule that a row breaks and that leaves it out, for good or until a person accepts it; or
    None."""
    return next((r for r in rules if r.severity != "warning" and not r.test.holds(measures[r.measure])), None)


def warnings(rules: Iterable[Rule], measures: Measures) -> list[Rule]:
    """Returns the rules that an accepted row breaks and that are warnings."""
    return [r for r in rules if r.severity == "warning" and not r.test.holds(measures[r.measure])]


def detail(rule: Rule, problem: Problem | None, unread: str | None = None, measures: Measures | None = None) -> str:
    """Returns what a finding says: what reading found, where it did, else the rule's own words; of a row in tokens, how
    many. `unread` are the names of the keys that nothing reads, `measures` those of an example."""
    if problem is not None and problem.rule == rule.name:
        return problem.detail
    if rule.name == "unread_meaning" and unread:
        return f"{rule.detail}: {unread}"
    if measures is not None and rule.name == "untrainable":
        reason: Reason = measures["untrainable"]
        return f"{rule.detail}: {lengths.REASONS[reason]} ({reason})"
    if measures is not None and rule.measure in ("cut_answers", "lost_answers", "equal_after_cut"):
        tokens, cut = measures["tokens"], measures["cut"]
        return f"{rule.detail}: {tokens:,} tokens, and {tokens - cut:,} are read"
    return rule.detail
