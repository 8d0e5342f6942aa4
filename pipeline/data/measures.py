"""Measures of rows: the lengths, roles and counts that rules speak of. Never text."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from typing import Any

from pipeline.data import credentials, personal, quality, texts
from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.data.layouts import Content
from pipeline.data.lengths import Length, Lengths
from pipeline.data.normal import digest, normal
from pipeline.data.splits import normalised, question
from pipeline.usecase import Checks

Measures = dict[str, Any]
_ROLES = {"system": "s", "user": "u", "assistant": "a"}


@dataclass(frozen=True)
class Marks:
    """What of an example is compared with other rows: 16 bytes of each text's hash, never the text."""

    row: bytes  # content, and whom and what it is about
    content: bytes
    prompt: bytes | None = None  # of a conversation
    answer: bytes | None = None  # its last one
    questions: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What an example says of itself, whatever rows stand beside it."""

    measures: Measures
    marks: Marks | None  # None where it could not be read
    documents: tuple[str, ...] = ()


def of_example(
    row: Example, erased: Callable[[Example], bool], checks: Checks, lengths: Lengths | None = None
) -> Measured:
    """Returns the measures of an example; those of content are None where it could not be read, those in tokens where
    nothing measures `lengths`."""
    measures: Measures = {**dict.fromkeys(OWN), **_problem(row)}
    if row.content is None:
        return Measured(measures, None)
    measures |= {
        "erased": "erased" if erased(row) else None,
        "unread": len(row.unread),
        "old_names": row.old_names,
        "unknown_keys": row.unknown_keys,
        "redacted": int(row.redacted),
        **_content_measures(row.content),
        **_text_measures(row.content, checks),
        **_token_measures(row, lengths),
    }
    return Measured(measures, _marks(row, row.content), row.documents)


def _token_measures(row: Example, lengths: Lengths | None) -> Measures:
    length = None if lengths is None else lengths.of(row)
    return {} if length is None else asdict(length) | {"equal_after_cut": int(length.equal_after_cut)}


def _marks(row: Example, content: Content) -> Marks:
    seen = row.normal_digest
    about = mark("\n".join(("row", seen, row.subject or "", *row.documents)))
    marks = tuple(map(question_mark, questions(content)))
    if "messages" not in content:
        return Marks(about, mark(f"content\n{seen}"), questions=marks)
    *prompt, answer = content["messages"]
    return Marks(about, mark(f"content\n{seen}"), mark(digest(prompt)), mark(normal(answer["content"])), marks)


def questions(content: Content) -> list[str]:
    """Returns what a row asks, without the passages that stand before it."""
    turns = content["messages"] if "messages" in content else content["prompt"]
    return [question(turn["content"]) for turn in turns if turn["role"] == "user"]


def question_mark(text: str) -> bytes:
    """Returns the mark of a question, whatever passages stand before it and however it is written."""
    return mark(normalised(question(text)))


class Beside:
    """Measures of examples one after another that depend on other rows: those before, the documents, the evaluation."""

    def __init__(self, documents: Mapping[str, str] | None, asked: Collection[bytes] = frozenset()) -> None:
        """`documents` are the documents that there are, id to status; None where they are not known. `asked` are the
        marks of the evaluation's questions."""
        self._documents, self._asked = documents, asked
        self._seen: set[bytes] = set()
        self._answered: dict[bytes, bytes] = {}  # the first answer to each prompt

    def of(self, marks: Marks | None, documents: Sequence[str]) -> Measures:
        """Returns the measures of an example, None where it could not be read, and remembers it."""
        if marks is None:
            return dict.fromkeys(BESIDE)
        statuses = Counter((self._documents or {}).get(key, "missing") for key in documents)
        repeats = "row" if marks.row in self._seen else "content" if marks.content in self._seen else None
        self._seen.update((marks.row, marks.content))
        return {
            "repeats": repeats,
            "missing_documents": None if self._documents is None else statuses["missing"],
            "withdrawn_documents": statuses["withdrawn"],
            "contamination": sum(each in self._asked for each in marks.questions) if self._asked else 0,
            "other_answers": self._other_answers(marks),
        }

    def _other_answers(self, marks: Marks) -> int:
        """Returns 1 where the prompt of a conversation stands earlier with another answer, else 0."""
        if marks.prompt is None or marks.answer is None:
            return 0
        return int(self._answered.setdefault(marks.prompt, marks.answer) != marks.answer)


class ExampleMeasures:
    """Measures examples one after another, with all that rules look at."""

    def __init__(
        self,
        erased: Callable[[Example], bool],
        documents: Mapping[str, str] | None,
        checks: Checks | None = None,
        asked: Iterable[str] = (),
        lengths: Lengths | None = None,
    ) -> None:
        """`asked` are the questions of the evaluation, `lengths` measures rows in tokens, None where nothing does; see
        Beside."""
        self._erased, self._checks, self._lengths = erased, checks or Checks(), lengths
        self._beside = Beside(documents, frozenset(map(question_mark, asked)))

    def of(self, row: Example) -> Measures:
        """Returns the measures of an example."""
        own = of_example(row, self._erased, self._checks, self._lengths)
        return own.measures | self._beside.of(own.marks, own.documents)


def of_examples(
    examples: Iterable[Example],
    erased: Callable[[Example], bool],
    documents: Mapping[str, str] | None,
    checks: Checks | None = None,
    asked: Iterable[str] = (),
    lengths: Lengths | None = None,
) -> list[Measures]:
    """Returns the measures of each example; see ExampleMeasures."""
    measuring = ExampleMeasures(erased, documents, checks, asked, lengths)
    return [measuring.of(row) for row in examples]


