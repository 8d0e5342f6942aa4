"""Progress lines: few, and right."""

import logging

import pytest

from pipeline.progress import Progress, is_line

pytestmark = pytest.mark.unit

log = logging.getLogger("work")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seconds_a_step", [0.001, 0.5, 3.0, 9.99, 10.0, 25.0])
def test_a_line_at_most_every_ten_seconds(caplog: pytest.LogCaptureFixture, seconds_a_step: float) -> None:
    caplog.set_level(logging.INFO)
    clock, total = Clock(), 200
    progress = Progress(log, "SFT", total, clock=clock)
    at: list[float] = []
    for _ in range(total):
        clock.now += seconds_a_step
        before = len(caplog.records)
        progress.advance()
        if len(caplog.records) > before:
            at.append(clock.now)
    gaps = [later - earlier for earlier, later in zip([100.0, *at], at[:-1], strict=False)]
    assert all(gap >= 10.0 - 1e-6 for gap in gaps)
    assert len(at) <= total * seconds_a_step / 10 + 1
    assert bool(at) == (total * seconds_a_step > 10)
    if at:
        assert caplog.messages[-1] == f"SFT: 200 of 200 steps, {1 / seconds_a_step:.2f} a second"


def test_a_line_says_how_much_is_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    progress = Progress(log, "evaluation", 1_000, "cases", clock=clock)
    clock.now += 10
    progress.reach(50)
    clock.now += 790
    progress.reach(100)
    clock.now += 10_000
    progress.reach(101)
    assert caplog.messages == [
        "evaluation: 50 of 1000 cases, 5.00 a second, 3 min 10 s left",
        "evaluation: 100 of 1000 cases, 0.12 a second, 2 h 0 min left",
        "evaluation: 101 of 1000 cases, 0.01 a second, 26 h 42 min left",
    ]


@pytest.mark.parametrize("total", [0, 1, 5])
def test_what_is_over_at_once_says_nothing(caplog: pytest.LogCaptureFixture, total: int) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress(log, "DPO", total, clock=Clock())
    for done in range(total + 1):
        progress.reach(done)
    assert caplog.messages == []


@pytest.mark.parametrize("seconds", [0.004, 3.0, 4_000.0])
def test_its_own_lines_are_known_among_others(caplog: pytest.LogCaptureFixture, seconds: float) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    progress = Progress(log, "suite by_hand with retrieval", 9_000, "cases", clock=clock)
    for _ in range(9_000):
        clock.now += seconds
        progress.advance()
    assert caplog.messages
    assert all(map(is_line, caplog.messages))
    assert not any(
        map(is_line, ["", "SFT: validation loss 1.4072 after 0 steps", "suite x: 3 cases answered", "2 of 3"])
    )
