"""What the DAG files share: who asked, when an asset event goes out, how mistakes end a task, how answers are recorded.

Airflow is imported in a process of its own: importing it configures logging and the environment of the whole process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import ROOT

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The answers of questions.py."""
    home = str(tmp_path_factory.mktemp("airflow"))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("questions.py")), str(ROOT / "dags")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": home, "NIGHTSHIFT_HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_who_asked_is_the_user_then_whoever_made_the_asset_new_then_the_schedule(found: dict[str, Any]) -> None:
    assert found["asked"] == ["reviewer", "engineer", "schedule", "schedule"]


def test_an_asset_event_goes_out_for_something_new_alone_and_says_who_asked(found: dict[str, Any]) -> None:
    skipped, before, after = found["published"]
    assert skipped == ["AirflowSkipException", "demo/dataset: nothing new"]
    assert before is None
    assert after == {"requested_by": "engineer", "digest": "abc"}


def test_bad_input_and_refusals_end_a_task_at_once_and_other_errors_may_be_tried_again(found: dict[str, Any]) -> None:
    assert found["told"] == [
        ["AirflowFailException", "bad\n  found: 3"],
        ["AirflowFailException", "no"],
        ["AirflowFailException", "late"],
        ["NotAvailable", "away"],
        ["OSError", "disk"],
    ]


def test_a_use_case_that_no_dag_can_be_made_of_takes_no_other_with_it(found: dict[str, Any]) -> None:
    for built, named in found["fenced"]:
        assert built[:2] == ["first", "third"]
        assert named == 7


def test_losses_of_the_machinery_cost_none_of_a_tasks_own_tries(found: dict[str, Any]) -> None:
    again, over, airflows = "retry", "fail", "default"
    assert found["retries"] == {
        "own": [airflows, airflows, over, over],
        "timeout": [airflows, airflows, over, over],
        "before its step": [airflows, airflows, over, over],
        "interrupted": [again] * 4,
        "terminated": [again] * 4,
        "exited": [again] * 4,
        "own after two losses": [airflows] * 4,
        "no database": [again] * 4,
    }


@pytest.mark.parametrize(
    ("ending", "recorded", "returned"),
    [
        ("approve", [7, "approve", "reviewer", "fine"], {"answer": "approve", "person": "reviewer"}),
        ("reject", [7, "reject", "reviewer", "no reason given"], {"answer": "reject", "person": "reviewer"}),
        ("own", [7, "approve", "engineer", "no reason given"], {"answer": "refused", "person": "engineer"}),
        ("silence", [7, "timeout", None, "nobody answered in time"], "HITLTimeoutError"),
        ("broken", None, "HITLTriggerEventError"),
    ],
)
def test_every_answer_is_recorded_and_silence_fails(
    found: dict[str, Any], ending: str, recorded: list[Any] | None, returned: Any
) -> None:
    kept, result = found["answers"][ending]
    assert kept == ([] if recorded is None else [recorded])
    assert result == ({"decision_id": 7} | returned if isinstance(returned, dict) else returned)
