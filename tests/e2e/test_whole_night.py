"""The promises that hold over a whole cycle: no, killed, who logged in, and every question answered afterwards."""

import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import yaml
from rich.console import Console

from pipeline import database, services
from pipeline.database import Connection
from pipeline.demo.approval import WAITING
from pipeline.demo.watch import Ended, Watch
from pipeline.operations import cookbook
from pipeline.operations.status import status
from pipeline.services import airflow, processes, rest
from pipeline.services.rest import Airflow
from tests.conftest import nightshift
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e
NAME = "small"


@pytest.fixture(scope="module")
def champion(world: World) -> str:
    """The digest of the model that is live, released here unless another module's tests released one."""
    live = status(world.settings).use_cases[NAME].champion
    if live is None:
        assert nightshift(world.settings, "status", NAME, ends_with=1)["reasons"][0] == f"{NAME}: no model is live"
        world.commit(NAME)
        world.run(f"{NAME}_reindex")
        night = world.run(f"{NAME}_retrain")
        asked = world.begun_by(f"{NAME}_release", night, until=WAITING)
        assert world.answer(world.reviewer, asked, "Approve", "the checks passed").succeeded("promote")
        live = status(world.settings).use_cases[NAME].champion
    assert live is not None
    return str(live.digest)


def under_way(world: World, run_id: str) -> None:
    """Waits until a night's SFT is under way."""

    def begun() -> bool:
        with database.connect(world.settings, "auditor") as connection:
            return bool(attempts(connection, run_id))

    assert rest.wait(begun, 300)
    time.sleep(2)  # into the work


def kill_the_training(world: World, run_id: str) -> None:
    """Waits until a night's SFT is under way and kills its process, with the Airflow task that waits for it."""
    under_way(world, run_id)
    (worker,) = [
        process
        for process in processes.tree(airflow.record(world.settings))
        if process.status() != psutil.STATUS_ZOMBIE and "pipeline.training.worker" in process.cmdline()
    ]
    for process in (worker.parent(), worker):
        assert process is not None
        process.kill()


