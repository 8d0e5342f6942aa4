"""What the demo shows and returns, from records as the stages write them."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from pipeline.demo import report, watch

pytestmark = pytest.mark.unit


def estimate(value: float) -> dict[str, Any]:
    """Returns a metric as an evaluation's facts hold it."""
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 100}


def console() -> Console:
    """Returns a console that keeps what is printed."""
    return Console(file=StringIO(), width=200)


def printed(console: Console) -> str:
    """Returns what was printed on it."""
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_results_stand_by_metric_condition_and_model_with_their_intervals() -> None:
    target = console()
    found = [
        {"subject": "base", "with": {"value": estimate(0.2)}, "without": {"value": estimate(0.1)}},
        {"subject": "candidate", "with": {"value": estimate(0.7), "source": estimate(0.6)}, "without": {}},
    ]
    report.show_results(target, found)
    text = printed(target)
    assert "SFT + DPO" in text
    (line,) = [line for line in text.splitlines() if "value" in line and "with retrieval" in line]
    assert "0.20 [0.10, 0.30]" in line
    assert "0.70 [0.60, 0.80]" in line
    assert not [line for line in text.splitlines() if "source" in line and "without" in line]


def test_a_check_that_measured_nothing_shows_its_reason() -> None:
    target = console()
    checks = [
        {"name": "value", "verdict": "pass", "wanted": 0.3, "reason": "reached", **estimate(0.5)},
        {"name": "policy.sealed", "verdict": "fail", "reason": "sealed after the training"},
    ]
    report.show_checks(target, "block", checks)
    text = printed(target)
    assert "sealed after the training" in text
    assert "≥ 0.30" in text


def test_a_mapped_task_is_as_bad_as_its_worst_and_takes_as_long_as_all() -> None:
    times = {"start_date": "2026-01-01T00:00:00+00:00", "end_date": "2026-01-01T00:00:02+00:00"}
    tasks: list[dict[str, Any]] = [
        {"task_id": "embed", "state": "success", **times},
        {"task_id": "embed", "state": "failed", **times},
        {"task_id": "embed", "state": "success", **times},
        {"task_id": "plan", "state": "skipped", "start_date": None, "end_date": None},
    ]
    ended = watch._ended("demo_reindex", "run", "success", 9.0, tasks)
    assert ended.tasks == {"embed": "failed", "plan": "skipped"}
    assert ended.task_seconds == {"embed": 6.0, "plan": 0.0}
    assert not ended.succeeded("embed")
