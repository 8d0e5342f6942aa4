"""The forms of training rows, and the one form they go on in."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import formats
from pipeline.data.formats import Example
from pipeline.data.rows import Row
from pipeline.errors import BadInput
from pipeline.usecase import ExampleKind

pytestmark = pytest.mark.unit

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def of(value: Any, kind: ExampleKind = "sft", form: str = "messages") -> Example:
    (row,) = formats.examples(Row(3, value), "file", kind, form)
    return row


TREE = {
    "prompt": {
        "role": "prompter",
        "text": "Who?",
        "replies": [
            {"role": "assistant", "text": "Eve.", "rank": 1, "replies": []},
            {"role": "assistant", "text": "Ada.", "rank": 0, "replies": []},
            {"role": "assistant", "text": "Spam.", "rank": 2, "deleted": True},
        ],
    }
}


def weighted(weight: float) -> list[dict[str, Any]]:
    return [{**turn, "weight": weight} for turn in said("a", "b")]


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
    (here,) = formats.examples(Row(1, row), "a", "sft", "messages")
    (there,) = formats.examples(Row(9, row), "b", "sft", "messages")
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
        ({"instruction": "a"}, "sft", "alpaca", "missing_field"),
        ({"instruction": "a", "output": None}, "sft", "alpaca", "missing_field"),
        ({"instruction": "a", "output": 7}, "sft", "alpaca", "wrong_type"),
        ({"instruction": "a", "instances": []}, "sft", "alpaca", "wrong_type"),
        ({"messages": said("a", "b"), "data_subject": "p-1", "subject": "p-2"}, "sft", "messages", "two_subjects"),
        ({"messages": said("a", "b"), "label": False}, "sft", "messages", "bad_label"),
        ({"messages": said("a", "b"), "label": "false"}, "sft", "messages", "bad_label"),
        ({"messages": said("a", "b"), "label": 0}, "sft", "messages", "bad_label"),
        ({"messages": said("a", "b"), "label": "spam"}, "sft", "messages", "wrong_type"),
        ({"prompt": "a", "completion": "b", "label": False}, "sft", "prompt_completion", "bad_label"),
        ({"instruction": "a", "output": "b", "label": False}, "sft", "alpaca", "bad_label"),
        ({"messages": weighted(0)}, "sft", "messages", "weighted_turn"),
        ({"messages": weighted(0.5)}, "sft", "messages", "weighted_turn"),
        ({"messages": said("a", "b"), "weight": 0}, "sft", "messages", "weighted_turn"),
        ({"instruction": "a", "output": "b", "weight": 0.3}, "sft", "alpaca", "weighted_turn"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "weight": 2}, "preference", "preference", "weighted_turn"),
        ({"messages": [{**turn, "train": False} for turn in said("a", "b")]}, "sft", "messages", "weighted_turn"),
        ({"messages": said("a", "b"), "tools": [{"name": "f"}]}, "sft", "messages", "tools"),
        ({"messages": [*said("a"), {"role": "assistant", "tool_calls": [{"id": 1}]}]}, "sft", "messages", "tools"),
        ({"messages": [*said("a", "b"), {"role": "tool", "content": "c"}]}, "sft", "messages", "tools"),
        ({"conversations": [{"from": "function_call", "value": "{}"}]}, "sft", "sharegpt", "tools"),
        ({"conversations": [{"from": "observation", "value": "{}"}]}, "sft", "sharegpt", "tools"),
        ({"messages": said("a", "b"), "images": ["a.png"]}, "sft", "messages", "media"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "sft", "messages", "media"),
        (
            {"messages": [{"role": "system", "content": "x"}, *said("a", "b")], "system": "y"},
            "sft",
            "messages",
            "two_systems",
        ),
        ({"prompt": "a", "responses": ["b"], "scores": [1]}, "preference", "ranking", "wrong_type"),
        ({"prompt": "a", "responses": ["b", "c"], "scores": [1]}, "preference", "ranking", "wrong_type"),
        ({"prompt": "a", "responses": ["b", "c"], "scores": [1, 1]}, "preference", "ranking", "no_preference"),
        ({"prompt": "a", "responses": ["b", "c"]}, "preference", "ranking", "missing_field"),
        ({"chosen": said("a", "b"), "rejected": said("c", "d")}, "preference", "preference", "no_shared_prompt"),
        ({"chosen": "b", "rejected": "c"}, "preference", "preference", "missing_field"),
        (TREE | {"prompt": {"role": "prompter", "text": "a", "replies": []}}, "preference", "oasst", "no_preference"),
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


SFT = [
    ("messages", {"messages": said("Who?", "Ada.")}),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}, *said("", "Ada.")[1:]]},
    ),
    (
        "messages",
        {"messages": [{**turn, "weight": 1, "tool_calls": None} for turn in said("Who?", "Ada.")], "tools": []},
    ),
    ("messages", {"messages": said("Who?", "Ada."), "label": True}),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Ada."}]}),
    ("sharegpt", {"conversations": said("Who?", "Ada.")}),
    ("sharegpt", {"conversation": [{"from": "user", "value": "Who?"}, {"from": "model", "value": "Ada."}]}),
    ("alpaca", {"instruction": "Who?", "output": "Ada."}),
    ("alpaca", {"instruction": "Who?", "context": "", "response": "Ada."}),
    ("alpaca", {"instruction": "Who?", "instances": [{"input": "", "output": "Ada."}]}),
    ("prompt_completion", {"prompt": "Who?", "completion": "Ada."}),
    ("prompt_completion", {"prompt": said("Who?"), "completion": [{"role": "assistant", "content": "Ada."}]}),
    ("prompt_completion", {"question": "Who?", "answer": "Ada."}),
    ("oasst", {"prompt": {"role": "prompter", "text": "Who?", "replies": [{"role": "assistant", "text": "Ada."}]}}),
]
PAIR = {"prompt": said("Who?"), "chosen": said("", "Ada.")[1:], "rejected": said("", "Eve.")[1:]}
PAIRS = [
    ("preference", {"prompt": "Who?", "chosen": "Ada.", "rejected": "Eve."}),
    ("preference", PAIR),
    ("preference", {"chosen": said("Who?", "Ada."), "rejected": said("Who?", "Eve.")}),
    ("preference", {"prompt": "Who?", "chosen": said("Who?", "Ada."), "rejected": said("Who?", "Eve.")}),
    (
        "preference",
        {"chosen": "\n\nHuman: Who?\n\nAssistant: Ada.", "rejected": "\n\nHuman: Who?\n\nAssistant: Eve."},
    ),
    (
        "sharegpt",
        {
            "conversations": [{"from": "human", "value": "Who?"}],
            "chosen": "Ada.",
            "rejected": {"from": "gpt", "value": "Eve."},
        },
    ),
    ("ranking", {"prompt": "Who?", "responses": ["Bob.", "Eve.", "Ada."], "scores": [2, 1, 3]}),
    ("ranking", {"prompt": "Who?", "answers": ["Ada.", "Eve.", "Bob."], "ranks": [1, 3, 2]}),
    (
        "ranking",
        {"instruction": "Who?", "completions": [{"response": "Eve.", "rating": 1}, {"response": "Ada.", "rating": 5}]},
    ),
    ("oasst", TREE),
]


@pytest.mark.parametrize(("form", "row"), SFT)
def test_what_people_have_is_detected_and_read_as_one_conversation(form: str, row: dict[str, Any]) -> None:
    assert formats.detect([Row(1, None), Row(2, row)], "sft", "file") == form
    assert of(row, "sft", form).content == {"messages": said("Who?", "Ada.")}
    assert of(row, "sft", form).unread == ()


@pytest.mark.parametrize(("form", "row"), PAIRS)
def test_what_people_have_is_detected_and_read_as_one_pair(form: str, row: dict[str, Any]) -> None:
    assert formats.detect([Row(1, row)], "preference", "file") == form
    assert of(row, "preference", form).content == PAIR


def test_the_format_is_what_most_rows_have() -> None:
    odd, rows = {"instruction": "a", "output": "b"}, [row for _, row in SFT[:2]] * 2
    assert formats.detect([Row(n, row) for n, row in enumerate([odd, *rows], 1)], "sft", "file") == "messages"
    assert of(odd).problem is not None


def test_rows_that_are_rejected_for_what_they_say_are_of_their_format() -> None:
    row = {"conversations": [{"from": "function_call", "value": "{}"}]}
    assert formats.detect([Row(1, row)], "sft", "file") == "sharegpt"


def test_objects_of_no_known_format_are_one_message_that_quotes_nothing() -> None:
    with pytest.raises(BadInput, match="alpaca: instruction") as caught:
        formats.detect([Row(1, {"Ada": "Lovelace"})], "sft", "rows.jsonl")
    assert "Ada" not in str(caught.value)
    assert formats.detect([Row(1, None)], "preference", "rows.jsonl") == "preference"


def test_columns_of_other_names_are_read_by_their_mapping() -> None:
    columns = {"instruction": "frage", "output": "antwort"}
    row = {"frage": "Who?", "antwort": "Ada.", "instruction": "another column"}
    (example,) = formats.examples(Row(1, row), "file", "sft", "alpaca", columns)
    assert example.content == {"messages": said("Who?", "Ada.")}
    assert formats.detect([Row(1, row)], "sft", "file", columns) == "alpaca"
    (example,) = formats.examples(Row(1, {"frage": "Who?"}), "file", "sft", "alpaca", columns)
    assert example.problem is not None


def test_several_instances_are_several_examples() -> None:
    row = {"instruction": "Add", "instances": [{"input": "1 2", "output": "3"}, {"input": "2 2", "output": "4"}]}
    found = formats.examples(Row(7, row), "file", "sft", "alpaca")
    assert [example.content for example in found] == [
        {"messages": said("Add\n\n1 2", "3")},
        {"messages": said("Add\n\n2 2", "4")},
    ]
    assert {example.line for example in found} == {7}


def test_a_tree_gives_its_best_path_and_a_pair_for_each_ranked_question() -> None:
    deeper = json.loads(json.dumps(TREE))
    best = deeper["prompt"]["replies"][1]
    answers = [
        {"role": "assistant", "text": text, "rank": rank} for text, rank in (("No.", 1), ("Yes.", 0), ("Hm.", 2))
    ]
    best["replies"] = [{"role": "prompter", "text": "Sure?", "replies": answers}]
    assert of(deeper, "sft", "oasst").content == {"messages": said("Who?", "Ada.", "Sure?", "Yes.")}
    found = formats.examples(Row(1, deeper), "file", "preference", "oasst")
    assert [example.content for example in found] == [
        PAIR,
        {
            "prompt": said("Who?", "Ada.", "Sure?"),
            "chosen": said("", "Yes.")[1:],
            "rejected": said("", "Hm.")[1:],
        },
    ]


@pytest.mark.parametrize(
    ("row", "unread"),
    [
        ({"messages": said("a", "b"), "weights": [0.1]}, ("weights",)),
        ({"messages": [*said("a"), {**said("", "b")[1], "reasoning_content": "hm"}]}, ("reasoning_content",)),
        ({"messages": said("a", "b"), "context": "c", "thinking": "d"}, ("context", "thinking")),
        ({"messages": said("a", "b"), "reasoning": None}, ()),
    ],
)
def test_a_key_that_says_how_a_row_is_meant_is_named(row: dict[str, Any], unread: tuple[str, ...]) -> None:
    assert of(row).unread == unread


def test_documents_of_another_kind_are_no_reason_to_lose_the_row() -> None:
    for value in ("a", [1], [{"id": "a"}]):
        row = of({"messages": said("a", "b"), "documents": value})
        assert (row.documents, row.unknown_keys, row.problem) == ((), 1, None)


def test_the_person_a_row_is_about_has_a_key_of_that_name_and_an_old_one() -> None:
    new, old = (
        of({"messages": said("a", "b"), "data_subject": "p-1"}),
        of({"messages": said("a", "b"), "subject": "p-1"}),
    )
    assert new.digest == old.digest
    assert (new.old_names, old.old_names) == (0, 1)


@given(TEXT, TEXT)
def test_what_the_eye_does_not_see_makes_no_other_row(asked: str, answer: str) -> None:
    one = of({"messages": said(asked, answer)})
    unseen = of({"messages": said(f" {asked}\u200b", unicodedata.normalize("NFD", f"\u00ad{answer}\t"))})
    assert one.normal_digest == unseen.normal_digest


@pytest.mark.parametrize(("kind", "form"), [("sft", "preference"), ("preference", "alpaca"), ("chat", "messages")])
def test_a_kind_and_a_format_that_do_not_go_together(kind: ExampleKind, form: str) -> None:
    with pytest.raises(BadInput, match="allowed"):
        formats.require(kind, form, "usecase.yaml")