def attempts(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    """Returns the attempts at a night's SFT: fence and state, in their order."""
    return connection.execute(
        "select a.fence, a.state, r.state as run_state from lineage.run r join lineage.job j using (job_id)"
        " join lineage.attempt a using (run_id) where r.dag_run_id = %s and j.name = 'training.sft' order by a.fence",
        [run_id],
    ).fetchall()


@pytest.fixture(scope="module")
def killed(world: World, champion: str) -> Ended:
    """A night with another seed, whose training was killed once."""
    path = world.settings.usecases / NAME / "usecase.yaml"
    keys = yaml.safe_load(path.read_text())
    keys["training"]["sft"]["seed"] = 8
    path.write_text(yaml.safe_dump(keys, sort_keys=False))
    run_id = world.engineer.trigger(f"{NAME}_retrain")
    kill_the_training(world, run_id)
    return world.watch.follow(f"{NAME}_retrain", run_id)


@pytest.fixture(scope="module")
def rejected(world: World, killed: Ended) -> Ended:
    """The release of that night, which the reviewer rejects."""
    asked = world.begun_by(f"{NAME}_release", killed, until=WAITING)
    return world.answer(world.reviewer, asked, "Reject", "the value metric does not convince me")


def in_production(world: World) -> dict[str, Any]:
    """Returns what the cookbook says is in production in the use case."""
    rows = cookbook.run(world.settings, "in_production", {})
    (live,) = [row for row in rows if row["use_case"] == NAME]
    return live


def test_a_killed_training_is_retried_and_completes(world: World, killed: Ended) -> None:
    assert killed.succeeded("gate")
    with database.connect(world.settings, "auditor") as connection:
        made = attempts(connection, killed.run_id)
    assert [(row["fence"], row["state"]) for row in made] == [(1, "superseded"), (2, "succeeded")]
    assert {row["run_state"] for row in made} == {"succeeded"}


def test_a_rejection_leaves_the_champion_and_says_who_and_why(world: World, champion: str, rejected: Ended) -> None:
    assert (rejected.state, rejected.tasks["approve"], rejected.tasks["promote"]) == (
        "failed",
        "failed",
        "upstream_failed",
    )
    (task,) = [task for task in world.engineer.tasks(rejected.dag_id, rejected.run_id) if task["task_id"] == "approve"]

    def said() -> bool:
        lines = world.engineer.log(rejected.dag_id, rejected.run_id, task, lines=200)
        return any("reviewer rejected decision" in line for line in lines)

    # On a busy machine a task's log is written a moment after its state.
    assert rest.wait(said, 30)
    assert world.engineer.result(rejected.dag_id, rejected.run_id, "approve")["outcome"] == "reject"
    told = nightshift(world.settings, "status", NAME)["use_cases"][NAME]
    assert told["champion"]["digest"] == champion
    rows = cookbook.run(world.settings, "nightly_results", {"use_case": NAME})
    (row,) = [row for row in rows if row["answer"] == "reject"]
    assert row["person"] == "reviewer"
    assert row["reason"] == "the value metric does not convince me"
    assert row["live_from"] is None


def test_no_work_was_done_by_a_superuser_or_an_owner(world: World, rejected: Ended) -> None:
    rows = cookbook.run(world.settings, "attempts_by_login", {})
    assert {row["login"] for row in rows} <= set(database.ROLES)
    assert {"pipeline", "trainer", "evaluator"} <= {row["login"] for row in rows}
    assert not any(row["superuser"] or row["owner"] for row in rows)


def test_every_question_of_the_cookbook_is_answered(world: World, champion: str, rejected: Ended) -> None:
    world.engineer.call("PATCH", "dags/maintain", {"is_paused": False})
    assert world.run("maintain").succeeded("audit"), "the audit's chain is what it seals"
    live = in_production(world)
    assert live["model_digest"] == champion
    known = {
        "use_case": NAME,
        "principal": "nora-compliance",
        "tenant": "northbank",
        "groups": "compliance,everyone",
        "clearance": "internal",
        "document": "breach-notice",
        "at": "2100-01-01",
        "day": "2100-01-01",
        "digest": champion[:12],
        "deployment": str(live["deployment_id"]),
        "decision": str(live["decision_id"]),
        "erasure": "0",  # of this use case nothing was erased: see test_forgetting.py
    }
    empty = []
    for name, about in cookbook.names().items():
        params = {parameter: known[parameter] for parameter in about["parameters"]}
        if not cookbook.run(world.settings, name, params):
            empty.append(name)
    # Nothing broke, nobody's token was refused, and no question waits at the end of this cycle.
    # Nor did anybody's approval get as far as to be refused here: Airflow turned it away.
    assert set(empty) <= {
        "broken_jobs",
        "refused_retrievals",
        "pending_approvals",
        "rejected_by_rule",
        "open_findings",
        "refused_approvals",
        "erasures",
        "erasure_story",
        "redacted_versions",
        "to_retrain",
        "waivers",
        "generated_share",
        "locked_readings",
        "rows_read",
    }


def test_the_command_line_answers_as_its_contract_says(world: World, champion: str, rejected: Ended) -> None:
    told = nightshift(world.settings, "status", NAME)["use_cases"][NAME]
    assert {"champion", "index", "last_night", "waiting", "incidents"} <= told.keys()
    found = nightshift(world.settings, "search", NAME, "breach notification", "--as", "nora-compliance")
    assert {"document", "version", "chunk", "score", "text"} == set(found["results"][0])
    assert found["route"] == "exact"
    assert found["audit_id"] > 0
    graph = nightshift(world.settings, "lineage", champion[:16])
    kinds = {node["kind"] for node in graph["nodes"]}
    assert {"adapter", "dataset", "base_model", "snapshot"} <= kinds
    dataset = next(node for node in graph["nodes"] if node["kind"] == "dataset")
    down = nightshift(world.settings, "lineage", dataset["digest"], "--down")
    assert champion in {node["digest"] for node in down["nodes"]}
    assert "base_model" not in {node["kind"] for node in down["nodes"]}, "it was checked beside the dataset, no more"
    with database.connect(world.settings, "auditor") as connection:
        row = connection.execute(
            "select r.run_id from lineage.run r join lineage.job j using (job_id) where j.name = 'training.sft'"
            " and j.use_case = %s and r.state = 'succeeded' order by r.started_at desc",
            [NAME],
        ).fetchone()
    assert row is not None
    explained = nightshift(world.settings, "explain", str(row["run_id"]))
    assert any("seed" in str(part) or "recipe" in str(part) for part in explained["changed"])


def test_what_is_live_is_evaluated_again_and_its_packet_renewed(world: World, champion: str, rejected: Ended) -> None:
    for kind in ("evaluate", "govern"):
        world.engineer.call("PATCH", f"dags/{NAME}_{kind}", {"is_paused": False})
    assert world.run(f"{NAME}_evaluate").succeeded("champion")
    assert world.run(f"{NAME}_govern").succeeded("packet")


def test_the_packet_of_what_is_live_is_verified_offline(world: World, champion: str) -> None:
    live = in_production(world)
    built = nightshift(world.settings, "packet", "build", NAME, "--decision", str(live["decision_id"]))
    verified = nightshift(world.settings, "packet", "verify", built["path"])
    assert verified["verified"] is True


@pytest.fixture(scope="module")
def stopped(world: World, rejected: Ended) -> Iterator[tuple[Ended, Airflow]]:
    """A night that nothing can let through, in whose SFT everything was stopped and started again."""
    path = world.settings.usecases / NAME / "usecase.yaml"
    keys = yaml.safe_load(path.read_text())
    keys["training"]["sft"]["seed"] = 9
    keys["release"]["thresholds"] = [{"metric": "value", "minimum": 1.0}]
    path.write_text(yaml.safe_dump(keys, sort_keys=False))
    run_id = world.engineer.trigger(f"{NAME}_retrain")
    under_way(world, run_id)
    assert services.down(world.settings).stopped
    assert services.up(world.settings).missing == []
    with airflow.session(world.settings, "engineer") as engineer:
        watch = Watch(world.settings, engineer, Console(stderr=True))
        yield watch.follow(f"{NAME}_retrain", run_id, may_fail=("publish_candidate",)), engineer


def test_down_and_up_in_the_middle_of_a_training_loses_no_night(world: World, stopped: tuple[Ended, Airflow]) -> None:
    """An orderly stop ends the attempt as interrupted, which is no failure; the night goes on when all is up again."""
    night, engineer = stopped
    assert night.succeeded("gate")
    health = engineer.call("GET", "monitor/health")
    assert {component: shown["status"] for component, shown in health.items()} == dict.fromkeys(
        ("metadatabase", "scheduler", "triggerer", "dag_processor"), "healthy"
    )
    with database.connect(world.settings, "auditor") as connection:
        assert [row["state"] for row in attempts(connection, night.run_id)] == ["interrupted", "succeeded"]
        failed = connection.execute(
            "select count(*) as n from lineage.attempt join lineage.run r using (run_id)"
            " where r.dag_run_id = %s and lineage.attempt.state = 'failed'",
            [night.run_id],
        ).fetchone()
    assert failed == {"n": 0}


def test_a_blocked_night_is_red_and_says_why_first(world: World, champion: str, stopped: tuple[Ended, Airflow]) -> None:
    night, engineer = stopped
    assert (night.state, night.tasks["evidence"], night.tasks["publish_candidate"]) == ("failed", "success", "failed")
    (task,) = [task for task in engineer.tasks(night.dag_id, night.run_id) if task["task_id"] == "publish_candidate"]
    lines = engineer.log(night.dag_id, night.run_id, task, lines=200)
    assert task["try_number"] == 1, "trying again cannot help"
    assert any("blocked: value" in line and "wanted ≥ 1.00" in line for line in lines)
    shown = nightshift(world.settings, "status", NAME, ends_with=1)
    assert any("the last night was blocked by value" in reason for reason in shown["reasons"])
    assert shown["use_cases"][NAME]["champion"]["digest"] == champion
