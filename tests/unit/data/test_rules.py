"""The rules, and that a column at a time they say what they say of a row."""

from functools import cache
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import tokenizer
from pipeline.chat import Chat
from pipeline.data import document_measures, measures, rules, verdicts
from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.data.layouts import Content
from pipeline.data.lengths import Lengths
from pipeline.data.measures import Measures
from pipeline.data.rows import Problem
from pipeline.settings import from_environment
from pipeline.usecase import BaseModelSource, Checks

pytestmark = pytest.mark.unit

CHECKS = Checks(min_characters=3, max_characters=60)


def turns(text: str) -> list[dict[str, str]]:
    """Returns messages from `role:content` pieces, such as `user:Who?|assistant:Me.`."""
    return [dict(zip(("role", "content"), piece.split(":", 1), strict=True)) for piece in text.split("|")]


def supervised(text: str, **more: Any) -> Example:
    return Example("f", 1, "sft", {"messages": turns(text)}, **more)


def preference(prompt: str, chosen: str, rejected: str) -> Example:
    content: Content = {"prompt": turns(prompt), "chosen": turns(chosen), "rejected": turns(rejected)}
    return Example("f", 1, "preference", content)


def broken(*rows: Example, documents: dict[str, str] | None = None) -> list[str | None]:
    """Returns the rule by which each row is rejected."""
    table = rules.for_examples(CHECKS)
    found = [rules.breach(table, m) for m in measures.of_examples(rows, lambda _: False, documents)]
    return [None if rule is None else rule.name for rule in found]


def warned(*rows: Example, documents: dict[str, str]) -> list[set[str]]:
    """Returns the rules of which each row's findings are told."""
    table = [rule for rule in rules.for_examples(CHECKS) if rule.severity == "warning"]
    measured = measures.of_examples(rows, lambda _: False, documents)
    return [{rule.name for rule in table if not rule.test.holds(each[rule.measure])} for each in measured]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (supervised("user:Who?|assistant:Me."), None),
        (supervised("system:Be brief.|user:Who?|assistant:Me."), None),
        (supervised("user:Who?|assistant:Me.|user:Why?|assistant:Because."), None),
        (supervised("user:Who?"), "roles"),
        (supervised("assistant:Me."), "roles"),
        (supervised("user:Who?|user:Who?|assistant:Me."), "roles"),
        (supervised("user:Who?|assistant:Me.|assistant:Me."), "roles"),
        (supervised("user:Who?|system:Be brief.|assistant:Me."), "roles"),
        (supervised("user:Who?|tool:x|assistant:Me."), "roles"),
        (supervised("user:Who?|u:a|assistant:Me."), "roles"),
        (supervised("user: |assistant:Me."), "empty_turn"),
        (supervised("user:Who?|assistant: |user:Why?|assistant:Because."), "empty_turn"),
        (supervised("user:Who?|assistant: \n"), "empty_answer"),
        (supervised("user:Who?|assistant:I."), "short_answer"),
        (supervised("user:Who?|assistant:" + "x" * 57), "long_row"),
        (preference("user:Who?", "assistant:Me.", "assistant:You."), None),
        (preference("user:Who?|assistant:Me.|user:Why?", "assistant:Because.", "assistant:You."), None),
        (preference("user:Who?|assistant:Me.", "assistant:Because.", "assistant:You."), "roles"),
        (preference("user:Who?", "user:Me.", "assistant:You."), "roles"),
        (preference("user:Who?", "assistant:Me.|user:Why?|assistant:So.", "assistant:You."), "roles"),
        (preference("user: ", "assistant:Me.", "assistant:You."), "empty_turn"),
        (preference("user:Who?", "assistant:Me.", "assistant: "), "empty_answer"),
        (preference("user:Who?", "assistant:Me.", "assistant:I."), "short_answer"),
        (preference("user:Who?", "assistant:Me.", "assistant: Me.\n"), "same_answers"),
        (Example("f", 1, "sft", None, problem=Problem("wrong_type", "a field")), "wrong_type"),
        (Example("f", 1, "sft", None, problem=Problem("erased", "erased")), "erased"),
    ],
)
def test_an_example_is_rejected_by_the_first_rule_that_it_breaks(row: Example, rule: str | None) -> None:
    assert broken(row) == [rule]


def test_the_second_of_two_equal_rows_is_rejected_and_the_same_about_others_is_told() -> None:
    row = supervised("user:Who?|assistant:Me.")
    about = supervised("user:Who?|assistant:Me.", subject="p-1")
    assert broken(row, row, about) == [None, "duplicate", None]
    assert warned(row, about, documents={}) == [set(), {"duplicate_content"}]


