"""What is planted has the similarity that the benchmark says, and reports are judged by it."""

import pytest

from benchmarks import near

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def planted() -> near.Planted:
    """Returns a thousand texts."""
    return near.plant(1_000)


def test_near_pairs_are_near_and_decoys_are_not(planted: near.Planted) -> None:
    assert len(planted.near) >= 10
    assert planted.decoys >= 10
    for one, other in planted.near:
        assert one < other
        assert 0.8 <= near.similarity(planted.texts[one], planted.texts[other]) < 1


def test_what_is_missed_lowers_recall_and_what_is_not_near_precision(planted: near.Planted) -> None:
    every = sorted(planted.near)
    apart = next((0, place) for place in range(1, 1_000) if (0, place) not in planted.near)
    assert near.Judged.of(planted, every) == near.Judged(1.0, 1.0)
    assert near.Judged.of(planted, [pair[::-1] for pair in every]) == near.Judged(1.0, 1.0)
    assert near.Judged.of(planted, every[1:]).recall == 1 - 1 / len(every)
    assert near.Judged.of(planted, [*every, apart]).precision == len(every) / (len(every) + 1)
