"""The forms of training rows, and the one form they go on in."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import formats
from pipeline.data.formats import Example
from pipeline.data.reading import Row
from pipeline.errors import BadInput
from pipeline.usecase import ExampleKind

pytestmark = pytest.mark.unit

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def of(value: Any, kind: ExampleKind = "sft", form: str = "messages") -> Example:
    return formats.example(Row(3, value), "file", kind, form)


def said(*turns: str) -> list[dict[str, str]]:
    """Returns messages, the user's and the assistant's in turn."""
    return [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]


@given(TEXT, TEXT)
def test_one_conversation_is_the_same_row_in_every_format(asked: str, answer: str) -> None:
    same = [
        of({"messages": said(asked, answer)}),
        of({"instruction": asked, "input": "", "output": answer}, form="alpaca"),
        of({"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]}, form="sharegpt"),
    ]
    assert same[0].content == {"messages": said(asked, answer)}
    assert len({row.digest for row in same}) == 1


@given(TEXT, TEXT, TEXT)
def test_one_preference_is_the_same_row_in_every_format(asked: str, chosen: str, rejected: str) -> None:
    wanted = {
        "prompt": said(asked),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
    same = [
        of({"prompt": asked, "chosen": chosen, "rejected": rejected}, "preference", "preference"),
        of(wanted, "preference", "preference"),
        of({**wanted, "chosen": wanted["chosen"][0]}, "preference", "preference"),
        of(
            {
                "conversations": [{"from": "human", "value": asked}],
                "chosen": {"from": "gpt", "value": chosen},
                "rejected": {"from": "gpt", "value": rejected},
            },
            "preference",
            "sharegpt",
        ),
    ]
    assert [row.content for row in same] == [wanted] * 4


@given(TEXT, TEXT, st.none() | TEXT, st.lists(TEXT, max_size=3))
def test_a_snapshot_gives_the_row_back(asked: str, answer: str, subject: str | None, documents: list[str]) -> None:
    row = of({"messages": said(asked, answer), "subject": subject, "documents": documents, "more": 1})
    again = Example.from_dict(json.loads(json.dumps(row.as_dict())))
    assert again == row
    assert again.digest == row.digest
    assert row.unknown_keys == 1


def test_alpaca_with_input_system_and_history() -> None:
    row = of(
        {"instruction": "Add", "input": "1 2", "output": "3", "system": "Be brief", "history": [["Hi", "Hello"]]},
        form="alpaca",
    )
    assert row.content == {
        "messages": [{"role": "system", "content": "Be brief"}, *said("Hi", "Hello", "Add\n\n1 2", "3")]
    }


def test_the_place_does_not_count_and_the_subject_does() -> None:
    row = {"messages": said("Who?", "Me.")}
    here, there = (
        formats.example(Row(1, row), "a", "sft", "messages"),
        formats.example(Row(9, row), "b", "sft", "messages"),
    )
    about = of({**row, "subject": "p-1"})
    assert here.digest == there.digest
    assert about.digest != here.digest
    assert about.content_digest == here.content_digest


@pytest.mark.parametrize(
    ("value", "kind", "form", "rule"),
    [
        ([1], "sft", "messages", "not_an_object"),
        ("text", "sft", "messages", "not_an_object"),
        ({}, "sft", "messages", "missing_field"),
        ({"messages": []}, "sft", "messages", "wrong_type"),
        ({"messages": "Hi"}, "sft", "messages", "wrong_type"),
        ({"messages": [{"role": "user"}]}, "sft", "messages", "wrong_type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "sft", "messages", "wrong_type"),
        ({"messages": said("a", "b"), "subject": 7}, "sft", "messages", "wrong_type"),
        ({"messages": said("a", "b"), "documents": "a"}, "sft", "messages", "wrong_type"),
        ({"instruction": "a"}, "sft", "alpaca", "missing_field"),
        ({"instruction": "a", "output": None}, "sft", "alpaca", "wrong_type"),
        ({"instruction": "a", "output": "b", "history": ["a"]}, "sft", "alpaca", "wrong_type"),
        ({"prompt": "a", "chosen": "b"}, "preference", "preference", "missing_field"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "preference", "sharegpt", "missing_field"),
    ],
)
def test_a_row_that_is_not_of_its_format(value: Any, kind: ExampleKind, form: str, rule: str) -> None:
    row = of(value, kind, form)
    assert row.content is None
    assert row.problem is not None
    assert row.problem.rule == rule


@pytest.mark.parametrize(
    ("row", "kind", "form"),
    [
        ({"messages": []}, "sft", "messages"),
        ({"instruction": ""}, "sft", "alpaca"),
        ({"conversations": []}, "sft", "sharegpt"),
        ({"conversations": [], "chosen": {}}, "preference", "sharegpt"),
        ({"prompt": "", "chosen": ""}, "preference", "preference"),
        ({"other": 1}, "preference", "preference"),
    ],
)
def test_the_format_is_guessed_from_the_first_row(row: dict[str, Any], kind: ExampleKind, form: str) -> None:
    assert formats.guess([Row(1, None), Row(2, row)], kind) == form


@pytest.mark.parametrize(("kind", "form"), [("sft", "preference"), ("preference", "alpaca"), ("chat", "messages")])
def test_a_kind_and_a_format_that_do_not_go_together(kind: ExampleKind, form: str) -> None:
    with pytest.raises(BadInput, match="allowed"):
        formats.require(kind, form, "usecase.yaml")
