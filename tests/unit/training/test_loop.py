"""How a training went."""

import pytest

from pipeline.errors import Refused
from pipeline.training import loop

pytestmark = pytest.mark.unit


def test_weights_that_are_not_the_best_checkpoints_are_refused() -> None:
    loop._require_best(0.5001, 0.5)
    with pytest.raises(Refused, match="best checkpoint was not restored"):
        loop._require_best(0.52, 0.5)


def test_without_validation_rows_nothing_stops_early() -> None:
    assert len(loop.callbacks("SFT", 3, False)) == 1