BESIDE = ("repeats", "missing_documents", "withdrawn_documents", "contamination", "other_answers")
OWN = (
    "problem",
    "erased",
    "roles",
    "blank_turns",
    "answer_characters",
    "characters",
    "answers",
    "unread",
    "old_names",
    "unknown_keys",
    "redacted",
    "credentials",
    "personal_data",
    "mojibake",
    "other_language",
    "debris",
    "repetition",
    "excuses",
    "abuse",
    *(field.name for field in fields(Length)),
)


def _content_measures(content: Mapping[str, Sequence[Mapping[str, str]]]) -> Measures:
    parts = (
        [content["messages"]] if "messages" in content else [content[name] for name in ("prompt", "chosen", "rejected")]
    )
    answers = [normal(part[-1]["content"]) for part in (parts[1:] or parts)]
    others = [
        *parts[0][:-1],
        *(turn for part in parts[1:] for turn in part[:-1]),
        *(parts[0][-1:] if parts[1:] else []),
    ]
    return {
        "roles": "/".join("".join(_ROLES.get(turn["role"], "?") for turn in part) for part in parts),
        "blank_turns": sum(not normal(turn["content"]) for turn in others),
        "answer_characters": min(len(answer) for answer in answers),
        "characters": sum(len(turn["content"]) for part in parts for turn in part),
        "answers": "same" if len(answers) > 1 and answers[0] == answers[1] else None,
    }


def _text_measures(content: Content, checks: Checks) -> Measures:
    """Returns what the texts of a row hold; None where the use case does not ask."""
    every = [turn["content"] for part in content.values() for turn in part]
    spoken = content.get("messages") or [*content["chosen"], *content["rejected"]]
    answers = [turn["content"] for turn in spoken if turn["role"] == "assistant"]
    whole = "\n".join(every)

    def unless_off(action: str, measure: Callable[[], int]) -> int | None:
        return None if action == "off" else measure()

    return {
        "credentials": unless_off(checks.credentials, lambda: len(credentials.kinds(whole))),
        "personal_data": unless_off(checks.personal_data, lambda: len(_personal(whole, checks))),
        "mojibake": unless_off(checks.mojibake, lambda: sum(map(quality.mojibake, every))),
        "other_language": unless_off(
            checks.other_language if checks.languages else "off",
            lambda: int((quality.language(whole) or checks.languages[0]) not in checks.languages),
        ),
        "debris": unless_off(checks.debris, lambda: quality.debris(whole)),
        "repetition": unless_off(checks.repetition, lambda: max(map(quality.repeated, answers), default=0)),
        "excuses": unless_off(checks.excuses, lambda: sum(map(quality.excuse, answers))),
        "abuse": unless_off(checks.abuse, lambda: texts.abuse_of(content)),
    }


def _personal(text: str, checks: Checks) -> list[personal.Found]:
    return personal.find(text, checks.phone_regions, checks.public_contacts)


def redacted(row: Example, checks: Checks) -> Example:
    """Returns an example with the kind of each piece of personal data in its place; the same where it holds none, or
    where the use case does not redact."""
    if row.content is None or checks.personal_data != "redact":
        return row
    found = {turn["content"]: _personal(turn["content"], checks) for part in row.content.values() for turn in part}
    if not any(found.values()):
        return row
    content = {
        name: [{**turn, "content": personal.redacted(turn["content"], found[turn["content"]])} for turn in part]
        for name, part in row.content.items()
    }
    return replace(row, content=content, redacted=True)


def of_documents(documents: Sequence[Document], erased: Callable[[Document], bool], checks: Checks) -> list[Measures]:
    """Returns the measures of each document; None where it could not be read."""
    repeats = _Repeats()
    rows = []
    for row in documents:
        measures: Measures = {**dict.fromkeys(OF_DOCUMENTS), **_problem(row)}
        if row.text is not None:
            measures |= {
                "erased": "erased" if erased(row) else None,
                "key": row.key or "",
                "repeats": repeats.of({"id": row.key or "", "text": digest(row.text)}),
                "tenant": row.tenant,
                "classification": row.classification,
                "groups": 0 if any(not group.strip() for group in row.groups) else len(row.groups),
                "group_bytes": sum(len(group.encode()) for group in row.groups),
                "controls": sum(_CONTROL.search(text) is not None for text in (*_named(row), *row.groups)),
                "longest": max(len(text) for text in _named(row)),
                "years": " ".join(date[:4] for date in (row.fresh_until, row.retain_until) if date),
                "status": row.status,
                "characters": len(normal(row.text)),
                **texts.of_document(row, checks),
            }
        rows.append(measures)
    return rows


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def _named(row: Document) -> tuple[str, ...]:
    return row.title, row.owner, row.source or "", row.subject or ""


OF_DOCUMENTS = (
    "problem",
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
    *texts.OF_DOCUMENTS,
)


def _problem(row: Example | Document) -> Measures:
    rule = row.problem.rule if row.problem else None
    return {"problem": rule, "erased": "erased" if rule == "erased" else None}


class _Repeats:
    """Remembers what was seen before, by several names of sameness: sixteen bytes of each, not the text."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def of(self, names: Mapping[str, str]) -> str | None:
        """Returns the first kind of sameness that was met before, and remembers all of them."""
        marks = {kind: mark(f"{kind}\n{value}") for kind, value in names.items()}
        met = next((kind for kind, each in marks.items() if each in self.seen), None)
        self.seen.update(marks.values())
        return met


def mark(text: str) -> bytes:
    """Returns 16 bytes of a hash over a text, BLAKE2b (RFC 7693)."""
    return blake2b(text.encode(), digest_size=16).digest()


def statuses(documents: Collection[Document]) -> dict[str, str]:
    """Returns id to status of documents."""
    return {row.key: row.status for row in documents if row.key is not None}
