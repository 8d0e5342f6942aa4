"""What is wrong with the suites is known before anything is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import database, evaluation, usecase
from pipeline.errors import BadInput
from pipeline.operations import coherence, doctor
from pipeline.usecase import UseCase

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg

CASE: dict[str, Any] = {
    "id": "c1",
    "question": "When is the office closed?",
    "principal": "clerk",
    "expect": {"answerable": True, "value": "Friday", "source": "notice"},
}
PRINCIPALS = {"clerk": {"tenant": "acme", "groups": ["staff"], "clearance": "internal"}}


@pytest.fixture
def written(world: "World", usecase_folder: Callable[..., Path]) -> Callable[..., UseCase]:
    """A function that writes the world's use case with one suite of these lines."""

    def write(*lines: Any, metric: str = "correct", **keys: Any) -> UseCase:
        folder = usecase_folder("demo")
        (folder / "facts.jsonl").write_text(
            "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        )
        content: dict[str, Any] = {
            "principals": PRINCIPALS,
            "evaluation": {"suites": [{"name": "facts", "path": "facts.jsonl"}]},
            "release": {"thresholds": [{"metric": metric, "minimum": 0.5}]},
        }
        return usecase.load(usecase_folder("demo", **(content | keys)) / "usecase.yaml")

    return write


def changed(**fields: Any) -> dict[str, Any]:
    return CASE | fields


def test_sound_suites_are_taken(world: "World", written: Callable[..., UseCase]) -> None:
    unanswerable = changed(id="c2", expect={"answerable": False})
    evaluation.require(world.settings, written(CASE, unanswerable))


@pytest.mark.parametrize(
    ("lines", "metric", "message"),
    [
        ((changed(principal="clark"),), "correct", "no such principal"),
        ((changed(principal=""),), "correct", "principal"),
        (("{not json",), "correct", "cannot be read"),
        (("[]",), "correct", ""),
        ((changed(expect={"answerable": True}),), "correct", "answerable case needs"),
        ((changed(expect={"answerable": False, "value": "x"}),), "correct", "neither value nor source"),
        ((changed(answr="x"),), "correct", "unknown key"),
        ((CASE, CASE), "correct", "same id"),
        ((), "correct", "without cases"),
        ((changed(expect={"answerable": True, "source": "notices"}),), "correct", "no committed document has this id"),
        ((changed(expect={"answerable": True, "source": "Notice"}),), "correct", "no committed document has this id"),
        ((changed(expect={"answerable": True, "source": "notice "}),), "correct", "no committed document"),
        (
            (changed(expect={"answerable": True, "source": "notice"}),),
            "value",
            "is scored by this metric",
        ),
        ((changed(expect={"answerable": True, "value": "x"}),), "source", "is scored by this metric"),
        ((CASE,), "likelihood", "is scored by this metric"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_training_and_shown_by_the_doctor(
    world: "World", written: Callable[..., UseCase], lines: Any, metric: str, message: str
) -> None:
    case = written(*lines, metric=metric)
    with pytest.raises(BadInput) as caught:
        evaluation.require(world.settings, case)
    assert message in str(caught.value)
    (check,) = [check for check in doctor.examine(world.settings) if check.name == "suites"]
    assert not check.ok
    assert "mistakes in suites" in check.detail
    assert message in check.detail


def test_everything_is_found_at_once(world: "World", written: Callable[..., UseCase]) -> None:
    case = written(
        changed(expect={"answerable": True, "source": "nowhere"}),
        changed(id="c2", expect={"answerable": True, "source": "elsewhere"}),
        metric="value",
    )
    with database.connect(world.settings, "pipeline") as connection:
        assert len(evaluation.problems(connection, case)) == 3
    with pytest.raises(BadInput, match="2 more were found"):
        evaluation.require(world.settings, case)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"principals": {"clerk": {"tenant": "acne", "groups": ["staff"]}}}, "principals.clerk.tenant"),
        ({"principals": {"clerk": {"tenant": "other", "groups": ["staff"]}}}, "principals.clerk.tenant"),
        ({"principals": {"clerk": {"tenant": "acme", "groups": ["staf"]}}}, "principals.clerk.groups"),
        ({"principals": {"clerk": {"tenant": "acme", "groups": ["staff", "nobody"]}}}, "principals.clerk.groups"),
        ({"risk_tier": "high", "release": {"approval": {"required": False}}}, "release.approval.required"),
        ({"training": {"dpo": {"enabled": True}}}, "training.dpo.enabled"),
        ({"checks": {"min_characters": 100, "max_characters": 10}}, "checks.min_characters"),
        ({"splits": {"train": 0, "validation": 0.5, "test": 0.5}}, "splits.train"),
        ({"splits": {"train": 1, "validation": 0, "test": 0}}, "splits.validation"),
        ({"schedule": {"data": None}}, "schedule.data"),
        ({"prompt": "facts.jsonl"}, "prompt"),
        ({"release": {"min_cases": 50}, "evaluation": {
            "suites": [{"name": "facts", "path": "facts.jsonl", "limit": 5}]}}, "release.min_cases"),
        ({"evaluation": {"suites": [{"name": "facts", "path": path} for path in ("facts.jsonl", "./facts.jsonl")]}},
         "evaluation.suites"),
        ({}, "examples.0.path"),
        ({}, "documents.0.path"),
    ],
)  # fmt: skip
def test_what_can_hardly_be_meant_is_said(
    world: "World", written: Callable[..., UseCase], keys: dict[str, Any], key: str
) -> None:
    case = written(CASE, **keys)
    with database.connect(world.settings, "pipeline") as connection:
        found = dict(coherence.findings(case, connection))
    assert key in found
    (check,) = [check for check in doctor.examine(world.settings) if check.name == "coherence"]
    assert not check.ok
    assert not check.needed
    assert f"demo: {key}: " in check.detail


def test_a_sound_use_case_has_nothing_odd(world: "World", written: Callable[..., UseCase]) -> None:
    case = written(CASE, training={"dpo": {"enabled": False}})
    folder = world.settings.usecases / "demo"
    (folder / "documents" / "a.md").write_text("text")
    (folder / "sft.jsonl").write_text('{"messages": []}\n')
    with database.connect(world.settings, "pipeline") as connection:
        assert coherence.findings(case, connection) == []
