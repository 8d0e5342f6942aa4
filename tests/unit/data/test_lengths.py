"""The check of the data and the training agree, row by row: on what a row is in tokens, and on what is of no use."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pipeline import tokenizer
from pipeline.chat import Chat, Reason
from pipeline.data import lengths
from pipeline.data.formats import Example
from pipeline.data.layouts import Content
from pipeline.data.lengths import Basis, Length, Lengths, Unmeasured
from pipeline.errors import NotAvailable
from pipeline.settings import ROOT, Settings, from_environment
from pipeline.training import rows
from pipeline.training.head import IGNORED
from pipeline.usecase import BaseModelSource, UseCase, find
from tests.unit.test_chat import FAMILIES, FIRST, ODD, TEXT, chat_for, conversations
from tests.unit.tokenizer.test_reading import light_chat

pytestmark = pytest.mark.unit


def example(content: Content, file: str = "f") -> Example:
    return Example(file, 1, "sft" if "messages" in content else "preference", content)


def require_agreement(content: Content, trained: Chat, measured: Chat, max_length: int) -> Length:
    """Asserts that a row's length is what the training makes of the row, and returns it."""
    own = example(content)
    length = Lengths(measured, {own.kind: max_length}).of(own)
    assert length is not None
    keep = rows.supervised if own.kind == "sft" else rows.preferences
    kept = keep([content], trained, max_length)
    if length.equal_after_cut:
        assert kept.rejected == {"answers_alike": 1}
        assert length.untrainable is None
        assert length.cut > 0
        assert keep([content], trained, length.tokens or 0).rows, "it is the cut that makes them equal"
        return length
    if length.untrainable is not None:
        assert kept.rejected == {length.untrainable: 1}
        return length
    (row,) = kept.rows
    assert length.supervised == kept.supervised
    assert (length.cut > 0) is (kept.cut > 0)
    if own.kind == "sft":
        assert length.tokens == kept.tokens + length.cut
        supervised = [label != IGNORED for label in row["labels"]]
        # An answer is cut exactly where the last token that is read is one of it, and not its end.
        assert (length.cut_answers > 0) is (length.cut > 0 and supervised[-1] and row["labels"][-1] != trained.end)
    else:
        sides = [len(row["prompt_ids"]) + len(row[side]) for side in ("chosen_ids", "rejected_ids")]
        assert length.tokens == max(sides) + length.cut
        ends = [row[side][-1] != trained.end for side in ("chosen_ids", "rejected_ids")]
        assert length.cut_answers == sum(ends)
    return length


@cache
def tiny() -> tuple[Chat, Chat]:
    """The tiny model's templates, as the training has it and as the check has it."""
    at_home = from_environment({"NIGHTSHIFT_HOME": "/nonexistent"})
    light = tokenizer.load(at_home, tokenizer.locate(at_home, BaseModelSource()))
    return Chat(AutoTokenizer.from_pretrained(str(ROOT / "models" / "tiny"))), Chat(light)


