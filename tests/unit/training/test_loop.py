"""How a training went."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Refused
from pipeline.training import loop
from pipeline.training.job import Passes

pytestmark = pytest.mark.unit


def test_weights_that_are_not_the_best_checkpoints_are_refused() -> None:
    loop._require_best(0.5001, 0.5)
    with pytest.raises(Refused, match="best checkpoint was not restored"):
        loop._require_best(0.52, 0.5)


def test_without_validation_rows_nothing_stops_early() -> None:
    assert len(loop.callbacks(3, True)) == 1
    assert loop.callbacks(3, False) == []


@given(st.integers(1, 64), st.integers(1, 16))
def test_smaller_passes_make_the_same_step(rows: int, accumulation: int) -> None:
    passes = Passes(rows, accumulation)
    smaller = passes.smaller()
    assert (smaller is None) == (rows == 1)
    if smaller is not None:
        assert smaller.rows * smaller.accumulation == rows * accumulation
        assert 1 <= smaller.rows <= rows / 2
