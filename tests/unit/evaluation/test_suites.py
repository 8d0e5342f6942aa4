"""Suites: what a file may say, and what each mistake is called."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import canonical
from pipeline import usecase as usecases
from pipeline.errors import BadInput
from pipeline.evaluation import suites
from pipeline.evaluation.cases import Case, Expect, Reference
from pipeline.usecase import UseCase

pytestmark = pytest.mark.unit

GOOD: dict[str, Any] = {
    "id": "one",
    "question": "How long?",
    "principal": "ada",
    "expect": {"answerable": True, "value": "72 hours", "aliases": [], "source": "breach-notice"},
    "tags": ["by-hand"],
}
Make = Callable[..., UseCase]


@pytest.fixture
def make(usecase_folder: Callable[..., Path]) -> Make:
    """A function that makes a use case whose suite has the given lines."""

    def write(*lines: dict[str, Any] | str, clearance: str = "internal", **told: Any) -> UseCase:
        path = usecase_folder() / "cases.jsonl"
        path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        folder = usecase_folder(
            principals={"ada": {"tenant": "acme", "groups": ["staff"], "clearance": clearance}},
            evaluation={"suites": [{"name": "facts", "path": "cases.jsonl", **told}]},
        )
        return usecases.load(folder / "usecase.yaml")

    return write


def test_a_suite_is_read_in_its_order(make: Make) -> None:
    missing = GOOD | {"id": "two", "expect": {"answerable": False}}
    (suite,) = suites.load(make(GOOD, "", missing))
    assert [case.key for case in suite.cases] == ["one", "two"]
    assert suite.gated
    assert suite.cases[0].tags == ("by-hand",)


@pytest.mark.parametrize(
    ("line", "place", "told"),
    [
        ("{not json", "cases.jsonl:2", "not JSON"),
        ("[]", "cases.jsonl:2: all of it", "a value is not allowed"),
        (GOOD | {"id": "two", "expect": {"answerable": True}}, "cases.jsonl:2: expect", "a value, a source or both"),
        (GOOD | {"id": "two", "expect": {"answerable": False, "value": "x"}}, "cases.jsonl:2: expect", "neither"),
        (GOOD | {"id": "two", "expected": {}}, "cases.jsonl:2: expected", "did you mean expect"),
        ({k: v for k, v in GOOD.items() if k != "question"}, "cases.jsonl:2: question", "a key is missing"),
        (GOOD, "cases.jsonl:2", "same id"),
        (GOOD | {"id": "two", "principal": "adah"}, "cases.jsonl:2: principal", "did you mean ada"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(make: Make, line: dict[str, Any] | str, place: str, told: str) -> None:
    with pytest.raises(BadInput, match=told) as caught:
        suites.load(make(GOOD, line))
    assert str(caught.value.details["where"]).endswith(place)
    assert "72 hours" not in str(caught.value)


def test_a_suite_without_cases_is_refused(make: Make) -> None:
    with pytest.raises(BadInput, match="without cases"):
        suites.load(make(""))


def test_the_digest_is_of_what_is_asked_and_of_who_asks(make: Make) -> None:
    def digest(*lines: dict[str, Any], **keys: Any) -> str:
        return suites.load(make(*lines, **keys))[0].digest

    first = digest(GOOD)
    assert digest(dict(reversed(GOOD.items()))) == first
    assert digest(GOOD | {"question": "How long, then?"}) != first
    assert digest(GOOD, clearance="restricted") != first
    assert digest(GOOD, gated=False) != first
    assert digest(GOOD, GOOD | {"id": "two"}) != first


def test_other_wordings_are_right_in_every_case_that_asks_for_the_value(make: Make) -> None:
    wordings = {"72 hours": ["three days"], "never": ["at no time"]}
    (suite,) = suites.load(make(GOOD, wordings=wordings))
    (plain,) = suites.load(make(GOOD))
    (case,) = suite.cases
    assert isinstance(case.expect, Expect)
    assert case.expect.aliases == ("three days",)
    assert suite.digest != plain.digest
    (spelt_out,) = suites.load(make(GOOD | {"expect": GOOD["expect"] | {"aliases": ["three days"]}}))
    assert spelt_out.digest == suite.digest


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "objekt"}, "a JSON Schema of 2020-12"),
        ({"properties": {"a": {"$ref": "https://example.org/x.json"}}}, "refers to nothing outside itself"),
        ({"anyOf": [{"$ref": "other.json#/a"}]}, "refers to nothing outside itself"),
    ],
)
def test_a_schema_that_is_none_or_leads_elsewhere_is_refused(make: Make, schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem) as caught:
        make(GOOD, json_schema=schema)
    assert "json_schema" in str(caught.value.details["where"])


def test_a_schema_is_part_of_the_suite(make: Make) -> None:
    (suite,) = suites.load(make(GOOD, json_schema={"type": "object", "$defs": {"a": {}}, "$ref": "#/$defs/a"}))
    (plain,) = suites.load(make(GOOD))
    assert suite.form.json_schema is not None
    assert suite.digest != plain.digest


KINDS = st.lists(st.tuples(st.sampled_from(["short", "long", "nothing"]), st.booleans()), min_size=1, max_size=60)


@given(KINDS, st.data())
def test_a_sample_holds_every_kind_in_proportion(kinds: list[tuple[str, bool]], data: st.DataObject) -> None:
    cases = [
        Case(f"c{n}", canonical.digest(n), "Q?", "ada", Expect(answerable, "v" if answerable else None), (tag, "x"))
        for n, (tag, answerable) in enumerate(kinds)
    ]
    size = data.draw(st.integers(0, len(cases)))
    chosen = suites.sample(cases, size)
    assert len(chosen) == size
    assert chosen == [case for case in cases if case in chosen]
    assert sorted(chosen, key=str) == sorted(suites.sample(cases[::-1], size), key=str)
    assert {case.key for case in suites.sample(cases, max(size - 1, 0))} <= {case.key for case in chosen}
    for kind, whole in Counter(kinds).items():
        own = sum((case.tags[0], case.expect.answerable) == kind for case in chosen)  # type: ignore[union-attr]
        assert abs(own - size * whole / len(cases)) <= 1 + len(set(kinds)) / 2


def test_a_limit_is_a_sample_of_the_file(make: Make) -> None:
    lines = [GOOD | {"id": f"c{n}", "tags": ["long" if n < 30 else "short"]} for n in range(40)]
    (suite,) = suites.load(make(*lines, limit=8))
    assert Counter(case.tags[0] for case in suite.cases) == {"long": 6, "short": 2}
    (whole,) = suites.load(make(*lines))
    assert len(whole.cases) == 40
    assert suite.digest != whole.digest


def test_locked_rows_become_cases_without_a_principal() -> None:
    messages = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."}]
    rows: list[dict[str, Any]] = [
        {"digest": "b", "kind": "sft", "content": {"messages": messages}},
        {"digest": "a", "kind": "preference", "content": {"prompt": "A?", "chosen": messages[1:], "rejected": "C."}},
        {"digest": "c", "kind": "sft", "content": None},
        {"digest": "d", "kind": "sft", "content": {"messages": messages[:1]}},
    ]
    suite = suites.locked(rows, gated=True)
    assert suite is not None
    assert [case.key for case in suite.cases] == ["a", "b"]
    assert [case.expect for case in suite.cases] == [
        Reference(({"role": "user", "content": "A?"},), "B.", "C."),
        Reference(({"role": "user", "content": "A?"},), "B."),
    ]
    assert suites.locked(rows[2:], gated=True) is None
