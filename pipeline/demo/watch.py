"""Follows runs of DAGs: every task that ends is a line, and a run that fails comes with the end of the task's log."""

import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console

from pipeline import progress
from pipeline.errors import NotAvailable, Refused
from pipeline.services import airflow, processes
from pipeline.services.rest import Airflow
from pipeline.settings import Settings

SECONDS = 2.0  # between two looks
# Looks at which a task must wait before anybody answers it. Where an answer queues a task again before Airflow's
# scheduler saw that its process ended, the scheduler takes it for one that was killed, and fails it.
SETTLED = 3
PROGRESS_SECONDS = 15.0  # between two looks at how far a task is
BEGIN_SECONDS = 120.0  # so long may an asset event take to begin a run
_MARKS = {"success": "[green]✓[/]", "skipped": "[dim]–[/]", "failed": "[red]✗[/]", "upstream_failed": "[dim]✗[/]"}


@dataclass(frozen=True)
class Ended:
    """A run that has come to an end, or waits for a person."""

    dag_id: str
    run_id: str
    state: str  # success, awaiting_input, or failed where it may
    seconds: float
    tasks: dict[str, str]  # the states by task; of a mapped task the worst
    task_seconds: dict[str, float]  # of a mapped task the sum

    def succeeded(self, task: str) -> bool:
        """Returns whether a task ran and succeeded."""
        return self.tasks.get(task) == "success"


@dataclass
class Watch:
    """Looks at runs as one user, and shows them on a console."""

    settings: Settings
    airflow: Airflow
    console: Console
    _shown: set[tuple[str, str, str, int, int, str]] = field(default_factory=set)
    _progress: str = ""  # the last line that was shown
    _progress_at: float = 0.0

    def follow(self, dag_id: str, run_id: str, *, until: str | None = None, may_fail: Container[str] = ()) -> Ended:
        """Returns the run when it has ended, or when a task has come to rest in the state `until`.

        Raises Refused, with the end of the failed task's log, where a task fails that is none of `may_fail`;
        NotAvailable where Airflow goes away.
        """
        begun, settled = time.monotonic(), 0
        with self.console.status(dag_id) as status:
            while True:
                run, tasks = self.airflow.run(dag_id, run_id), self.airflow.tasks(dag_id, run_id)
                self._show(dag_id, run_id, tasks)
                busy = [each["task_id"] for each in tasks if each["state"] in ("running", "queued", "up_for_retry")]
                self._look_at_progress(dag_id, run_id, tasks)
                doing = ", ".join(sorted(set(busy))) or run["state"]
                status.update(f"{dag_id}: {doing}  [dim]{self._progress}[/]")
                if run["state"] == "failed":
                    self._demand_may_fail(dag_id, run_id, tasks, may_fail)
                settled = settled + 1 if until and any(each["state"] == until for each in tasks) else 0
                if run["state"] in ("success", "failed") or settled == SETTLED:
                    state = str(run["state"] if run["state"] in ("success", "failed") else until)
                    return _ended(dag_id, run_id, state, time.monotonic() - begun, tasks)
                self._demand_alive()
                time.sleep(SECONDS)

    def begun_by(self, dag_id: str, source: Ended) -> str:
        """Returns the run of a DAG that an asset event of `source` began. Raises NotAvailable where none begins."""
        deadline = time.monotonic() + BEGIN_SECONDS
        while time.monotonic() < deadline:
            newest = self.airflow.call("GET", f"dags/{dag_id}/dagRuns", order_by="-run_after", limit=10)["dag_runs"]
            for run in newest:
                if run["run_type"] == "asset_triggered" and source.run_id in self._sources(dag_id, run["dag_run_id"]):
                    return str(run["dag_run_id"])
            self._demand_alive()
            time.sleep(SECONDS)
        raise NotAvailable(
            f"{dag_id} was not begun by what {source.dag_id} made new",
            where=f"run {source.run_id}",
            next_step="look at the scheduler's log in the home folder, under airflow/logs/components",
        )

    def _sources(self, dag_id: str, run_id: str) -> set[str]:
        reply = self.airflow.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/upstreamAssetEvents")
        return {str(event["source_run_id"]) for event in reply["asset_events"]}

    def _show(self, dag_id: str, run_id: str, tasks: list[dict[str, Any]]) -> None:
        ended: Callable[[dict[str, Any]], str] = lambda task: str(task["end_date"] or "")  # noqa: E731
        for task in sorted(tasks, key=ended):
            state = str(task["state"])
            seen = (dag_id, run_id, task["task_id"], task["map_index"], task["try_number"], state)
            if seen in self._shown or state not in (*_MARKS, "up_for_retry"):
                continue
            self._shown.add(seen)
            name = task["task_id"] + (f" {task['map_index']}" if task["map_index"] >= 0 else "")
            took = "" if state == "skipped" else f"{_seconds(task):.1f} s"
            again = " [yellow]tries again[/]" if state == "up_for_retry" else ""
            self.console.print(f"  {_MARKS.get(state, '[yellow]↻[/]')} {dag_id}  {name}  [dim]{took}[/]{again}")

    def _look_at_progress(self, dag_id: str, run_id: str, tasks: list[dict[str, Any]]) -> None:
        """Reads how far the running tasks are from their logs; into a file it writes a line, too."""
        if time.monotonic() - self._progress_at < PROGRESS_SECONDS:
            return
        self._progress_at, before = time.monotonic(), self._progress
        running = [task for task in tasks if task["state"] == "running"]
        lines = [line for task in running for line in self.airflow.log(dag_id, run_id, task)]
        self._progress = next((line for line in reversed(lines) if progress.is_line(line)), "")
        if self._progress not in ("", before) and not self.console.is_terminal:
            self.console.print(f"    [dim]{self._progress}[/]")

    def _demand_may_fail(self, dag_id: str, run_id: str, tasks: list[dict[str, Any]], may_fail: Container[str]) -> None:
        failed = [task for task in tasks if task["state"] == "failed"]
        if not failed:
            raise Refused(f"{dag_id} failed", where=f"run {run_id}")
        if all(task["task_id"] in may_fail for task in failed):
            return
        first = min(failed, key=lambda task: str(task["end_date"] or ""))
        lines = self.airflow.log(dag_id, run_id, first)
        raise Refused(
            f"{dag_id} failed in {first['task_id']}",
            where=f"run {run_id}, try {first['try_number']}",
            found="the end of its log:\n    " + "\n    ".join(lines),
            next_step=f"the DAG's page says what to do: {airflow.url(self.settings)}/dags/{dag_id}",
        )

    def _demand_alive(self) -> None:
        dead = [name for name, process in processes.alive(airflow.record(self.settings)).items() if process is None]
        if dead:
            log = airflow.logs(self.settings) / f"{dead[0]}.log"
            raise NotAvailable(f"Airflow's {dead[0]} ended", where=log, next_step="`make up` starts it again")


def _seconds(task: dict[str, Any]) -> float:
    if not task["start_date"] or not task["end_date"]:
        return 0.0
    begun, ended = (datetime.fromisoformat(task[key]) for key in ("start_date", "end_date"))
    return (ended - begun).total_seconds()


def _ended(dag_id: str, run_id: str, state: str, seconds: float, tasks: list[dict[str, Any]]) -> Ended:
    states: dict[str, str] = {}
    took: dict[str, float] = {}
    for task in tasks:
        name = task["task_id"]
        states[name] = str(task["state"]) if states.get(name) in (None, "success") else states[name]
        took[name] = took.get(name, 0.0) + _seconds(task)
    return Ended(dag_id, run_id, state, seconds, states, took)
