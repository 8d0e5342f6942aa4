"""Loss curves drawn from evidence: the same bytes, all of the points, and nothing that a value could smuggle in."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.governance import pictures

pytestmark = pytest.mark.unit
RUN = "018f2c9e-0000-7000-8000-000000000001"
SVG = "{http://www.w3.org/2000/svg}"


def row(step: int, loss: float | None, eval_loss: float | None = None, job: str = "training.sft") -> dict[str, object]:
    return {"job": job, "run_id": RUN, "step": step, "loss": loss, "eval_loss": eval_loss}


def points(picture: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    lines = [line.get("points", "") for line in ET.fromstring(picture).iter(f"{SVG}polyline")]
    read = [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in lines]
    return read[0], read[1]  # type: ignore[return-value]


def test_each_run_has_its_picture_and_its_points() -> None:
    rows = [row(1, 2.0), row(2, 1.5, 1.6), row(3, 1.0, 1.2), row(1, 0.6, job="training.dpo")]
    drawn = pictures.curves(rows)
    assert sorted(drawn) == sorted({pictures.name("training.sft", RUN), pictures.name("training.dpo", RUN)})
    trained, validated = points(drawn[pictures.name("training.sft", RUN)])
    assert len(trained) == 3
    assert len(validated) == 2
    assert [y for _, y in trained] == sorted(y for _, y in trained)  # falling losses go down the page
    assert trained[1][0] == validated[0][0]


def test_equal_evidence_gives_equal_bytes() -> None:
    rows = [row(step, 3 / step) for step in range(1, 90)]
    assert pictures.curves(rows) == pictures.curves(list(rows))


def test_a_run_without_losses_has_none() -> None:
    assert pictures.curves([row(1, None)]) == {}
    assert pictures.curves([]) == {}


def test_a_name_holds_no_digit() -> None:
    assert not any(letter.isdigit() for letter in pictures.name("training.sft", RUN))


def test_what_a_value_holds_is_no_markup() -> None:
    picture = pictures.curves([row(1, 1.0, job="training.<script>alert(1)</script>")]).popitem()[1]
    assert "<script" not in picture


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_every_point_stands_within_the_picture(losses: list[float]) -> None:
    picture = pictures.curves([row(step, loss) for step, loss in enumerate(losses)]).popitem()[1]
    for x, y in points(picture)[0]:
        assert 0 <= x <= 640
        assert 0 <= y <= 300


@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_ticks_are_around_the_values(low: float, span: float) -> None:
    ticks = pictures._ticks(low, low + span)
    assert ticks[0] <= low + 1e-6 * abs(low)
    assert ticks[-1] >= low + span - 1e-6 * abs(low + span)
    assert 2 <= len(ticks) <= 13
    assert all(math.isfinite(tick) for tick in ticks)
