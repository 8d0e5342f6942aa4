"""What a training measures stands in the database while it runs; who may write it, and what a lost database does."""

import logging
import math
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pipeline import database, steps
from pipeline.database import Role
from pipeline.errors import FencedOut, Refused
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Result, Step
from pipeline.training.curve import Recorder, StepMetrics

pytestmark = pytest.mark.pg
TASK = Origin("airflow", "tester", "demo_retrain", "night", "sft")


def run(settings: Settings, work: Callable[[Attempt], Any], job: str = "training.sft", role: Role = "trainer") -> None:
    def done(attempt: Attempt) -> Result:
        work(attempt)
        return Result({})

    steps.run(settings, TASK, Step("demo", job, role, ("pipeline.canonical",), reuse="never"), done)


def recorded(settings: Settings) -> list[dict[str, Any]]:
    with database.connect(settings, "reader") as connection:
        return connection.execute("select * from lineage.training_curve order by step").fetchall()


def write(settings: Settings, attempt: Attempt, role: Role = "trainer", fence: int | None = None) -> None:
    with database.connect(settings, role) as connection:
        step = Jsonb([{"step": 1, "loss": 0.1}])
        database.call(connection, "lineage.record_steps", attempt.run_id, fence or attempt.fence, step)


def test_steps_are_merged_and_what_is_no_number_is_kept(settings: Settings) -> None:
    def work(attempt: Attempt) -> None:
        with Recorder(settings, attempt) as recorder:
            recorder.add(StepMetrics(0, eval_loss=3.0))
            recorder.add(StepMetrics.of(1, {"loss": 2.5, "grad_norm": 0.5, "mean_token_accuracy": 0.9}, memory_mib=700))
            recorder.add(StepMetrics.of(1, {"eval_loss": 2.0, "eval_rewards/margins": 0.1}))
            recorder.add(StepMetrics(2, loss=math.nan, gradient_norm=math.inf))
        with Recorder(settings, attempt) as again:
            again.add(StepMetrics(1, loss=2.25))
        assert [row["state"] for row in recorded(settings)] == ["running"] * 3, "it is there before the end"

    run(settings, work)
    rows = recorded(settings)
    assert [(row["step"], row["loss"], row["eval_loss"]) for row in rows[:2]] == [(0, None, 3.0), (1, 2.25, 2.0)]
    assert (rows[1]["gradient_norm"], rows[1]["eval_margin"], rows[1]["memory_mib"]) == (0.5, 0.1, 700)
    assert math.isnan(rows[2]["loss"])
    assert math.isinf(rows[2]["gradient_norm"])


def test_a_database_that_does_not_answer_loses_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    call = database.call
    failures = iter([psycopg.OperationalError("the server closed the connection")])

    def flaky(connection: Any, function: str, *arguments: Any) -> Any:
        if function == "lineage.record_steps" and (error := next(failures, None)) is not None:
            raise error
        return call(connection, function, *arguments)

    def work(attempt: Attempt) -> None:
        monkeypatch.setattr(database, "call", flaky)
        with Recorder(settings, attempt) as recorder, caplog.at_level(logging.WARNING):
            recorder.add(StepMetrics(1, loss=2.5))
            recorder._flush()
            assert recorded(settings) == []
            recorder.add(StepMetrics(2, loss=2.0))

    run(settings, work)
    assert [(row["step"], row["loss"]) for row in recorded(settings)] == [(1, 2.5), (2, 2.0)]
    assert "not in the database yet" in caplog.text


def test_an_attempt_that_another_took_over_from_is_stopped(settings: Settings) -> None:
    def work(attempt: Attempt) -> None:
        with Recorder(settings, attempt) as recorder:
            run(settings, lambda _: None)
            recorder.add(StepMetrics(1, loss=2.5))
            recorder._flush()
            with pytest.raises(FencedOut):
                recorder.add(StepMetrics(2, loss=2.0))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings, work)
    assert recorded(settings) == []


def test_nobody_but_the_attempt_itself_writes_what_it_measured(settings: Settings) -> None:
    ended = []

    def work(attempt: Attempt) -> None:
        ended.append(attempt)
        for role in database.ROLES:
            if role != "trainer":
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    write(settings, attempt, role)
        with pytest.raises(FencedOut):
            write(settings, attempt, fence=attempt.fence + 1)
        with database.connect(settings, "trainer") as connection:
            for statement in (
                "insert into lineage.training_step (run_id, step, fence) select run_id, 1, 1 from lineage.run",
                "update lineage.training_step set loss = 0",
                "delete from lineage.training_step",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())

    run(settings, work)
    with pytest.raises(FencedOut):
        write(settings, ended[0])

    def of_another_stage(attempt: Attempt) -> None:
        with pytest.raises(Refused, match="not one of trainer"):
            write(settings, attempt)

    run(settings, of_another_stage, "data.erase", "pipeline")
    assert recorded(settings) == []
