"""Records: what is written is read again as it was, of this format or an older one, and nothing else is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, get_args
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import data, evaluation, governance, records, release, retrieval, training
from pipeline.data.reports import CardContent, CheckReport
from pipeline.errors import BadInput, NotAvailable
from pipeline.release.records import Report
from pipeline.results import DEFAULT_FORM, AnswerForm, Evaluation
from pipeline.retrieval.records import GateReport, Manifest, Plan
from pipeline.steps import Origin, Version

pytestmark = pytest.mark.unit

# What one task leaves for the next.
HANDED_ON: tuple[type, ...] = (
    Version,
    Origin,
    data.Fetched,
    data.Checked,
    data.Committed,
    training.Prepared,
    training.Tuned,
    retrieval.Planned,
    retrieval.Built,
    retrieval.Gated,
    retrieval.Swapped,
    evaluation.Evaluated,
    evaluation.SubjectOf,
    release.Sealed,
    release.Gated,
    release.Chosen,
    release.Promoted,
    governance.Packet,
)
STORED: tuple[Any, ...] = (Evaluation, Manifest, Plan, GateReport, Report, CheckReport, CardContent)

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(str, st.text(alphabet=st.characters(codec="utf-8"), max_size=8))
st.register_type_strategy(Sequence, lambda kind: st.lists(st.from_type(get_args(kind)[0]), max_size=2))
JSON = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8)
few = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))


def strategy(kind: type) -> st.SearchStrategy[Any]:
    """Returns records of a kind; what a field holds as "anything" is a plain value."""
    with_any: dict[str, st.SearchStrategy[Any]] = {
        field.name: st.dictionaries(st.text(max_size=4), JSON, max_size=2)
        for field in fields(kind)
        if "Any" in str(field.type)
    }
    if "checks" in with_any and kind is not CardContent:
        with_any["checks"] = st.lists(with_any["checks"], max_size=2)
    return st.builds(kind, **with_any)


st.register_type_strategy(Manifest, strategy(Manifest))
st.register_type_strategy(AnswerForm, strategy(AnswerForm))


@pytest.mark.parametrize("kind", HANDED_ON, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@few
@given(st.data())
def test_what_is_handed_on_comes_through_json_as_it_was(kind: type, data: st.DataObject) -> None:
    record = data.draw(strategy(kind))
    text = json.dumps(records.plain(record), allow_nan=False)
    again: Any = records.load(kind, json.loads(text))
    assert type(again) is kind
    # As text: 24 and 24.0 are equal numbers with different digests.
    assert json.dumps(records.plain(again)) == text


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.__name__)
@few
@given(st.data())
def test_what_is_stored_is_read_as_it_was(kind: Any, data: st.DataObject) -> None:
    record = data.draw(strategy(kind))
    written = records.write(record)
    assert json.loads(written)["format"] == kind.FORMAT
    assert records.write(records.read(kind, written, "here")) == written


@pytest.mark.parametrize("kind", HANDED_ON, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@few
@given(st.data())
def test_a_field_that_is_missing_is_named(kind: type, data: st.DataObject) -> None:
    plain = records.plain(data.draw(strategy(kind)))
    required = [field.name for field in fields(kind) if field.default is field.default_factory]
    gone = data.draw(st.sampled_from(required))
    del plain[gone]
    with pytest.raises(BadInput) as caught:
        records.load(kind, plain)
    assert str(caught.value.details["where"]).startswith(gone)


@pytest.mark.parametrize("value", [None, [], "text", 3, {}])
def test_what_is_no_record_is_refused(value: object) -> None:
    with pytest.raises(BadInput, match="not a Version"):
        records.load(Version, value)


# An evaluation as it was stored before records named their format.
FIRST = {
    "inputs": {"base": "b" * 64, "index": "i" * 64},
    "settings": {
        "suites": [{"name": "facts", "digest": "d", "file": "f", "limit": None, "gated": True, "cases": 1}],
        "generation": {"decoding": "greedy", "max_new_tokens": 72, "batch_size": 16},
        "model": {"dtype": "float32", "quantize": "none", "device": "cpu"},
        "retrieval": {"k": 3, "unserved": None},
        "confidence": 0.95,
    },
    "results": [
        {
            "suite": "facts",
            "condition": "with",
            "metrics": {"value": {"value": 1.0, "low": 0.2, "high": 1.0, "n": 1, "method": "wilson"}},
            "cases": [{"case": "c1", "digest": "x", "scores": {"value": 1.0}, "answer": "a", "documents": ["leave"]}],
        }
    ],
}


def test_an_evaluation_of_the_first_format_is_read() -> None:
    read = records.read(Evaluation, json.dumps(FIRST).encode(), "an old artifact")
    assert read.settings.generation.max_new_tokens == 72
    assert read.results[0].metrics["value"].low == 0.2
    assert read.settings.generation.prompt is None
    assert read.settings.suites[0].form == DEFAULT_FORM
    assert read.settings.without_retrieval == 1  # in those days every case was asked without retrieval too
    written = records.plain(read)
    del written["settings"]["generation"]["prompt"], written["settings"]["suites"][0]["form"]
    del written["settings"]["without_retrieval"]
    assert written == FIRST


@dataclass(frozen=True)
class Renamed:
    """A record whose third format calls a field otherwise than its second, and whose first had another unit."""

    FORMAT: ClassVar[int] = 3

    seconds: float

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the fields of format 3."""
        if version == 1:
            value = {"took": value["milliseconds"] / 1000}
        return {"seconds": value["took"]}


@pytest.mark.parametrize(
    "value",
    [{"milliseconds": 1500}, {"format": 1, "milliseconds": 1500}, {"format": 2, "took": 1.5}],
    ids=["none", "first", "second"],
)
def test_an_older_format_is_brought_up_to_this_one(value: dict[str, Any]) -> None:
    assert records.read(Renamed, json.dumps(value).encode(), "here") == Renamed(1.5)


def test_a_later_format_says_what_to_do() -> None:
    with pytest.raises(NotAvailable, match="later version") as caught:
        records.read(Renamed, b'{"format": 4, "seconds": 1}', "evaluation abc")
    assert caught.value.details == {
        "where": "evaluation abc",
        "found": "format 4",
        "allowed": "1 to 3",
        "next": "install that version",
    }


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"nothing", b"\xff", b'{"format": 0}', b'{"format": "3"}', b'{"format": 3}', b'{"a": 1, "a": 2}'],
)
def test_a_file_that_is_no_record_names_its_place(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        records.read(Renamed, data, "evaluation abc")
    assert str(caught.value.details["where"]).startswith("evaluation abc")


@pytest.mark.parametrize("kind", [*HANDED_ON, *STORED], ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_records_are_frozen_and_hold_records(kind: type) -> None:
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_values_of_rows_become_plain() -> None:
    at = datetime(2026, 1, 2, 3, tzinfo=UTC)
    row = {
        "at": at,
        "day": date(2026, 1, 2),
        "id": UUID(int=1),
        "n": Decimal("2.0"),
        "x": Decimal("2.5"),
        "p": Path("a"),
    }
    assert records.plain(row) == {
        "at": "2026-01-02T03:00:00+00:00",
        "day": "2026-01-02",
        "id": "00000000-0000-0000-0000-000000000001",
        "n": 2,
        "x": 2.5,
        "p": "a",
    }
