"""Airflow itself: who may do what, which DAGs there are, when an asset event goes out, how a release is answered."""

import json
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from pipeline import database, services
from pipeline.demo.approval import WAITING
from pipeline.demo.watch import Ended
from pipeline.login import session
from pipeline.operations import cookbook
from pipeline.people import persons
from pipeline.services import airflow, processes, rest
from pipeline.services.configuration import folder, passwords
from tests.conftest import nightshift
from tests.e2e.conftest import World, small_usecase

pytestmark = pytest.mark.e2e


def write_broken(usecases: Path) -> None:
    """Writes a use case with a wrong value."""
    small_usecase(usecases / "broken")
    path = usecases / "broken" / "usecase.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"risk_tier": "hihg"}))


@pytest.fixture(scope="module")
def data(world: World) -> Ended:
    return world.commit("small")


@pytest.fixture(scope="module")
def index(world: World, data: Ended) -> Ended:
    return world.begun_by("small_reindex", data)


@pytest.fixture(scope="module")
def night(world: World, index: Ended) -> Ended:
    return world.run("small_retrain")


@pytest.fixture(scope="module")
def asked(world: World, night: Ended) -> Ended:
    """The release while it waits for an answer."""
    return world.begun_by("small_release", night, until=WAITING)


@pytest.fixture(scope="module")
def released(world: World, asked: Ended) -> Ended:
    """The release after the reviewer approved it, at the command line."""
    log_in(world, "reviewer")
    found = nightshift(world.settings, "approve", "small", "--reason", "the checks passed")
    assert (found["answer"], found["person"], found["by"]) == ("approve", "reviewer", "airflow")
    return world.watch.follow(asked.dag_id, asked.run_id)


def log_in(world: World, user: str) -> None:
    """Logs a user in at the command line, as he would."""
    password = passwords(world.settings)[user]
    assert nightshift(world.settings, "login", user, typed=f"{password}\n")["user"] == user
    assert nightshift(world.settings, "whoami")["name"] == user


def events(world: World, name: str) -> list[str]:
    """Returns the runs that emitted events of an asset."""
    (asset,) = [each for each in world.engineer.everything("assets", "assets") if each["name"] == name]
    found = world.engineer.everything("assets/events", "asset_events", asset_id=asset["id"])
    return [str(event["source_run_id"]) for event in found]


def asked_by(world: World, ended: Ended) -> set[str]:
    """Returns whom the lineage names as having asked for a run of a DAG."""
    with database.connect(world.settings, "auditor") as connection:
        rows = connection.execute(
            "select distinct requested_by from lineage.run where dag_id = %s and dag_run_id = %s",
            [ended.dag_id, ended.run_id],
        ).fetchall()
    return {row["requested_by"] for row in rows}


def test_up_again_changes_nothing(world: World) -> None:
    before = processes.alive(airflow.record(world.settings))
    assert services.up(world.settings).already
    assert processes.alive(airflow.record(world.settings)) == before


def test_an_auditor_reads_and_does_nothing_else(world: World) -> None:
    assert world.auditor.everything("dags", "dags")
    for method, path, body in (
        ("POST", "dags/small_data/dagRuns", {"logical_date": None}),
        ("PATCH", "dags/small_data", {"is_paused": True}),
        ("POST", "pools", {"name": "mine", "slots": 1}),
    ):
        with pytest.raises(rest.Answered) as refusal:
            world.auditor.call(method, path, body)
        assert refusal.value.status == httpx.codes.FORBIDDEN


def test_the_pool_of_the_training_tasks_is_there(world: World) -> None:
    assert world.auditor.call("GET", "pools/gpu")["slots"] == 1


