"""Loss curves as pictures (SVG), drawn from a packet's evidence alone: the same evidence gives the same bytes."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

SUFFIX = ".svg"
TEMPLATE = Path(__file__).parent / "templates" / "curve.svg.j2"
_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 40  # margins, in pixels
_TICKS = 5
_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def name(job: str, run: str) -> str:
    """Returns the file name of a run's picture. It holds no digit: to show it is to state no figure."""
    return f"curve_{job.rpartition('.')[2]}_{run[:8].translate(_LETTERS)}{SUFFIX}"


def curves(points: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns a picture for each run that has losses, by file name. `points` are rows of the record `curves`, in the
    order of run and step."""
    pictures = {}
    for (job, run), rows in groupby(points, key=lambda row: (row["job"], row["run_id"])):
        own = list(rows)
        trained = [(row["step"], row["loss"]) for row in own if row["loss"] is not None]
        validated = [(row["step"], row["eval_loss"]) for row in own if row["eval_loss"] is not None]
        if trained or validated:
            pictures[name(job, run)] = _drawn(job, trained, validated)
    return pictures


def _drawn(job: str, trained: list[tuple[int, float]], validated: list[tuple[int, float]]) -> str:
    import jinja2

    everything = trained + validated
    steps = max(step for step, _ in everything) or 1
    ticks = _ticks(min(loss for _, loss in everything), max(loss for _, loss in everything))
    low, high = ticks[0], ticks[-1]

    def place(point: tuple[float, float]) -> tuple[str, str]:
        across = _LEFT + point[0] / steps * (_WIDTH - _LEFT - _RIGHT)
        down = _TOP + (high - point[1]) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return f"{across:.1f}", f"{down:.1f}"

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        title=job,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        bottom=_HEIGHT - _BOTTOM,
        levels=[(f"{tick:.4g}", place((0, tick))[1]) for tick in ticks],
        steps=[(str(round(steps * n / 4)), place((steps * n / 4, low))[0]) for n in range(5)],
        trained=[place(point) for point in trained],
        validated=[place(point) for point in validated],
    )


def _ticks(low: float, high: float) -> list[float]:
    """Returns round numbers, at least two, of which the first is at most `low` and the last at least `high`."""
    span = (high - low) or max(abs(high), 1.0)
    rough = span / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
