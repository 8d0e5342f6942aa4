"""One installation for the whole e2e tier: an embedded Postgres and a real Airflow over use cases that the tests write.

Starting it takes longer than most tests, so they share it and keep to a use case of their own.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from pipeline import services
from pipeline import settings as settings_module
from pipeline.demo.approval import SignOff
from pipeline.demo.watch import Ended, Watch
from pipeline.login import answers
from pipeline.services import airflow
from pipeline.services.rest import Airflow
from pipeline.settings import ROOT, Settings

PERSON = "customer-17"
SHARED_DATA = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class World:
    """A running installation, and its users' sessions."""

    settings: Settings
    engineer: Airflow
    reviewer: Airflow
    auditor: Airflow
    watch: Watch

    def run(self, dag_id: str, conf: dict[str, Any] | None = None, until: str | None = None) -> Ended:
        """Returns a run of a DAG that the engineer asked for, at its end or when a task is in the state `until`."""
        return self.watch.follow(dag_id, self.engineer.trigger(dag_id, conf), until=until)

    def begun_by(self, dag_id: str, source: Ended, until: str | None = None) -> Ended:
        """Returns the run of a DAG that an asset event of another run began."""
        return self.watch.follow(dag_id, self.watch.begun_by(dag_id, source), until=until)

    def commit(self, use_case: str) -> Ended:
        """Returns a run of the data DAG, after the reviewer signed what is new in its version."""
        data = self.run(f"{use_case}_data")
        if data.succeeded("publish_dataset"):
            signing = SignOff(self.watch, self.watch.console, self.engineer, self.reviewer, interactive=False)
            dag_id = f"{use_case}_sign"
            assert signing.carry_out(dag_id, self.watch.begun_by(dag_id, data)).state == "success"
        return data

    def answer(self, user: Airflow, ended: Ended, option: str, reason: str) -> Ended:
        """Returns the release run after a user's answer to what it waits for."""
        path = f"dags/{ended.dag_id}/dagRuns/{ended.run_id}/taskInstances/approve/-1/hitlDetails"
        decision = user.call("GET", path)["params"]["decision"]["value"]
        params = {"decision": decision, "reason": reason}
        time.sleep(2 * answers.REST_SECONDS)  # a busy scheduler sees late that the process which asked has ended
        user.call("PATCH", path, {"chosen_options": [option], "params_input": params})
        return self.watch.follow(ended.dag_id, ended.run_id, may_fail=("approve",) if option == "Reject" else ())


def real_usecase(folder: Path) -> None:
    """Writes a use case over the public data, by the YAML that any user writes. The data stays where it is."""
    folder.mkdir(parents=True)
    keys = {
        "name": folder.name,
        "title": "Public data that nobody here wrote",
        "owner": "tests@example.org",
        "risk_tier": "minimal",
        "schedule": {"data": None, "reindex": None, "retrain": None},
        "documents": [
            {
                "path": str(SHARED_DATA / "wiki_demo.txt"),
                "format": "lines",
                "defaults": {"tenant": "library", "classification": "public", "groups": ["everyone"]},
            }
        ],
        "examples": [
            {"path": str(SHARED_DATA / "alpaca_en_demo.json"), "kind": "sft", "format": "alpaca"},
            {"path": str(SHARED_DATA / "dpo_en_demo.json"), "kind": "preference", "format": "sharegpt"},
            {"path": str(SHARED_DATA / "wiki_demo.txt"), "kind": "text"},
        ],
        "splits": {"train": 0.92, "validation": 0.04, "test": 0.04},
        "training": {
            "sft": {"max_steps": 4, "eval_steps": 2, "batch_size": 4, "max_length": 256, "learning_rate": 1e-3},
            "dpo": {"max_steps": 2, "eval_steps": 2, "batch_size": 2, "max_length": 256},
            "pretrain": {"max_steps": 2, "eval_steps": 2, "max_tokens": 60_000, "max_length": 512},
        },
        "principals": {"reader": {"tenant": "library", "groups": ["everyone"], "clearance": "public"}},
        "evaluation": {"max_new_tokens": 16},
        "release": {"thresholds": [{"metric": "likelihood", "minimum": 0.0}], "min_cases": 10},
    }
    (folder / "usecase.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))


def small_usecase(folder: Path) -> None:
    """Writes the tiny sample as a use case of few steps and a gate that a hardly trained model passes."""
    shutil.copytree(ROOT / "usecases" / "tiny", folder, ignore=shutil.ignore_patterns("generat*", "facts.yaml"))
    keys = yaml.safe_load((folder / "usecase.yaml").read_text())
    keys |= {"name": folder.name, "schedule": {"data": None, "reindex": None, "retrain": None}}
    keys["training"]["sft"] |= {"max_steps": 6, "eval_steps": 3, "max_tokens": 20_000}
    keys["training"]["dpo"] |= {"max_steps": 2, "eval_steps": 2, "max_tokens": 5_000}
    for suite in keys["evaluation"]["suites"]:
        suite["limit"] = 12
    keys["release"] |= {"thresholds": [{"metric": "value", "minimum": 0.0}], "min_cases": 10}
    (folder / "usecase.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))


def forgetful_usecase(folder: Path) -> None:
    """Writes the same without preference tuning, with four rows about one person, whose words no other use case has."""
    small_usecase(folder)
    yaml_file = folder / "usecase.yaml"
    keys = yaml.safe_load(yaml_file.read_text())
    keys["examples"] = [source for source in keys["examples"] if source["kind"] == "sft"]
    keys["training"]["dpo"] = {"enabled": False}
    yaml_file.write_text(yaml.safe_dump(keys, sort_keys=False))
    path = folder / "examples" / "sft.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:4]:
        question = row["messages"][0]
        question["content"] += f" The question is about {PERSON}."
        row["data_subject"] = PERSON
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def world(own_folder: Path) -> Iterator[World]:
    """The installation, with the use cases `small` and, where the public data is there, `real`."""
    root = own_folder / "e2e"
    if SHARED_DATA.exists():
        real_usecase(root / "usecases" / "real")
    small_usecase(root / "usecases" / "small")
    forgetful_usecase(root / "usecases" / "forgetful")
    settings = settings_module.from_environment(
        {"NIGHTSHIFT_HOME": str(root / "home"), "NIGHTSHIFT_USECASES": str(root / "usecases")}
    )
    try:
        up = services.up(settings)
        assert up.missing == []
        assert up.broken == []
        sessions = [airflow.session(settings, user) for user in ("engineer", "reviewer", "auditor")]
        with sessions[0] as engineer, sessions[1] as reviewer, sessions[2] as auditor:
            for dag in engineer.everything("dags", "dags"):
                if dag["dag_id"] != "maintain":
                    engineer.call("PATCH", f"dags/{dag['dag_id']}", {"is_paused": False})
            yield World(settings, engineer, reviewer, auditor, Watch(settings, engineer, Console(stderr=True)))
    finally:
        services.down(settings)
