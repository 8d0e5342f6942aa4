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


def test_who_asked_is_the_user_who_triggered_a_run_or_the_clock(found: dict[str, Any]) -> None:
    """An event's word never is. Users who are called like what no person can be, are told apart from it."""
    assert found["requested"]["users"] == ["reviewer", "%schedule", "os%3Aroot", "Jos%C3%A9"]
    assert found["requested"]["clock"] == "schedule"


def test_of_an_asset_event_the_run_and_its_source_are_read_alone(found: dict[str, Any]) -> None:
    assert found["requested"]["event"] == ["ours", "demo_data", "r"]
    assert found["requested"]["bare"] == [None, None, None]


def test_an_asset_event_goes_out_for_something_new_alone_and_names_the_run(found: dict[str, Any]) -> None:
    skipped, before, after = found["published"]
    assert skipped == ["AirflowSkipException", "demo/dataset: nothing new"]
    assert before is None
    assert after == {"run": "a run"}


def test_bad_input_and_refusals_end_a_task_at_once_and_other_errors_may_be_tried_again(found: dict[str, Any]) -> None:
    assert found["failures"] == [
        ["AirflowFailException", "bad\n  found: 3"],
        ["AirflowFailException", "no"],
        ["AirflowFailException", "late"],
        ["NotAvailable", "away"],
        ["OSError", "disk"],
    ]


def test_a_use_case_that_no_dag_can_be_made_of_takes_no_other_with_it(found: dict[str, Any]) -> None:
    for built, named in found["fenced"]:
        assert built[:2] == ["first", "third"]
        assert named == 9  # kinds of DAGs


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
    ("ending", "recorded", "answer", "error"),
    [
        ("approve", [7, "approve", "reviewer", "fine"], "approve", None),
        ("another", [8, "approve", "reviewer", "fine"], "approve", None),
        ("unsaid", None, None, "does not say which decision"),
        ("reject", [7, "reject", "reviewer", None], "reject", "reviewer rejected decision 7"),
        ("nobody", [7, "reject", None, None], "reject", "rejected decision 7"),
        ("own", [7, "approve", "engineer", ""], "refused", "the approval of decision 7 was refused"),
        ("silence", [7, "timeout", None, None], None, "nobody answered in time"),
        ("broken", None, None, "broken"),
    ],
)
def test_every_answer_is_recorded_and_what_is_no_approval_fails(
    found: dict[str, Any], ending: str, recorded: list[Any] | None, answer: str | None, error: str | None
) -> None:
    kept, result, raised = found["answers"][ending]
    assert kept == ([] if recorded is None else [recorded])
    assert (result and result["answer"]) == answer
    if error is None:
        assert raised == []
        assert result["message"].startswith("reviewer approved decision")
    else:
        assert raised[0] == ("HITLTriggerEventError" if ending == "broken" else "AirflowFailException")
        assert error in raised[1]
