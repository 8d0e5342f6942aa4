"""What is sealed, and which policies are none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import canonical
from pipeline import usecase as usecases
from pipeline.errors import BadInput
from pipeline.records import plain
from pipeline.release import policy
from pipeline.release.records import SealedSuite
from pipeline.usecase import UseCase

pytestmark = pytest.mark.unit

Make = Callable[..., UseCase]
MINIMUM = {"metric": "correct", "minimum": 0.5}


@pytest.fixture
def make(usecase_folder: Callable[..., Path]) -> Make:
    """A function that makes a use case with one suite, and these keys over it."""

    def write(cases: str = "cases", *, suites: bool = True, **keys: Any) -> UseCase:
        (usecase_folder() / "cases.jsonl").write_text(cases)
        told = {"suites": [{"name": "facts", "path": "cases.jsonl"}]} if suites else {}
        keys.setdefault("release", {"thresholds": [MINIMUM]})
        return usecases.load(usecase_folder(**{"evaluation": told, **keys}) / "usecase.yaml")

    return write


def digest(usecase: UseCase) -> str:
    return canonical.digest(plain(policy.content(usecase)))


def test_everything_that_a_decision_depends_on_is_sealed(make: Make) -> None:
    first = digest(make())
    assert digest(make(title="Another title")) == first
    changes: list[dict[str, Any]] = [
        {"cases": "other cases"},
        {"release": {"thresholds": [{"metric": "correct", "minimum": 0.4}]}},
        {"release": {"thresholds": [MINIMUM], "min_cases": 10}},
        {"release": {"thresholds": [MINIMUM], "approval": {"required": True}}},
        {"release": {"thresholds": [MINIMUM], "approval": {"timeout_hours": 1}}},
        {"risk_tier": "high"},
        {"retrieval": {"k": 5}},
        {"evaluation": {"suites": [{"name": "facts", "path": "cases.jsonl", "limit": 5}]}},
        {"evaluation": {"suites": [{"name": "facts", "path": "cases.jsonl"}], "confidence": 0.8}},
        {"evaluation": {"suites": [{"name": "facts", "path": "cases.jsonl"}], "max_new_tokens": 8}},
    ]
    assert first not in {digest(make(**change)) for change in changes}


def test_the_sealed_content_holds_no_text_of_cases(make: Make) -> None:
    assert "secret question" not in str(policy.content(make("secret question")))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"release": {}}, "let every candidate through"),
        ({"release": {"thresholds": []}}, "let every candidate through"),
        ({"release": {}, "risk_tier": "minimal"}, "let every candidate through"),
        ({"release": {"thresholds": [{"metric": "value"}]}}, "asks for nothing"),
        ({"release": {"thresholds": [{"metric": "reference", "minimum": 0.1}]}}, "not measured"),
        ({"suites": False}, "not measured"),
        ({"evaluation": {"suites": [{"name": "facts", "path": "cases.jsonl", "gated": False}]}}, "no suite is gated"),
    ],
)
def test_a_policy_that_compares_nothing_is_refused(make: Make, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        policy.content(make(**keys))


def test_the_lowest_tier_may_say_in_so_many_words_that_it_has_no_threshold(make: Make) -> None:
    content = policy.content(make(risk_tier="minimal", release={"thresholds": []}))
    assert content.thresholds == []
    assert not content.asks_a_person


def test_without_suites_the_locked_test_split_is_what_counts(make: Make) -> None:
    content = policy.content(make(suites=False, release={"thresholds": [{"metric": "reference", "margin": 0.05}]}))
    assert content.suites == [SealedSuite("locked_test", None, None)]


@pytest.mark.parametrize(
    ("tier", "required", "asks"), [("high", None, True), ("limited", None, False), ("limited", True, True)]
)
def test_the_tier_or_the_yaml_asks_for_a_person(make: Make, tier: str, required: bool | None, asks: bool) -> None:
    release = {"thresholds": [MINIMUM], "approval": {"required": required}}
    assert policy.content(make(risk_tier=tier, release=release)).asks_a_person is asks
