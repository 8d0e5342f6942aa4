"""Status: of two nights, of an installation that has not run, and of one that is late."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pipeline import steps, usecase
from pipeline.errors import NotAvailable
from pipeline.operations import maintenance
from pipeline.operations import status as operations
from pipeline.records import plain
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Result, Step
from pipeline.usecase import UseCase

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg


def status(settings: Settings, usecase: UseCase | None = None, strict: bool = False) -> dict[str, Any]:
    """Returns the status as the command prints it."""
    answer: dict[str, Any] = plain(operations.status(settings, usecase, strict))
    return answer


CHAMPION = {"adapter": ("adapter", "candidate", b'{"weights":"night-1"}', False)}


def test_two_nights(world: "World", usecase_folder: Callable[..., Path]) -> None:
    demo = usecase.load(usecase_folder("demo") / "usecase.yaml")
    maintenance.seal_and_verify(world.settings)
    told = status(world.settings, demo)
    blocked = "demo: the last night was blocked by correct.minimum (fail: 0.500 [0.400, 0.600], wanted ≥ 0.600)"
    assert (told["ok"], told["reasons"]) == (False, [blocked])
    (found,) = told["use_cases"].values()
    assert found["champion"]["digest"] == world.versions["night-1.sft.adapter"].digest
    assert found["champion"]["promoted_by"] == "reviewer"
    assert found["index"]["generation"] == world.generation
    assert (found["last_night"]["night"], found["last_night"]["state"]) == ("night-2", "finished")
    assert found["last_night"]["outcome"] == "block"
    (check,) = found["last_night"]["blocked_by"]
    assert (check["name"], check["value"], check["wanted"]) == ("correct.minimum", 0.5, 0.6)
    assert found["waiting"] == []
    assert found["incidents"] == []
    assert told["anchor"]["block_no"] == 1


def test_nothing_has_run(settings: Settings, usecase_folder: Callable[..., Path]) -> None:
    usecase_folder("demo")
    told = status(settings)
    assert not told["ok"], "no model is live"
    assert told["use_cases"]["demo"] == {
        "champion": None,
        "index": None,
        "last_night": None,
        "waiting": [],
        "incidents": [],
    }
    assert not status(settings, strict=True)["ok"]
    assert "demo: no model is live" in told["reasons"]
    assert "demo: the last good night has not been yet" in told["reasons"]


def test_no_use_case_and_a_broken_one(settings: Settings, usecase_folder: Callable[..., Path]) -> None:
    assert status(settings, strict=True) == {"ok": True, "reasons": [], "use_cases": {}, "anchor": None}
    (usecase_folder("demo") / "usecase.yaml").write_text("name: [")
    for strict in (True, False):
        told = status(settings, strict=strict)
        assert not told["ok"]
        assert "demo: this is not YAML" in told["reasons"][0]


def test_what_was_live_and_is_not_any_more_is_a_problem(
    world: "World", usecase_folder: Callable[..., Path], attacker: psycopg.Connection[Any]
) -> None:
    """As after a rollback to the pair that had no model yet."""
    demo = usecase.load(usecase_folder("demo") / "usecase.yaml")
    world.run("night-3.dpo", "training.dpo", CHAMPION, role="trainer", night="night-3")
    assert status(world.settings, demo)["ok"]
    attacker.execute("update lineage.deployment set model_version_id = null where valid_to is null")
    told = status(world.settings, demo)
    assert (told["ok"], told["reasons"][0]) == (False, "demo: no model is live")


def test_no_server_and_no_schema(settings: Settings, usecase_folder: Callable[..., Path], tmp_path: Path) -> None:
    demo = usecase.load(usecase_folder("demo") / "usecase.yaml")
    absent = replace(settings, database_url=None, home=tmp_path / "nowhere")
    with pytest.raises(NotAvailable, match="the embedded Postgres is not running"):
        status(absent, demo)
    with pytest.raises(NotAvailable, match="no login"):
        status(replace(settings, logins=tmp_path / "no logins"), demo)


def test_strict_names_what_is_late(
    world: "World", usecase_folder: Callable[..., Path], attacker: psycopg.Connection[Any]
) -> None:
    freshness = {"night": 1e-9, "index": 1e-9, "anchor": 1e-9}
    demo = usecase.load(usecase_folder("demo", freshness=freshness) / "usecase.yaml")
    told = status(world.settings, demo, strict=True)
    assert not told["ok"]
    assert [reason.split(" is ")[0] for reason in told["reasons"]][1:] == [
        "demo: the last good night",
        "demo: the live index",
        "the audit's last anchor has not been written yet",
    ]
    world.run("night-3.dpo", "training.dpo", CHAMPION, role="trainer", night="night-3")
    assert status(world.settings, demo)["ok"], "without strict it says what is late and does not judge"


def test_a_failure_is_an_incident_until_it_is_made_good(world: "World", usecase_folder: Callable[..., Path]) -> None:
    demo = usecase.load(usecase_folder("demo") / "usecase.yaml")
    task = Origin("airflow", "engineer", "demo_retrain", "night-3", "sft")
    spec = Step("demo", "training.sft", "trainer", ("pipeline.canonical",), params={"night": 3})

    def fails(attempt: Attempt) -> Result:
        raise RuntimeError("secret text")

    with pytest.raises(RuntimeError):
        steps.run(world.settings, task, spec, fails)
    told = status(world.settings, demo, strict=True)
    (incident,) = told["use_cases"]["demo"]["incidents"]
    assert (incident["job"], incident["error_class"]) == ("training.sft", "RuntimeError")
    assert told["use_cases"]["demo"]["last_night"]["state"] == "failed"
    assert "demo: training.sft failed (RuntimeError)" in told["reasons"]
    assert "secret" not in str(told)
    again = replace(task, dag_run_id="night-4")
    steps.run(world.settings, again, replace(spec, params={"night": 4}), lambda attempt: Result({}))
    told = status(world.settings, demo)
    assert told["use_cases"]["demo"]["incidents"] == []
    assert told["use_cases"]["demo"]["last_night"]["state"] == "incomplete"


def test_a_night_whose_candidate_is_the_champion_is_a_good_one(
    world: "World", usecase_folder: Callable[..., Path]
) -> None:
    demo = usecase.load(usecase_folder("demo") / "usecase.yaml")
    world.run("night-3.dpo", "training.dpo", CHAMPION, role="trainer", night="night-3")
    night = status(world.settings, demo)["use_cases"]["demo"]["last_night"]
    assert world.versions["night-3.dpo.adapter"] == world.versions["night-1.sft.adapter"]
    assert (night["night"], night["state"]) == ("night-3", "unchanged")


def test_the_auditors_login_is_enough(world: "World", usecase_folder: Callable[..., Path], tmp_path: Path) -> None:
    demo = usecase.load(usecase_folder("demo") / "usecase.yaml")
    logins = tmp_path / "one login"
    logins.mkdir()
    (logins / "auditor").write_text((world.settings.logins / "auditor").read_text())
    told = status(replace(world.settings, logins=logins), demo)
    assert told["use_cases"]["demo"]["champion"]