def test_nothing_listens_but_the_api_server_on_its_own_port(world: World) -> None:
    listening: set[int] = set()
    for process in processes.tree(airflow.record(world.settings)):
        with suppress(psutil.NoSuchProcess):  # Airflow's parsers and tasks come and go; one that ended holds no port
            listening |= {c.laddr.port for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert listening == {int(airflow.url(world.settings).rsplit(":", 1)[1])}


def test_no_process_of_airflow_knows_the_superuser(world: World) -> None:
    password = world.settings.superuser_file.read_text().strip()
    environments: list[str] = []
    for process in processes.tree(airflow.record(world.settings)):
        with suppress(psutil.NoSuchProcess):
            environments.append(" ".join(process.environ().values()))
    assert any(str(world.settings.home) in environment for environment in environments)
    assert not any(password in environment for environment in environments)
    assert password not in (folder(world.settings) / "airflow.cfg").read_text()


def test_a_broken_yaml_is_one_import_error_and_a_new_one_is_new_dags(world: World) -> None:
    write_broken(world.settings.usecases)
    try:

        def errors() -> list[str]:
            told = world.engineer.call("GET", "importErrors")["import_errors"]
            return [str(error["stack_trace"]) for error in told]

        assert rest.wait(errors, 120)
        (message,) = errors()
        assert "broken/usecase.yaml: risk_tier" in message
        assert "did you mean high?" in message
        assert world.engineer.call("GET", "dags/small_data")["dag_id"] == "small_data"
        path = world.settings.usecases / "broken" / "usecase.yaml"
        path.write_text(path.read_text().replace("hihg", "high"))

        def mended() -> bool:
            return not errors() and "broken_data" in {d["dag_id"] for d in world.engineer.everything("dags", "dags")}

        assert rest.wait(mended, 120)
    finally:
        (world.settings.usecases / "broken" / "usecase.yaml").unlink()


def test_asset_events_go_out_exactly_when_something_is_new(world: World, data: Ended, index: Ended) -> None:
    assert data.succeeded("publish_dataset")
    assert data.succeeded("publish_documents")
    assert index.succeeded("publish_index")
    again = world.run("small_data")
    assert again.tasks["publish_dataset"] == again.tasks["publish_documents"] == "skipped"
    unchanged = world.run("small_reindex")
    assert unchanged.succeeded("plan")
    assert {unchanged.tasks[task] for task in ("batches", "embed", "build", "check", "swap", "publish_index")} == {
        "skipped"
    }
    for kind in ("dataset", "documents"):
        assert data.run_id in events(world, f"small/{kind}")
        assert again.run_id not in events(world, f"small/{kind}")
    assert index.run_id in events(world, "small/index")
    assert unchanged.run_id not in events(world, "small/index")


def test_who_asked_is_carried_from_run_to_run(world: World, data: Ended, index: Ended, night: Ended) -> None:
    for ended in (data, index, night):
        assert asked_by(world, ended) == {"engineer"}


def test_nobody_approves_what_he_asked_for(world: World, asked: Ended) -> None:
    """Neither by the page's API, nor at the command line, whatever the environment says about him; nor does who is no
    approver, nor who is nobody."""
    path = f"dags/small_release/dagRuns/{asked.run_id}/taskInstances/approve/-1/hitlDetails"
    question = world.engineer.call("GET", path)
    assert question["assigned_users"] == [{"id": "reviewer", "name": "reviewer"}]
    decision = question["params"]["decision"]["value"]
    body = {"chosen_options": ["Approve"], "params_input": {"decision": decision, "reason": "my own work"}}
    for user in (world.engineer, world.auditor):
        with pytest.raises(rest.Answered) as refusal:
            user.call("PATCH", path, body)
        assert refusal.value.status == httpx.codes.FORBIDDEN
    approve = ("approve", "small", "--reason", "mine")
    environ = {"LOGNAME": "reviewer", "USER": "reviewer", "USERNAME": "reviewer"}
    assert "nobody is logged in" in nightshift(world.settings, *approve, ends_with=1, environ=environ)["error"]["what"]
    assert nightshift(world.settings, "whoami", ends_with=1, environ=environ)["name"] == persons.of_process()
    assert "reviewer" not in persons.of_process()
    log_in(world, "engineer")
    for command in (approve, ("reject", "small")):
        assert "may not answer" in nightshift(world.settings, *command, ends_with=1, environ=environ)["error"]["what"]
    assert "no question" in nightshift(world.settings, *approve, "--decision", "999", ends_with=1)["error"]["what"]
    assert nightshift(world.settings, "logout")["logged_out"]
    with database.connect(world.settings, "auditor") as connection:
        assert connection.execute("select from release.approval where decision_id = %s", [decision]).fetchall() == []


def test_a_forged_login_is_none(world: World, asked: Ended) -> None:
    log_in(world, "engineer")
    file = session.file(world.settings)
    assert file.stat().st_mode & 0o077 == 0
    kept = json.loads(file.read_text())
    try:
        file.write_text(json.dumps(kept | {"user": "reviewer"}))
        assert nightshift(world.settings, "whoami")["name"] == "engineer", "the server says whose token it is"
        file.write_text(json.dumps(kept | {"token": kept["token"][:-4] + "AAAA"}))
        assert not nightshift(world.settings, "whoami", ends_with=1)["logged_in"]
        answer = nightshift(world.settings, "reject", "small", ends_with=1)
        assert "does not take the login" in answer["error"]["what"]
        log_in_fails = nightshift(world.settings, "login", "reviewer", typed="guess\n", ends_with=1)
        assert "Airflow refused" in log_in_fails["error"]["what"]
    finally:
        nightshift(world.settings, "logout")


def test_another_person_approves_and_the_pair_goes_live(world: World, released: Ended) -> None:
    assert released.succeeded("promote")
    assert released.succeeded("packet")
    (live,) = [row for row in cookbook.run(world.settings, "in_production", {}) if row["use_case"] == "small"]
    assert live["promoted_by"] == "reviewer"
    assert live["model_digest"]
    assert live["index_digest"]


def test_a_night_on_which_nothing_changed_ends_early_and_says_so(world: World, released: Ended) -> None:
    night = world.run("small_retrain")
    assert night.succeeded("changed")
    assert {night.tasks[task] for task in ("subjects", "evaluate", "gate", "evidence", "publish_candidate")} == {
        "skipped"
    }
    assert night.run_id not in events(world, "small/candidate")


def test_the_daily_round_finds_everything_in_order(world: World, released: Ended) -> None:
    world.engineer.call("PATCH", "dags/maintain", {"is_paused": False})
    assert set(world.run("maintain").tasks.values()) == {"success"}


def test_a_release_with_nothing_waiting_is_skipped(world: World, released: Ended) -> None:
    ended = world.run("small_release")
    assert set(ended.tasks.values()) == {"skipped"}
    (task,) = [task for task in world.engineer.tasks(ended.dag_id, ended.run_id) if task["task_id"] == "choose"]
    assert any("nothing waits" in line for line in world.engineer.log(ended.dag_id, ended.run_id, task, lines=200))


@pytest.mark.parametrize(
    ("kind", "dag_id", "task"), [("candidate", "small_release", "choose"), ("documents", "small_reindex", "plan")]
)
def test_who_asked_is_not_taken_from_an_event_that_a_client_wrote(
    world: World, released: Ended, night: Ended, kind: str, dag_id: str, task: str
) -> None:
    gated = world.engineer.result("small_retrain", night.run_id, "gate")
    (asset,) = [each for each in world.engineer.everything("assets", "assets") if each["name"] == f"small/{kind}"]
    extra = {"run": gated["run"], "requested_by": "reviewer", "decision_id": gated["decision_id"]}
    before = {run["dag_run_id"] for run in world.engineer.everything(f"dags/{dag_id}/dagRuns", "dag_runs")}
    world.engineer.call("POST", "assets/events", {"asset_id": asset["id"], "extra": extra})

    def begun() -> list[str]:
        runs = world.engineer.everything(f"dags/{dag_id}/dagRuns", "dag_runs")
        return [run["dag_run_id"] for run in runs if run["dag_run_id"] not in before]

    (run_id,) = rest.wait(begun, 120)
    ended = world.watch.follow(dag_id, run_id, may_fail=(task,))
    assert (ended.state, ended.tasks[task]) == ("failed", "failed")
    assert asked_by(world, ended) == set(), "no step was taken in anybody's name"
