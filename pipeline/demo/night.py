"""One night, driven: data, index, training with evaluation and gate, release; then what came of it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from pipeline import catalogue, models, services
from pipeline import usecase as usecase_module
from pipeline.demo import report
from pipeline.demo.approval import Release, SignOff
from pipeline.demo.memory import Sampler
from pipeline.demo.watch import Ended, Watch
from pipeline.errors import NotAvailable
from pipeline.services import airflow
from pipeline.services.rest import Airflow
from pipeline.services.up import Running
from pipeline.settings import Settings
from pipeline.usecase import UseCase

DRIVEN = ("data", "sign", "reindex", "retrain", "release")


@dataclass
class Night:
    """The state of a demo under way."""

    settings: Settings
    name: str
    console: Console
    sampler: Sampler
    stages: dict[str, float] = field(default_factory=dict)
    tasks: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage, and tells the memory sampler which it is."""
        self.sampler.stage, begun = name, time.monotonic()
        self.console.print(f"[bold]{name}[/]")
        yield
        self.stages[name] = round(time.monotonic() - begun, 1)

    def keep(self, ended: Ended) -> Ended:
        """Keeps the times of a run's tasks."""
        self.tasks[ended.dag_id] = {task: round(took, 1) for task, took in ended.task_seconds.items()}
        return ended


def run(settings: Settings, usecase_name: str = "compliance", *, interactive: bool) -> dict[str, Any]:
    """Returns {"passed", "use_case", "outcome", "live", "results", "checks", "packet", "stages", "tasks", "seconds",
    "peak_memory_bytes", "url"} of a night of a use case, which also stands in <home>/demo.json afterwards.

    `outcome` is promoted, unchanged, blocked or not approved; `passed` is whether a model is live and the night did not
    end with a no. Progress and tables go to stderr. Raises Refused with the end of a log where a DAG fails.
    """
    usecase = usecase_module.find(settings, usecase_name)
    console, begun = _console(), time.monotonic()
    with Sampler(settings) as sampler:
        night = Night(settings, usecase.name, console, sampler)
        _pull(night, usecase)
        with night.stage("up"):
            up = services.up(settings)
        missing = [dag for dag in up.missing if dag.startswith(f"{usecase.name}_")]
        if missing:
            raise NotAvailable(
                "DAGs did not appear", found=", ".join(missing), next_step=f"see {up.url}: Import errors"
            )
        with airflow.session(settings, "engineer") as engineer, airflow.session(settings, "reviewer") as reviewer:
            result = _drive(night, engineer, reviewer, interactive)
            result["anchor"] = _anchored(night, engineer)
    result |= {
        "use_case": usecase.name,
        "stages": night.stages,
        "tasks": night.tasks,
        "seconds": round(time.monotonic() - begun, 1),
        "peak_memory_bytes": sampler.peak,
        "peak_memory_during": sampler.during,
        "url": up.url,
    }
    _show(console, result, up)
    (settings.home / "demo.json").write_text(json.dumps(result, indent=2, default=str) + "\n")
    return result


def _pull(night: Night, usecase: UseCase) -> None:
    """Brings the base model that the use case names, where it is not here yet."""
    name = usecase.base_model.name
    if name is None or models.stands(night.settings, name):
        return
    with night.stage("base model"):
        pulled = catalogue.pull(night.settings, name)
        night.console.print(f"  {name}  [dim]{pulled.folder}[/]")


