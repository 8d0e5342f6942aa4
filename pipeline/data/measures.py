"""Measures of rows: the lengths, roles and counts that rules speak of. Never text."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from pipeline.data import credentials, layouts, marks, personal, quality, splits, tasks, texts
from pipeline.data.beside import Beside
from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.data.layouts import Content
from pipeline.data.lengths import Length, Lengths
from pipeline.data.marks import Marks
from pipeline.data.normal import normal
from pipeline.usecase import Checks

Measures = dict[str, Any]
_ROLES = {"system": "s", "user": "u", "assistant": "a", "document": "d"}


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
    measures: Measures = {**dict.fromkeys(OWN), **of_problem(row)}
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
    return Measured(measures, marks.of(row, row.content), row.documents)


def _token_measures(row: Example, lengths: Lengths | None) -> Measures:
    length = None if lengths is None else lengths.of(row)
    return {} if length is None else asdict(length) | {"equal_after_cut": int(length.equal_after_cut)}


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
        self._beside = Beside(documents, frozenset(map(marks.question_mark, asked)))

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


OWN = (
    "problem",
    "erased",
    "task",
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


def _content_measures(content: Content) -> Measures:
    parts = layouts.parts(content)
    answers = [normal(part[-1]["content"]) for part in (parts[1:] or parts)]
    others = [
        *parts[0][:-1],
        *(turn for part in parts[1:] for turn in part[:-1]),
        *(parts[0][-1:] if parts[1:] else []),
    ]
    return {
        "task": tasks.task_of(next(iter(splits.questions(content)), "") if "text" not in content else ""),
        "roles": "/".join("".join(_ROLES.get(turn["role"], "?") for turn in part) for part in parts),
        "blank_turns": sum(not normal(turn["content"]) for turn in others),
        "answer_characters": min(len(answer) for answer in answers),
        # A plain text of any length is divided, and nothing of it lost.
        "characters": None if "text" in content else sum(len(turn["content"]) for part in parts for turn in part),
        "answers": "same" if len(answers) > 1 and answers[0] == answers[1] else None,
    }


def _text_measures(content: Content, checks: Checks) -> Measures:
    """Returns what the texts of a row hold; None where the use case does not ask."""
    every = [turn["content"] for part in content.values() for turn in part]
    first, *others = layouts.parts(content)
    spoken = [turn for part in others for turn in part] if others else first
    answers = [turn["content"] for turn in spoken if turn["role"] in ("assistant", "document")]
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


def _to_redact(text: str, checks: Checks) -> list[personal.Found]:
    # Addresses of nobody, too: a row keeps the form that it was redacted to before, by which it is known once erased.
    return personal.find(text, checks.phone_regions, checks.public_contacts, examples=True)


def redacted(row: Example, checks: Checks) -> Example:
    """Returns an example with the kind of each piece of personal data in its place; the same where it holds none, or
    where the use case does not redact."""
    if row.content is None or checks.personal_data != "redact":
        return row
    found = {turn["content"]: _to_redact(turn["content"], checks) for part in row.content.values() for turn in part}
    if not any(found.values()):
        return row
    content = {
        name: [{**turn, "content": personal.redacted(turn["content"], found[turn["content"]])} for turn in part]
        for name, part in row.content.items()
    }
    return replace(row, content=content, redacted=True)


def of_problem(row: Example | Document) -> Measures:
    """Returns what kept a row from being read, and whether it was erased."""
    rule = row.problem.rule if row.problem else None
    return {"problem": rule, "erased": "erased" if rule == "erased" else None}