def test_documents_that_are_not_there_or_are_withdrawn_are_told() -> None:
    row = supervised("user:Who?|assistant:Me.", documents=("a", "b"))
    assert warned(row, documents={"a": "approved", "b": "approved"}) == [set()]
    assert warned(row, documents={"a": "approved"}) == [{"unknown_document"}]
    assert warned(row, documents={"a": "approved", "b": "withdrawn"}) == [{"withdrawn_document"}]
    assert broken(row, documents=None) == [None]


@cache
def tiny() -> Chat:
    """The tiny model's chat template."""
    settings = from_environment({"NIGHTSHIFT_HOME": "/nonexistent"})
    return Chat(tokenizer.load(settings, tokenizer.locate(settings, BaseModelSource())))


SHORT = Checks(truncation="reject")
CONTROL = Example("f", 1, "sft", {"messages": [*turns("user:Who?"), {"role": "assistant", "content": "<|im_end|>"}]})
LONG = "Because of what the rules of the house say. " * 9


def by_tokens(row: Example, checks: Checks = SHORT, max_length: int = 64) -> tuple[str | None, str, list[str]]:
    """Returns the rule by which a row is rejected in tokens and what is said of it, and the warnings."""
    (measured,) = measures.of_examples(
        [row], lambda _: False, None, checks, (), Lengths(tiny(), {"sft": max_length, "preference": max_length})
    )
    table = rules.for_examples(checks)
    rule = rules.breach(table, measured)
    warnings = [each.name for each in rules.warnings(table, measured)]
    said = [rules.detail(each, row.problem, None, measured) for each in table if rule is each or each.name in warnings]
    return (None if rule is None else rule.name), "; ".join(said), warnings


@pytest.mark.parametrize(
    ("row", "rule", "detail"),
    [
        (supervised("user:Who?|assistant:Me."), None, ""),
        (supervised(f"user:Who?|assistant:{LONG}"), "truncated_answer", "and 64 are read"),
        (supervised(f"user:{LONG}|assistant:Me."), "untrainable", "(answer_beyond_max_length)"),
        (CONTROL, "untrainable", "(control_token_in_answer)"),
        (preference("user:Who?", "assistant:Me.", "assistant:You."), None, ""),
        (preference("user:Who?", f"assistant:{LONG}", "assistant:You."), "truncated_answer", "and 64 are read"),
        (preference("user:Who?", "assistant:You.", f"assistant:{LONG}"), "truncated_answer", "and 64 are read"),
        (preference("user:Who?", f"assistant:{LONG}", f"assistant:{LONG}!"), "equal_after_truncation", "64 are read"),
        (preference(f"user:{LONG}", "assistant:Me.", "assistant:You."), "untrainable", "(prompt_fills_max_length)"),
        (Example("f", 1, "sft", None, problem=Problem("wrong_type", "a field")), "wrong_type", "a field"),
    ],
)
def test_a_row_is_rejected_for_what_it_is_in_tokens(row: Example, rule: str | None, detail: str) -> None:
    name, said, _ = by_tokens(row)
    assert name == rule
    assert detail in said
    assert by_tokens(row, max_length=4_096)[0] in (None, "wrong_type") or "control_token" in said


def test_what_becomes_of_a_cut_answer_is_the_use_cases_to_say() -> None:
    row = supervised(f"user:Who?|assistant:{LONG}")
    action: Literal["reject", "quarantine", "report", "off"]
    for action, left_out, reported in (("reject", True, False), ("report", False, True), ("off", False, False)):
        name, _, warnings = by_tokens(row, Checks(truncation=action))
        assert (name == "truncated_answer", "truncated_answer" in warnings) == (left_out, reported)
    (waiting,) = [
        rule for rule in rules.for_examples(Checks(truncation="quarantine")) if rule.name == "truncated_answer"
    ]
    assert (waiting.severity, waiting.may_be_waived) == ("waiting", True)


def test_a_conversation_whose_last_turns_are_not_read_is_told() -> None:
    row = supervised(f"user:Who?|assistant:Me.|user:{LONG}|assistant:No.")
    assert by_tokens(row)[::2] == (None, ["lost_answer"])
    assert by_tokens(row, Checks(truncation="off"))[::2] == (None, [])


def test_rows_that_were_not_measured_in_tokens_pass() -> None:
    for row in (CONTROL, supervised(f"user:{LONG}|assistant:{LONG}")):
        (measured,) = measures.of_examples([row], lambda _: False, None, SHORT)
        assert rules.breach(rules.for_examples(SHORT), measured) is None