def shipped() -> Iterator[Content]:
    """The rows of the use cases that ship."""
    for path in sorted((ROOT / "usecases").glob("*/examples/*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            yield {key: row[key] for key in ("messages", "prompt", "chosen", "rejected") if key in row}


@pytest.mark.parametrize("max_length", [1024, 300, 60, 16])
def test_the_rows_that_ship_are_measured_as_they_are_trained(max_length: int) -> None:
    contents = list(shipped())[:: 1 if max_length == 1024 else 7]
    assert {len(content) for content in contents} == {1, 3}, "conversations and pairs"
    measured = [require_agreement(content, *tiny(), max_length) for content in contents]
    assert any(length.cut for length in measured) is (max_length < 1024)


@st.composite
def pairs(draw: st.DrawFn) -> Content:
    """A conversation with two answers, which often begin alike or are the same."""
    *prompt, chosen = draw(conversations())
    begin = draw(st.sampled_from(["", chosen["content"][:3], chosen["content"]]))
    rejected = {"role": "assistant", "content": begin + draw(st.just("") | TEXT)}
    return {"prompt": [dict(turn) for turn in prompt], "chosen": [chosen], "rejected": [rejected]}


@given(
    name=st.sampled_from([*FAMILIES, *ODD]),
    content=conversations().map(lambda messages: {"messages": messages}) | pairs(),
    max_length=st.integers(16, 160),
)
@settings(max_examples=200, deadline=None)
def test_any_row_under_any_template_is_measured_as_it_is_trained(name: str, content: Content, max_length: int) -> None:
    require_agreement(content, chat_for(name), light_chat(name), max_length)


@given(content=pairs(), max_length=st.integers(16, 160))
@settings(max_examples=100, deadline=None)
def test_any_pair_is_measured_as_the_tiny_model_is_trained_on_it(content: Content, max_length: int) -> None:
    require_agreement(content, *tiny(), max_length)


def test_every_reason_is_explained() -> None:
    assert set(lengths.REASONS) == set(get_args(Reason))


def usecase_with(**keys: Any) -> tuple[Settings, UseCase]:
    at_home = from_environment({"NIGHTSHIFT_HOME": "/nonexistent"})
    own = find(at_home, "tiny")
    return at_home, UseCase.model_validate({**own.model_dump(mode="json"), **keys})


def test_a_use_case_says_what_its_rows_are_measured_by() -> None:
    at_home, own = usecase_with(
        training={"sft": {"max_length": 99}, "dpo": {"max_length": 88}, "pretrain": {"max_length": 77}}
    )
    basis = lengths.basis(at_home, own)
    assert isinstance(basis, Basis)
    assert basis.max_lengths == {"sft": 99, "preference": 88, "text": 77}
    assert basis.params["max_length"] == basis.max_lengths
    assert basis.params["tokenizer"] == basis.files.digest
    measuring = lengths.load(at_home, basis)
    assert isinstance(measuring, Lengths)
    length = measuring.of(example({"messages": FIRST}))
    assert length is not None
    assert 0 < length.supervised < (length.tokens or 0)


def test_pairs_have_no_length_where_nothing_is_trained_on_them() -> None:
    at_home, own = usecase_with(training={"dpo": {"enabled": False}})
    measuring = lengths.load(at_home, lengths.basis(at_home, own))
    assert isinstance(measuring, Lengths)
    answer = {"role": "assistant", "content": "Two."}
    assert measuring.of(example({"prompt": FIRST[:1], "chosen": FIRST[1:], "rejected": [answer]})) is None


def test_sources_that_are_only_evaluated_with_are_not_trained_on() -> None:
    at_home, own = usecase_with()
    locked = [{**source, "uses": ["evaluate"]} for source in own.model_dump(mode="json")["examples"]]
    at_home, own = usecase_with(examples=locked)
    basis = lengths.basis(at_home, own)
    assert isinstance(basis, Basis)
    assert len(basis.untrained) == len({source["path"] for source in locked})


def test_a_model_that_is_not_here_is_said_and_stops_nothing() -> None:
    at_home, own = usecase_with(base_model={"name": "no-such-model"})
    basis = lengths.basis(at_home, own)
    assert basis == Unmeasured("the base model no-such-model is not here")
    assert basis.params is None
    assert lengths.load(at_home, basis) == basis


def test_a_template_that_writes_nothing_is_said_and_stops_nothing(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((ROOT / "models" / "tiny" / name).read_bytes())
    at_home, own = usecase_with(base_model={"path": str(tmp_path)})
    assert lengths.load(at_home, lengths.basis(at_home, own)) == Unmeasured("the model has no chat template")
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('never') }}")
    said = lengths.load(at_home, lengths.basis(at_home, own))
    assert said == Unmeasured("the chat template cannot be rendered")


def test_what_may_be_otherwise_next_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result of a check is kept: one that fell out so by accident would be reused."""
    at_home, own = usecase_with()
    basis = lengths.basis(at_home, own)

    def unavailable(*_: object) -> None:
        raise NotAvailable("no answer")

    monkeypatch.setattr(tokenizer, "load", unavailable)
    with pytest.raises(NotAvailable):
        lengths.load(at_home, basis)
