"""The forms in which training rows arrive, and the one form in which they go on: lists of {role, content}."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import canonical
from pipeline.data.reading import Problem, Row
from pipeline.errors import BadInput
from pipeline.usecase import ExampleKind

Message = dict[str, str]
Content = dict[str, list[Message]]

FORMATS: Mapping[ExampleKind, tuple[str, ...]] = {
    "sft": ("messages", "alpaca", "sharegpt"),
    "preference": ("preference", "sharegpt"),
}
# What a row may say beside its content: its name and origin, the person it is about, the documents it speaks of.
_KNOWN = {"id", "source", "subject", "documents"}
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class Example:
    """One training row in its canonical form, with the place it came from."""

    file: str
    line: int
    kind: ExampleKind
    content: Content | None  # {"messages"} or {"prompt", "chosen", "rejected"}; None where there is a problem
    subject: str | None = None
    documents: tuple[str, ...] = ()
    unknown_keys: int = 0  # keys that nothing here reads
    problem: Problem | None = None

    @property
    def content_digest(self) -> str:
        """Returns the digest of kind and content."""
        return canonical.digest({"kind": self.kind, "content": self.content})

    @property
    def digest(self) -> str:
        """Returns the row's identity: content, and whom and what it is about. Its place does not count."""
        row = {"kind": self.kind, "content": self.content, "subject": self.subject, "documents": list(self.documents)}
        return canonical.digest(row)

    def as_dict(self) -> dict[str, Any]:
        """Returns the row as a snapshot keeps it."""
        problem = None if self.problem is None else [self.problem.rule, self.problem.detail]
        return {**self.__dict__, "documents": list(self.documents), "problem": problem}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Example":
        """Returns the row that a snapshot kept."""
        problem = None if row["problem"] is None else Problem(*row["problem"])
        return cls(**{**row, "documents": tuple(row["documents"]), "problem": problem})


class _Unfit(Exception):
    """A row that is JSON, but not of its format."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(rule, detail)


def require(kind: ExampleKind, form: str, where: str) -> None:
    """Raises BadInput where rows of this kind do not come in this format."""
    if kind not in FORMATS:
        raise BadInput("unknown kind of example", where=where, found=kind, allowed=", ".join(FORMATS))
    if form not in FORMATS[kind]:
        raise BadInput(
            f"{kind} rows do not come in this format", where=where, found=form, allowed=", ".join(FORMATS[kind])
        )


def guess(rows: list[Row], kind: ExampleKind) -> str:
    """Returns the format that the first readable row looks like; the kind's own where none does."""
    marks = {"messages": "messages", "conversations": "sharegpt", "instruction": "alpaca", "chosen": "preference"}
    first = next((row.value for row in rows if isinstance(row.value, dict)), {})
    likely = next((form for mark, form in marks.items() if mark in first and form in FORMATS[kind]), None)
    return likely or FORMATS[kind][0]


def example(row: Row, file: str, kind: ExampleKind, form: str) -> Example:
    """Returns the example that a row holds, or the problem it has: the reader's, or `not_an_object`, `missing_field` or
    `wrong_type`."""
    if row.problem is not None:
        return Example(file, row.line, kind, None, problem=row.problem)
    try:
        if not isinstance(row.value, dict):
            raise _Unfit("not_an_object", "a row is an object with named fields")
        content, used = _CONTENT[form](row.value, kind)
        subject = _text(row.value, "subject") if row.value.get("subject") is not None else None
        documents = _documents(row.value.get("documents"))
        unknown = len(row.value.keys() - used - _KNOWN)
    except _Unfit as unfit:
        return Example(file, row.line, kind, None, problem=unfit.problem)
    return Example(file, row.line, kind, content, subject, documents, unknown)


def _messages(row: dict[str, Any], kind: ExampleKind) -> tuple[Content, set[str]]:
    return {"messages": _turns(row, "messages", "role", "content")}, {"messages"}


def _preference(row: dict[str, Any], kind: ExampleKind) -> tuple[Content, set[str]]:
    content = {
        "prompt": _said(row, "prompt", "user"),
        "chosen": _said(row, "chosen", "assistant"),
        "rejected": _said(row, "rejected", "assistant"),
    }
    return content, {"prompt", "chosen", "rejected"}


def _alpaca(row: dict[str, Any], kind: ExampleKind) -> tuple[Content, set[str]]:
    instruction, output = _text(row, "instruction"), _text(row, "output")
    given = _text(row, "input") if row.get("input") is not None else ""
    messages = [{"role": "system", "content": _text(row, "system")}] if row.get("system") else []
    for pair in row.get("history") or []:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(said, str) for said in pair):
            raise _Unfit("wrong_type", "the field history is a list of pairs of question and answer")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    question = f"{instruction}\n\n{given}" if given.strip() else instruction
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": output}]
    return {"messages": messages}, {"instruction", "input", "output", "system", "history"}


def _sharegpt(row: dict[str, Any], kind: ExampleKind) -> tuple[Content, set[str]]:
    turns = _turns(row, "conversations", "from", "value")
    if row.get("system"):
        turns.insert(0, {"role": "system", "content": _text(row, "system")})
    if kind == "sft":
        return {"messages": turns}, {"conversations", "system"}
    answers = {name: [_turn(row.get(name), name, "from", "value")] for name in ("chosen", "rejected")}
    return {"prompt": turns, **answers}, {"conversations", "chosen", "rejected", "system"}


_CONTENT: Mapping[str, Callable[[dict[str, Any], ExampleKind], tuple[Content, set[str]]]] = {
    "messages": _messages,
    "preference": _preference,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
}


def _text(row: Mapping[str, Any], field: str) -> str:
    if field not in row:
        raise _Unfit("missing_field", f"the field {field} is missing")
    if not isinstance(row[field], str):
        raise _Unfit("wrong_type", f"the field {field} is text")
    return str(row[field])


def _said(row: Mapping[str, Any], field: str, role: str) -> list[Message]:
    """Returns a field that is either text, said by `role`, or one message, or a list of them."""
    value = row.get(field)
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, dict):
        return [_turn(value, field, "role", "content")]
    return _turns(row, field, "role", "content")


def _turns(row: Mapping[str, Any], field: str, role: str, said: str) -> list[Message]:
    if field not in row:
        raise _Unfit("missing_field", f"the field {field} is missing")
    if not isinstance(row[field], list) or not row[field]:
        raise _Unfit("wrong_type", f"the field {field} is a list of messages, at least one")
    return [_turn(turn, field, role, said) for turn in row[field]]


def _turn(turn: Any, field: str, role: str, said: str) -> Message:
    if turn is None:
        raise _Unfit("missing_field", f"the field {field} is missing")
    if not isinstance(turn, dict) or not isinstance(turn.get(role), str) or not isinstance(turn.get(said), str):
        raise _Unfit("wrong_type", f"a message in {field} is an object with {role} and {said}, both text")
    return {
        "role": _SHAREGPT_ROLES.get(turn[role], turn[role]) if role == "from" else turn[role],
        "content": turn[said],
    }


def _documents(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
        raise _Unfit("wrong_type", "the field documents is a list of document ids")
    return tuple(sorted(set(value)))