def _console() -> Console:
    """Returns a console on stderr; into a file it writes lines that hold a table's row, not 80 columns."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.width = 130
    return console


def _drive(night: Night, engineer: Airflow, reviewer: Airflow, interactive: bool) -> dict[str, Any]:
    """Returns what came of the night."""
    dags = {kind: f"{night.name}_{kind}" for kind in DRIVEN}
    watch = Watch(night.settings, engineer, night.console)
    for dag in dags.values():
        engineer.call("PATCH", f"dags/{dag}", {"is_paused": False})
    with night.stage("data"):
        data = night.keep(watch.follow(dags["data"], engineer.trigger(dags["data"])))
    if usecase_module.find(night.settings, night.name).signs_data and data.succeeded("publish_dataset"):
        with night.stage("sign"):
            signing = SignOff(watch, night.console, engineer, reviewer, interactive)
            night.keep(signing.carry_out(dags["sign"], watch.begun_by(dags["sign"], data)))
    with night.stage("reindex"):
        # Documents that are new begin it by themselves. Where none are, it is asked to look, and says unchanged.
        new = data.succeeded("publish_documents")
        begun = watch.begun_by(dags["reindex"], data) if new else engineer.trigger(dags["reindex"])
        night.keep(watch.follow(dags["reindex"], begun))
    with night.stage("retrain"):
        run_id = engineer.trigger(dags["retrain"])
        retrain = night.keep(watch.follow(dags["retrain"], run_id, may_fail=("publish_candidate",)))
    if not retrain.succeeded("gate"):
        return _result(night, "unchanged", None, None)
    gated = engineer.result(dags["retrain"], retrain.run_id, "gate")["decision_id"]
    if not retrain.succeeded("publish_candidate"):
        return _result(night, "blocked", gated, engineer.result(dags["retrain"], retrain.run_id, "evidence"))
    with night.stage("release"):
        requested_by = report.decision(night.settings, gated)["requested_by"]
        release = Release(watch, night.console, engineer, reviewer, interactive)
        last = night.keep(release.carry_out(dags["release"], watch.begun_by(dags["release"], retrain), requested_by))
    if not last.succeeded("promote"):
        return _result(night, "not approved", gated, engineer.result(dags["retrain"], retrain.run_id, "evidence"))
    return _result(night, "promoted", gated, engineer.result(dags["release"], last.run_id, "packet"))


def _anchored(night: Night, engineer: Airflow) -> dict[str, Any]:
    """Returns what the daily round sealed and anchored of all that."""
    watch = Watch(night.settings, engineer, night.console)
    with night.stage("maintain"):
        round_ = night.keep(watch.follow("maintain", engineer.trigger("maintain")))
    sealed: dict[str, Any] = engineer.result("maintain", round_.run_id, "audit")
    return sealed


def _result(night: Night, outcome: str, decision_id: int | None, packet: dict[str, Any] | None) -> dict[str, Any]:
    live = report.live(night.settings, night.name)
    shown = decision_id if decision_id is not None else live["decision_id"] if live else None
    decided = report.decision(night.settings, shown) if shown is not None else None
    return {
        "passed": outcome in ("promoted", "unchanged") and live is not None,
        "outcome": outcome,
        "decision": decided,
        "live": live and {key: live[key] for key in ("deployment_id", "model_digest", "index_digest", "promoted_by")},
        "results": report.results(night.settings, shown) if shown is not None else [],
        "packet": packet and packet["path"],
    }


def _show(console: Console, result: dict[str, Any], up: Running) -> None:
    live, decided = result["live"], result["decision"]
    console.print()
    if result["outcome"] == "unchanged":
        console.print(
            "Nothing changed: the candidate is what is live already. Nothing was evaluated, nobody was asked."
        )
    if result["results"]:
        report.show_results(console, result["results"])
    if decided:
        report.show_checks(console, decided["outcome"], decided["checks"])
    if live:
        console.print(
            f"Live: deployment {live['deployment_id']}, model {live['model_digest'][:12]}, "
            f"index {live['index_digest'][:12]}, promoted by {live['promoted_by']}"
        )
    if result["outcome"] in ("blocked", "not approved"):
        console.print(f"[yellow]{result['outcome'].capitalize()}: what was live stays live.[/]")
    report.show_anchor(console, result["anchor"])
    report.show_times(
        console, result["stages"], result["seconds"], result["peak_memory_bytes"], result["peak_memory_during"]
    )
    report.show_next(console, result["use_case"], up, result["packet"], live and live["model_digest"])
