"""The DAGs that the use cases make, loaded as Airflow loads them, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import ROOT

pytestmark = pytest.mark.unit

KINDS = ("data", "reindex", "retrain", "release", "evaluate", "govern", "rollback", "erase", "sign")
Loaded = dict[str, Any]


def load(folder: Path, home: Path) -> Loaded:
    """Returns what the probe saw: dags, errors, heavy modules."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("probe.py")), str(ROOT / "dags")],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "NIGHTSHIFT_HOME": str(home / "nightshift"),
            "NIGHTSHIFT_USECASES": str(folder),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Loaded = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Two sound use cases and a broken one."""
    home = tmp_path_factory.mktemp("dags")
    for name in ("first", "second", "third"):
        folder = home / "usecases" / name
        (folder / "documents").mkdir(parents=True)
        (folder / "sft.jsonl").write_text("")
        (folder / "usecase.yaml").write_text(
            f"name: {name}\ntitle: A use case\nowner: {name}@example.org\n"
            f"risk_tier: {'hihg' if name == 'third' else 'high'}\n"
            "documents: [{path: documents}]\nexamples: [{path: sft.jsonl, kind: sft}]\n"
            "training: {timeout_minutes: 90}\nrelease: {approval: {timeout_hours: 6}}\n"
        )
    return load(home / "usecases", home)


def tasks(loaded: Loaded, dag_id: str) -> dict[str, Any]:
    """Returns the tasks of a DAG."""
    found: dict[str, Any] = loaded["dags"][dag_id]["tasks"]
    return found


def test_every_sound_use_case_has_its_dags(three: Loaded) -> None:
    expected = {f"{name}_{kind}" for name in ("first", "second") for kind in KINDS}
    assert set(three["dags"]) == expected | {"maintain"}


def test_a_broken_yaml_is_one_import_error_that_names_file_and_key(three: Loaded) -> None:
    (message,) = three["errors"].values()
    assert "third/usecase.yaml: risk_tier" in message
    assert "found: hihg" in message
    assert "did you mean high?" in message


def test_several_broken_yamls_are_all_named(tmp_path: Path, usecase_folder: Callable[..., Path]) -> None:
    for name in ("one", "two"):
        usecase_folder(name, risk_tier="none")
    usecase_folder("sound")
    loaded = load(tmp_path / "usecases", tmp_path)
    (message,) = loaded["errors"].values()
    assert "one/usecase.yaml" in message
    assert "two/usecase.yaml" in message
    assert "sound_data" in loaded["dags"]


def test_loading_dags_imports_nothing_heavy(three: Loaded) -> None:
    assert three["heavy"] == []


def test_every_dag_says_what_to_do_when_it_fails_and_does_not_catch_up(three: Loaded) -> None:
    for dag_id, dag in three["dags"].items():
        assert "fails.**" in dag["doc"], dag_id
        assert "Clearing is safe" in dag["doc"], dag_id
        assert dag["catchup"] is False
        assert "nightshift" in dag["tags"]
        # A question may wait for days: one about something newer must be able to begin beside.
        assert dag["max_active_runs"] == (16 if dag_id.endswith(("_release", "_erase", "_sign")) else 1)


def test_every_task_has_owner_timeout_and_retries_with_backoff_but_for_acts_of_persons(three: Loaded) -> None:
    for dag_id, dag in three["dags"].items():
        for task_id, task in dag["tasks"].items():
            assert task["owner"] == ("nightshift" if dag_id == "maintain" else f"{dag_id.split('_')[0]}@example.org")
            if task_id in ("approve", "promote", "rollback", "data_owner", "privacy_reviewer"):
                assert task["retries"] == 0
            else:
                assert task["retries"] >= 1
                assert task["backoff"]
            # The wait for a person has a limit of its own; an execution timeout would be taken for it.
            assert (task["timeout"] is None) == (task_id in ("approve", "data_owner", "privacy_reviewer"))


def test_training_tasks_alone_are_bound_to_the_gpu(three: Loaded) -> None:
    found = tasks(three, "first_retrain")
    bound = {name for name, task in found.items() if task["queue"] == "gpu" or task["pool"] == "gpu"}
    assert bound == {"pretrain", "sft", "dpo"}
    for name in bound:
        assert (found[name]["queue"], found[name]["pool"]) == ("gpu", "gpu")
        assert found[name]["timeout"] == 90 * 60


def test_nothing_is_erased_before_a_person_has_answered(three: Loaded) -> None:
    found = tasks(three, "first_erase")
    assert {name: task["downstream"] for name, task in found.items()} == {
        "ask": ["approve", "erase"],
        "approve": ["erase"],
        "erase": ["certify"],
        "certify": ["commit"],
        "commit": [],
    }
    assert (found["approve"]["queue"], found["approve"]["defaults"]) == ("release", None)
    assert {task["rule"] for task in found.values()} == {"TriggerRule.ALL_SUCCESS"}


def test_a_no_to_new_data_fails_the_run_and_the_card_is_written_all_the_same(three: Loaded) -> None:
    found = tasks(three, "first_sign")
    assert {name: task["downstream"] for name, task in found.items()} == {
        "ask": ["card", "data_owner", "privacy_reviewer"],
        "data_owner": ["card", "signed"],
        "privacy_reviewer": ["card", "signed"],
        "card": ["signed"],
        "signed": [],
    }
    for role in ("data_owner", "privacy_reviewer"):
        assert (found[role]["queue"], found[role]["defaults"]) == ("release", None)
    rules = {name: task["rule"].rpartition(".")[2] for name, task in found.items()}
    assert (rules["card"], rules["signed"], rules["data_owner"]) == ("ALL_DONE", "NONE_FAILED", "ALL_SUCCESS")


def test_runs_can_be_asked_to_reuse_nothing(three: Loaded) -> None:
    for kind in ("data", "reindex", "retrain"):
        assert three["dags"][f"first_{kind}"]["params"]["reuse"]["enum"] == ["auto", "never"]


def test_assets_join_the_dags_of_a_use_case(three: Loaded) -> None:
    outlets = {
        (dag_id, task_id): task["outlets"]
        for dag_id, dag in three["dags"].items()
        for task_id, task in dag["tasks"].items()
        if task["outlets"] and dag_id.startswith("first_")
    }
    assert outlets == {
        ("first_data", "publish_dataset"): ["first/dataset"],
        ("first_data", "publish_documents"): ["first/documents"],
        ("first_reindex", "publish_index"): ["first/index"],
        ("first_retrain", "publish_candidate"): ["first/candidate"],
    }
    assert "first/documents" in three["dags"]["first_reindex"]["schedule"]
    assert "30 1 * * *" in three["dags"]["first_reindex"]["schedule"]
    assert "first/candidate" in three["dags"]["first_release"]["schedule"]


def test_thresholds_are_sealed_before_anything_is_trained(three: Loaded) -> None:
    found = tasks(three, "first_retrain")
    assert "preflight" in found["seal"]["downstream"]
    assert {"pretrain", "sft", "dpo"} <= set(found["preflight"]["downstream"])
    assert "subjects" in found["changed"]["downstream"]  # the champion again: the rest is skipped


def test_an_index_is_built_where_documents_only_went_away(three: Loaded) -> None:
    assert tasks(three, "first_reindex")["build"]["rule"].endswith("NONE_FAILED")


def test_silence_is_never_a_yes(three: Loaded) -> None:
    approve = tasks(three, "first_release")["approve"]
    assert approve["defaults"] is None
    assert approve["response_timeout"] == "6:00:00"
    assert tasks(three, "first_release")["promote"]["rule"].endswith("NONE_FAILED_MIN_ONE_SUCCESS")
