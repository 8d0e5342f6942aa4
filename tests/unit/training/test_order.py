"""The order of rows: a permutation by seed and epoch alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.order import Order, shuffled

pytestmark = pytest.mark.unit
LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=400)


@given(LENGTHS, st.integers(1, 16), st.booleans(), st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_every_row_comes_once_an_epoch(lengths: list[int], step: int, grouped: bool, seed: int, epoch: int) -> None:
    order = shuffled(lengths, step, grouped, seed, epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert order == shuffled(lengths, step, grouped, seed, epoch)


@given(LENGTHS, st.integers(2, 8))
def test_the_longest_row_of_all_is_in_the_first_step(lengths: list[int], step: int) -> None:
    order = shuffled(lengths, step, True, 7, 0)
    if len(lengths) >= step:
        assert max(lengths) in {lengths[place] for place in order[:step]} or max(lengths) in {
            lengths[place] for place in order[len(order) - len(order) % step :]
        }


def test_epochs_and_seeds_differ() -> None:
    lengths = list(range(1, 101))
    orders = [
        tuple(shuffled(lengths, 8, grouped, seed, epoch))
        for grouped in (False, True)
        for seed in (1, 2)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == len(orders)


def test_rows_of_like_length_share_a_step() -> None:
    lengths = [n % 97 + 1 for n in range(800)]

    def padding(order: list[int]) -> int:
        steps = [[lengths[place] for place in order[at : at + 8]] for at in range(0, len(order), 8)]
        return sum(max(step) * len(step) - sum(step) for step in steps)

    assert padding(shuffled(lengths, 8, True, 7, 0)) < padding(shuffled(lengths, 8, False, 7, 0)) / 10


def test_a_sampler_asks_for_the_epoch_whenever_it_begins() -> None:
    epochs = iter([0, 1, 1])
    order = Order([3, 1, 2, 5, 4], 2, grouped=False, seed=3, epoch=lambda: next(epochs))
    first, second, third = list(order), list(order), list(order)
    assert first != second == third
    assert len(order) == 5
