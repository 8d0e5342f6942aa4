"""Who asked for what an asset event began: the lineage's word, whatever the event says."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from pipeline.errors import Refused
from pipeline.people import origins
from pipeline.people.origins import AssetEvent

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def event(world: "World", name: str, dag_id: str | None, dag_run_id: str | None, age: int = 0) -> AssetEvent:
    return AssetEvent(NOW - timedelta(hours=age), str(world.runs[name].run_id), dag_id, dag_run_id)


def test_who_asked_is_who_the_emitting_runs_row_names(world: "World") -> None:
    emitted = event(world, "night-1.gate", "demo_retrain", "night-1")
    found = origins.emission(world.settings, "demo", [emitted])
    assert (found.run_id, found.requested_by) == (world.runs["night-1.gate"].run_id, "engineer")


def test_the_newest_event_that_was_emitted_counts(world: "World") -> None:
    older = event(world, "night-1.gate", "demo_retrain", "night-1", age=2)
    newer = event(world, "night-2.gate", "demo_retrain", "night-2", age=1)
    written = event(world, "night-1.gate", None, None)
    found = origins.emission(world.settings, "demo", [older, written, newer])
    assert found.run_id == world.runs["night-2.gate"].run_id


@pytest.mark.parametrize(
    "told",
    [
        {"dag_id": None, "dag_run_id": None},  # as a client writes it
        {"dag_id": "demo_retrain", "dag_run_id": "night-2"},
        {"dag_id": "other_retrain", "dag_run_id": "night-1"},
        {"run": None},
        {"run": "engineer"},
        {"run": {"requested_by": "reviewer"}},
        {"run": str(uuid4())},
        {"run": "'; drop table lineage.run; --"},
    ],
)
@pytest.mark.parametrize("use_case", ["demo"])
def test_an_event_that_no_run_emitted_says_nothing(world: "World", use_case: str, told: dict[str, Any]) -> None:
    sound = {
        "at": NOW,
        "run": str(world.runs["night-1.gate"].run_id),
        "dag_id": "demo_retrain",
        "dag_run_id": "night-1",
    }
    with pytest.raises(Refused, match="nobody can say who asked"):
        origins.emission(world.settings, use_case, [AssetEvent(**{**sound, **told})])
    with pytest.raises(Refused, match="nobody can say who asked"):
        origins.emission(world.settings, "other", [AssetEvent(**sound)])  # type: ignore[arg-type]
    assert origins.emission(world.settings, use_case, [AssetEvent(**sound)]).requested_by == "engineer"  # type: ignore[arg-type]
