"""A person is forgotten: asked for in Airflow, agreed to by another, and the next night's model is without him."""

import json
import time

import httpx
import pytest

from pipeline import data as data_stage
from pipeline import usecase
from pipeline.data import erasure
from pipeline.demo.approval import WAITING
from pipeline.demo.watch import Ended
from pipeline.login import answers
from pipeline.operations import cookbook
from pipeline.services import rest
from pipeline.steps import Origin
from tests.conftest import nightshift
from tests.e2e.conftest import PERSON, World

pytestmark = pytest.mark.e2e
NAME = "forgetful"


@pytest.fixture(scope="module")
def released(world: World) -> str:
    """The digest of the model that is live, trained on what is about the person, too."""
    world.commit(NAME)
    world.run(f"{NAME}_reindex")
    night = world.run(f"{NAME}_retrain")
    asked = world.begun_by(f"{NAME}_release", night, until=WAITING)
    assert world.answer(world.reviewer, asked, "Approve", "the checks passed").succeeded("promote")
    return str(nightshift(world.settings, "status", NAME)["use_cases"][NAME]["champion"]["digest"])


@pytest.fixture(scope="module")
def texts(world: World, released: str) -> list[str]:
    """The answers that are about the person, as the source has them."""
    lines = (world.settings.usecases / NAME / "examples" / "sft.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["messages"][0]["content"] for row in rows if row.get("data_subject") == PERSON]


@pytest.fixture(scope="module")
def asked(world: World, texts: list[str]) -> Ended:
    """The erasure while it waits for an answer."""
    conf = {"subject": PERSON, "reason": "she asked for it by letter"}
    return world.run(f"{NAME}_erase", conf, until=WAITING)


@pytest.fixture(scope="module")
def forgotten(world: World, asked: Ended) -> Ended:
    """The erasure after the reviewer agreed, and the commit that it began."""
    path = f"dags/{asked.dag_id}/dagRuns/{asked.run_id}/taskInstances/approve/-1/hitlDetails"
    question = world.reviewer.call("GET", path)
    params = {"erasure": question["params"]["erasure"]["value"], "reason": "her identity is checked"}
    time.sleep(2 * answers.REST_SECONDS)  # a busy scheduler sees late that the process which asked has ended
    before = {run["dag_run_id"] for run in world.engineer.everything(f"dags/{NAME}_data/dagRuns", "dag_runs")}
    world.reviewer.call("PATCH", path, {"chosen_options": ["Approve"], "params_input": params})
    ended = world.watch.follow(asked.dag_id, asked.run_id)

    def begun() -> list[str]:
        runs = world.engineer.everything(f"dags/{NAME}_data/dagRuns", "dag_runs")
        return [run["dag_run_id"] for run in runs if run["dag_run_id"] not in before]

    (commit,) = rest.wait(begun, 120)
    assert world.watch.follow(f"{NAME}_data", commit).succeeded("commit")
    return ended


def places(world: World, text: str) -> list[str]:
    """Returns the files of the installation that hold a text: artifacts, logs, scratch. The database's own files are
    searched by the tests of the data stage."""
    needles = (text.encode(), json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode())
    files = [path for path in world.settings.home.rglob("*") if path.is_file()]
    inside = [path for path in files if not path.is_relative_to(world.settings.pgdata)]
    return [str(path) for path in inside if any(needle in path.read_bytes() for needle in needles)]


def test_who_asked_does_not_agree_and_the_page_names_nobody(world: World, released: str, asked: Ended) -> None:
    path = f"dags/{asked.dag_id}/dagRuns/{asked.run_id}/taskInstances/approve/-1/hitlDetails"
    question = world.engineer.call("GET", path)
    assert "reviewer" in {user["id"] for user in question["assigned_users"]}
    assert "engineer" not in {user["id"] for user in question["assigned_users"]}
    assert PERSON not in question["body"]
    assert f"adapter `{released[:12]}`" in question["body"]
    assert "**live**" in question["body"]
    params = {"erasure": question["params"]["erasure"]["value"], "reason": "my own"}
    with pytest.raises(rest.Answered) as refusal:
        world.engineer.call("PATCH", path, {"chosen_options": ["Approve"], "params_input": params})
    assert refusal.value.status == httpx.codes.FORBIDDEN


def test_the_champion_is_flagged_and_nothing_of_the_text_is_left(
    world: World, released: str, texts: list[str], forgotten: Ended
) -> None:
    assert forgotten.succeeded("certify")
    flagged = cookbook.run(world.settings, "to_retrain", {"use_case": NAME})
    assert [(row["digest"], row["live"]) for row in flagged if row["live"]] == [(released, True)]
    assert texts
    for text in texts:
        assert places(world, text) == []


def test_the_next_nights_model_is_trained_without_it_and_one_query_says_so(
    world: World, released: str, forgotten: Ended
) -> None:
    night = world.run(f"{NAME}_retrain")
    asked = world.begun_by(f"{NAME}_release", night, until=WAITING)
    assert world.answer(world.reviewer, asked, "Approve", "it is without her").succeeded("promote")
    (row,) = cookbook.run(world.settings, "erasures", {"use_case": NAME})
    story = cookbook.run(world.settings, "erasure_story", {"erasure": str(row["erasure_id"])})
    assert {each["what"] for each in story} >= {"asked for", "agreed to", "row erased", "version redacted"}
    (newest,) = [each for each in story if each["what"] == "newest model"]
    assert (newest["erased_rows"], newest["live"]) == (0, True)
    case = usecase.find(world.settings, NAME)
    assert data_stage.forget(world.settings, [case], Origin("cli", "schedule")).models >= 1
    assert [each for each in cookbook.run(world.settings, "to_retrain", {"use_case": NAME}) if each["live"]] == []
    assert erasure.get(world.settings, case, row["erasure_id"]).state == "erased"
