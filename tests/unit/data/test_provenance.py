"""What is said of rows that no person wrote."""

from datetime import date
from typing import Any

import pytest

from pipeline.data import formats, provenance
from pipeline.data.formats import Example
from pipeline.data.provenance import Generated
from pipeline.data.rows import Damaged, Row
from pipeline.usecase import GeneratedBy

pytestmark = pytest.mark.unit

SOURCE = Generated("model-7", None, "2026-11-01", "maria")
DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, SOURCE),
        (True, SOURCE),
        (False, None),
        ({"by": "model-8"}, Generated("model-8")),
        ({"by": "model-8", "written_on": "2026-11-02", "checked_by": None}, Generated("model-8", None, "2026-11-02")),
        ({"by": "a script", "prompt_digest": DIGEST, "checked_by": "ben"}, Generated("a script", DIGEST, None, "ben")),
    ],
)
def test_a_row_speaks_for_itself_and_else_its_source_does(value: Any, expected: Generated | None) -> None:
    assert provenance.of_row(value, SOURCE) == expected


@pytest.mark.parametrize(
    "value",
    [
        "model-8",
        1,
        [],
        {},
        {"by": ""},
        {"by": 3},
        {"by": "x" * 201},
        {"model": "model-8"},
        {"by": "model-8", "temperature": 1},
        {"by": "model-8", "prompt_digest": "abc"},
        {"by": "model-8", "written_on": "yesterday"},
        {"by": "model-8", "written_on": 20261101},
        {"by": "model-8", "checked_by": True},
    ],
)
def test_what_cannot_be_read_leaves_the_row_out(value: Any) -> None:
    with pytest.raises(Damaged, match="generated"):
        provenance.of_row(value, SOURCE)
    row = Row(3, {"prompt": "A?", "completion": "B.", "generated": value})
    (found,) = formats.examples(row, "f.jsonl", "sft", "prompt_completion")
    assert found.problem is not None
    assert found.problem.rule == "wrong_type"


def test_true_says_nothing_where_the_source_does_not() -> None:
    with pytest.raises(Damaged, match="by what"):
        provenance.of_row(True, None)


def test_what_wrote_a_row_is_no_part_of_its_identity_and_survives_a_snapshot() -> None:
    value = {"prompt": "A?", "completion": "B."}
    (plain,) = formats.examples(Row(1, value), "f.jsonl", "sft", "prompt_completion")
    made = {"by": "model-8", "prompt_digest": DIGEST}
    (other,) = formats.examples(Row(1, value | {"generated": made}), "f.jsonl", "sft", "prompt_completion")
    assert (plain.generated, other.generated) == (None, Generated("model-8", DIGEST))
    assert plain.digest == other.digest
    assert other.unknown_keys == 0
    assert Example.from_dict(other.as_dict()) == other


def test_a_source_is_what_its_yaml_says() -> None:
    described = GeneratedBy(by="model-7", written_on=date(2026, 11, 1), checked_by="maria")
    assert provenance.of_source(described) == SOURCE
    assert provenance.of_source(None) is None


def test_the_share_counts_makers_and_what_was_read() -> None:
    rows = [None, SOURCE, Generated("model-8"), SOURCE, None]
    assert provenance.share(rows) == provenance.GeneratedShare(3, 2, {"model-7": 2, "model-8": 1})
