"""The newest version of an artifact is what a run registered last, whichever content was there first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from pipeline import database, steps, usecase
from pipeline.cli.stages import _model
from pipeline.context import Context
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Step, Version

pytestmark = pytest.mark.pg


def train(settings: Settings, content: str, way: str, kind: str = "adapter", name: str = "candidate") -> Version:
    """Returns the version of a run that made this content: anew, or answered by an earlier run."""

    def work(attempt: Attempt) -> Result:
        if way == "fails":
            raise RuntimeError
        stored = attempt.store.put(kind, {"weights.txt": content.encode()})
        return Result({"output": Output.of(stored, name, private=False)})

    reuse: steps.Reuse = "never" if way == "anew" else "auto"
    params = {"content": content, "kind": kind, "name": name, "fails": way == "fails"}
    job = "training.preflight" if kind == "base_model" else "training.dpo"
    step = Step("demo", job, "trainer", ("pipeline.canonical",), params=params, reuse=reuse)
    return steps.run(settings, Origin("cli", "engineer"), step, work).outputs["output"]


STEPS = st.tuples(st.sampled_from("ABC"), st.sampled_from(["anew", "reused", "fails", "other name"]))


@effort(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=2, max_size=6))
@example([("A", "anew"), ("B", "anew"), ("A", "reused")])
@example([("A", "anew"), ("B", "anew"), ("A", "anew"), ("B", "reused"), ("A", "reused")])
@example([("A", "anew"), ("B", "fails"), ("B", "other name")])
def test_the_newest_is_what_was_registered_last(settings: Settings, history: list[tuple[str, str]]) -> None:
    with database.connect(settings, "pipeline") as connection:
        expected = steps.latest(connection, "demo", "adapter", "candidate")
        for content, way in history:
            if way == "fails":
                with pytest.raises(RuntimeError):
                    train(settings, content, way)
            elif way == "other name":
                train(settings, content, "anew", name="sft")
            else:
                expected = train(settings, content, way)
            assert steps.latest(connection, "demo", "adapter", "candidate") == expected


def test_gate_and_evaluate_take_what_was_registered_last(
    settings: Settings, attacker: psycopg.Connection[Any], usecase_folder: Callable[..., Path]
) -> None:
    """After A, B and A again; also where the clock went back between B and A, and where A was purged."""
    context = Context(settings, usecase.load(usecase_folder() / "usecase.yaml"), Origin("cli", "engineer"))
    train(settings, "base", "anew", "base_model", "base")
    first = train(settings, "A", "anew")
    second = train(settings, "B", "anew")
    assert _model(context, "candidate")[1] == second
    assert train(settings, "A", "reused") == first
    assert first.version_id < second.version_id
    assert _model(context, "candidate")[1] == first
    attacker.execute(
        "update lineage.run set started_at = started_at - interval '1 hour', ended_at = ended_at - interval '1 hour'"
        " where state = 'reused'"
    )
    assert _model(context, "candidate")[1] == first
    attacker.execute("update lineage.artifact_version set purged_at = now() where version_id = %s", [first.version_id])
    assert _model(context, "candidate")[1] == second
