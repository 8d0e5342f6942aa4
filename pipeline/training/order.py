"""In which order rows are trained on: at random by epoch and seed alone, so that a training which goes on from a
checkpoint sees the rows that it had not seen; where batches would be padded, rows of like length together."""

import random
from collections.abc import Callable, Iterator, Sequence

_STEPS = 50  # of rows that are sorted together: length says little about what a step is made of


def shuffled(lengths: Sequence[int], step: int, grouped: bool, seed: int, epoch: int) -> list[int]:
    """Returns the places of an epoch's rows in the order of training: a permutation, of which each `step` rows make one
    optimizer step. With `grouped`, the rows of a step are of like length, the longest first; which steps come when is
    random all the same, but for the step with the longest row, which is the first: what memory it takes shows at once.
    """
    generator = random.Random(f"{seed}/{epoch}")  # noqa: S311  it is to be drawn the same again
    places = list(range(len(lengths)))
    generator.shuffle(places)
    if not grouped:
        return places
    steps = []
    for begin in range(0, len(places), step * _STEPS):
        like = sorted(places[begin : begin + step * _STEPS], key=lambda place: lengths[place], reverse=True)
        steps += [like[place : place + step] for place in range(0, len(like), step)]
    short = steps.pop() if len(steps[-1]) < step else []  # the last of the epoch
    generator.shuffle(steps)
    if steps:
        longest = max(range(len(steps)), key=lambda place: lengths[steps[place][0]])
        steps.insert(0, steps.pop(longest))
    return [place for one in steps for place in one] + short


class Order:
    """A sampler, as torch's DataLoader takes it."""

    def __init__(
        self, lengths: Sequence[int], step: int, *, grouped: bool, seed: int, epoch: Callable[[], int]
    ) -> None:
        """`epoch` is asked whenever an epoch begins, or goes on."""
        self._lengths, self._step, self._grouped, self._seed, self._epoch = lengths, step, grouped, seed, epoch

    def __len__(self) -> int:
        """Returns how many rows there are."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Yields the places of the rows."""
        return iter(shuffled(self._lengths, self._step, self._grouped, self._seed, self._epoch()))
