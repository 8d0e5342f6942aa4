"""Suites: JSONL files of cases, and the locked test split where a use case has none."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline import canonical, parsing, validation
from pipeline.errors import BadInput, nearest
from pipeline.evaluation.cases import Case, Expect, Message, Reference, Suite
from pipeline.results import LOCKED, AnswerForm
from pipeline.usecase import Suite as SuiteFile
from pipeline.usecase import UseCase


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Expect(_Strict):
    answerable: bool
    value: str | None = Field(None, min_length=1)
    aliases: tuple[str, ...] = ()
    source: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> "_Expect":
        if self.answerable and self.value is None and self.source is None:
            raise ValueError("an answerable case needs a value, a source or both")
        if not self.answerable and (self.value or self.source or self.aliases):
            raise ValueError("a case that cannot be answered has neither value nor source")
        return self


class _Line(_Strict):
    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    principal: str = Field(min_length=1)
    expect: _Expect
    tags: tuple[str, ...] = ()


def load(usecase: UseCase) -> list[Suite]:
    """Returns the suites of a use case, in the YAML's order.

    Raises BadInput, with file and line, for a case that is not one, a principal that the use case does not name, an id
    that comes twice, and a file without cases.
    """
    return [read(entry, usecase) for entry in usecase.evaluation.suites]


def read(entry: SuiteFile, usecase: UseCase) -> Suite:
    """Returns one suite. Raises as `load` does."""
    text = entry.path.read_text(encoding="utf-8")
    form = AnswerForm.of(entry)
    cases: dict[str, Case] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        case = _case(line, f"{entry.path}:{number}", usecase, entry, form)
        if case.key in cases:
            raise BadInput("two cases have the same id", where=f"{entry.path}:{number}", found=case.key)
        cases[case.key] = case
    if not cases:
        raise BadInput("a suite without cases", where=entry.path)
    chosen = list(cases.values()) if entry.limit is None else sample(list(cases.values()), entry.limit)
    return Suite(entry.name, entry.gated, tuple(chosen), canonical.digest_text(text), entry.limit, form)


def sample(cases: Sequence[Case], size: int) -> list[Case]:
    """Returns `size` of the cases, in their order: of each kind (first tag, answerable or not) in proportion, chosen by
    digest. A larger sample holds the smaller."""
    kinds: dict[tuple[Any, ...], list[Case]] = {}
    for case in sorted(cases, key=lambda case: (case.digest, case.key)):
        answerable = isinstance(case.expect, Expect) and case.expect.answerable
        kinds.setdefault((*case.tags[:1], answerable), []).append(case)
    ranked = sorted(
        ((place + 0.5) / len(kind), case.digest, case.key) for kind in kinds.values() for place, case in enumerate(kind)
    )
    chosen = {key for _, _, key in ranked[:size]}
    return [case for case in cases if case.key in chosen]


def locked(rows: Sequence[Mapping[str, Any]], *, gated: bool) -> Suite | None:
    """Returns the suite of the locked test rows (digest, kind, content), in the order of their digests, or None where
    there is none. A row that was erased, or has nothing to answer, is no case."""
    cases = []
    for row in sorted(rows, key=lambda row: str(row["digest"])):
        reference = None if row["content"] is None else _reference(row["kind"], row["content"])
        if reference is not None:
            cases.append(Case(row["digest"], row["digest"], None, None, reference, (row["kind"],)))
    return Suite(LOCKED, gated, tuple(cases)) if cases else None


def _case(line: str, where: str, usecase: UseCase, entry: SuiteFile, form: AnswerForm) -> Case:
    try:
        parsed = _Line.model_validate(parsing.parse_json(line))
    except parsing.ParseError as error:
        raise BadInput("this line cannot be read", where=where, found=error.problem) from None
    except ValidationError as error:
        raise validation.bad_input(error, _Line, where, private=True) from None
    if parsed.principal not in usecase.principals:
        raise BadInput(
            "the use case names no such principal",
            where=f"{where}: principal",
            found=parsed.principal,
            allowed=nearest(parsed.principal, usecase.principals) or "none: add it under `principals`",
        )
    others = entry.wordings.get(parsed.expect.value or "", ())
    parsed = parsed.model_copy(
        update={"expect": parsed.expect.model_copy(update={"aliases": (*parsed.expect.aliases, *others)})}
    )
    expect = Expect(parsed.expect.answerable, parsed.expect.value, parsed.expect.aliases, parsed.expect.source)
    # The caller's rights are part of the question: what may be retrieved depends on them.
    rights = usecase.principals[parsed.principal].model_dump(mode="json")
    digest = canonical.digest({**parsed.model_dump(mode="json"), "rights": rights})
    return Case(parsed.id, digest, parsed.question, parsed.principal, expect, parsed.tags, form)


def _reference(kind: str, content: Mapping[str, Any]) -> Reference | None:
    if kind == "sft":
        messages = [_message(entry) for entry in content["messages"]]
        if not messages or messages[-1]["role"] != "assistant" or len(messages) < 2:
            return None
        return Reference(tuple(messages[:-1]), messages[-1]["content"])
    if kind == "text":
        return None
    prompt = content["prompt"]
    question = (
        [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [_message(entry) for entry in prompt]
    )
    return Reference(tuple(question), _reply(content["chosen"]), _reply(content["rejected"]))


def _message(entry: Mapping[str, Any]) -> Message:
    return {"role": str(entry["role"]), "content": str(entry["content"])}


def _reply(entry: str | Sequence[Mapping[str, Any]]) -> str:
    """Returns an answer's text, given as such or as messages of which it is the last."""
    return entry if isinstance(entry, str) else str(entry[-1]["content"])