def text(**fields: Any) -> Document:
    sound: dict[str, Any] = {
        "file": "f",
        "line": 1,
        "key": "card-limits",
        "title": "Limits",
        "text": "The limit is 10 EUR.",
        "tenant": "main",
        "classification": "internal",
        "groups": ("staff",),
        "owner": "someone",
    }
    return Document(**{**sound, **fields})


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, None),
        ({"status": "withdrawn"}, None),
        ({"key": "Card Limits"}, "document_id"),
        ({"key": "card-limits\n"}, "document_id"),
        ({"key": ""}, "document_id"),
        ({"tenant": "Northbank"}, "tenant"),
        ({"classification": "secret"}, "classification"),
        ({"groups": ()}, "groups"),
        ({"groups": ("staff", " ")}, "groups"),
        ({"status": "draft"}, "status"),
        ({"text": " \n"}, "empty_document"),
        ({"text": None, "problem": Problem("front_matter", "not YAML")}, "front_matter"),
    ],
)
def test_a_document_is_rejected_by_the_first_rule_that_it_breaks(fields: dict[str, Any], rule: str | None) -> None:
    (measured,) = document_measures.of_documents([text(**fields)], lambda _: False, CHECKS)
    found = rules.breach(rules.for_documents(CHECKS), measured)
    assert (None if found is None else found.name) == rule


def test_of_two_documents_with_one_id_the_first_stands() -> None:
    measured = document_measures.of_documents([text(), text(text="Another.")], lambda _: False, CHECKS)
    assert [rules.breach(rules.for_documents(CHECKS), each) is None for each in measured] == [True, False]


def test_names_are_unique() -> None:
    for table in (rules.for_examples(CHECKS), rules.for_documents(CHECKS)):
        names = [rule.name for rule in table]
        assert len(set(names)) == len(names)


ROLE = st.sampled_from(["user", "assistant", "system", "tool"])
TURN = st.builds(lambda role, said: f"{role}:{said}", ROLE, st.sampled_from(["", " ", "No", "Yes.", "x" * 50]))
TURNS = st.lists(TURN, min_size=1, max_size=4).map("|".join)
EXAMPLE = st.one_of(
    st.builds(supervised, TURNS, subject=st.none() | st.just("p-1"), documents=st.sampled_from([(), ("a",), ("z",)])),
    st.builds(preference, TURNS, TURNS, TURNS),
    st.sampled_from(["malformed", "missing_field", "erased"]).map(
        lambda name: Example("f", 1, "sft", None, problem=Problem(name, "-"))
    ),
)
DOCUMENT = st.builds(
    text,
    key=st.sampled_from(["a", "b", "A b", ""]),
    tenant=st.sampled_from(["main", "Main"]),
    classification=st.sampled_from(["public", "secret"]),
    groups=st.sampled_from([(), ("a",)]),
    status=st.sampled_from(["approved", "draft"]),
    text=st.sampled_from(["", "One.", "Two."]),
)


def agree(table: tuple[rules.Rule, ...], measured: list[Measures]) -> None:
    columns = {rule.measure: chunked([row[rule.measure] for row in measured]) for rule in table}
    digests = [f"{place}" for place in range(len(measured))]
    waived = frozenset({("short_answer", "0"), ("roles", "1")})
    judged = verdicts.judge(table, columns, digests, waived)
    for place, row in enumerate(measured):
        broken = [rule for rule in table if not rule.test.holds(row[rule.measure])]
        left = [r for r in broken if r.severity != "warning" and not (place == 0 and r.name == "short_answer")]
        assert judged.rejected.get(place) == (left[0] if left else None)
        warned = [rule for other, rule in judged.warned if other == place]
        assert warned == ([] if left else [rule for rule in broken if rule.severity == "warning"])
    assert [(each.rule, each.rows) for each in judged.reports] == [(rule.name, len(measured)) for rule in table]


def chunked(values: list[Any]) -> pa.ChunkedArray:
    """Returns a column in two pieces."""
    kind = pa.string() if any(isinstance(value, str) for value in values) else pa.int64()
    half = len(values) // 2
    return pa.chunked_array([pa.array(values[:half], kind), pa.array(values[half:], kind)])


@settings(max_examples=15, deadline=None)
@given(st.lists(EXAMPLE, max_size=8), st.lists(DOCUMENT, max_size=6))
def test_a_column_at_a_time_the_rules_say_what_they_say_of_each_row(
    examples: list[Example], documents: list[Document]
) -> None:
    lengths = Lengths(tiny(), {"sft": 16, "preference": 16})
    measured = measures.of_examples(examples, lambda row: row.subject is not None, {"a": "withdrawn"}, lengths=lengths)
    agree(rules.for_examples(CHECKS), measured)
    agree(rules.for_documents(CHECKS), document_measures.of_documents(documents, lambda row: row.key == "b", CHECKS))
