"""What the DAG files share: the use cases they make DAGs for, who asked for a run, and what every task has in common.

The work of a stage is not here and not in the DAG files: a task imports its stage inside its body."""

import functools
import importlib.util
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from airflow.sdk import (
    Asset,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    Param,
    RetryDecision,
    RetryPolicy,
    get_current_context,
)
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from pipeline import settings as settings_module
from pipeline import usecase as usecase_module
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.interruption import interruptible, is_interruption
from pipeline.records import plain
from pipeline.settings import Settings
from pipeline.usecase import UseCase

if TYPE_CHECKING:
    from pipeline.context import Context
    from pipeline.people.origins import AssetEvent
    from pipeline.steps import Origin

log = logging.getLogger("airflow.task")

P = ParamSpec("P")
R = TypeVar("R")

XCom = Any  # what an earlier task returned, as JSON
REUSE = Param(
    "auto",
    enum=["auto", "never"],
    title="Reuse",
    description="auto: an earlier run with the same inputs may answer. never: everything is done again.",
)
# Gate, approval and promotion: a worker of their own, which alone holds the logins of `gatekeeper` and `approver`.
RELEASE = "release"
GPU: Mapping[str, Any] = {
    "queue": "gpu",
    "pool": "gpu",
}  # the pool is made at set-up: tasks of a pool that is missing queue for ever


class OwnFailures(RetryPolicy):
    """Ends a task after so many failures of its own. What the machinery lost (a stop, a killed worker, a database that
    does not answer) has the rest of the tries: it says nothing about the work."""

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """Returns whether the task is tried again, which Airflow bounds by its number of retries."""
        if is_interruption(exception):
            return RetryDecision.retry(reason="it was stopped from outside, which is no failure of its own")
        try:
            failures = failed_attempts(get_current_context()["ti"] if context is None else context["ti"])
        except NotAvailable:
            return RetryDecision.retry(reason="the database does not answer")
        # What fails before its step begins leaves no attempt to count.
        if max(failures, 0 if failures else try_number) >= self.limit:
            return RetryDecision.fail(reason=f"it failed {self.limit} times by itself")
        return RetryDecision.default()


def failed_attempts(instance: Any) -> int:
    """Returns how often the work of a task instance failed by itself, as the lineage has it. Raises NotAvailable."""
    from pipeline import database, steps

    settings = settings_module.from_environment()
    with database.connect_any(settings, ("pipeline", "trainer", "evaluator", "approver")) as connection:
        return steps.failed_attempts(connection, instance.dag_id, instance.run_id, instance.task_id, instance.map_index)


@dataclass(frozen=True)
class Assets:
    """What the DAGs of a use case tell each other about."""

    documents: Asset
    dataset: Asset
    index: Asset
    candidate: Asset

    @classmethod
    def of(cls, use_case: str) -> "Assets":
        """Returns the assets of a use case."""

        def asset(kind: str) -> Asset:
            return Asset(f"{use_case}/{kind}", uri=f"nightshift://{use_case}/{kind}", group="nightshift")

        return cls(asset("documents"), asset("dataset"), asset("index"), asset("candidate"))


# The files that make DAGs of use cases, by the last part of their DAGs' ids.
KINDS = ("data", "reindex", "retrain", "release", "evaluate", "govern", "rollback", "erase", "sign")
_inspecting = False


def each(build: Callable[[UseCase], None]) -> None:
    """Builds a DAG for every use case that can be read. What goes wrong with one takes this DAG of it away and no
    other: a file that raises would lose them all. `broken_usecases.py` builds them again and shows what went wrong."""
    if _inspecting:
        return
    for usecase in usecase_module.read_all(settings_module.from_environment())[0]:
        with suppress(Exception):  # shown by broken_usecases.py, as the one import error that Airflow keeps of a file
            build(usecase)


def problems() -> list[str]:
    """Returns what is wrong with use cases: those that cannot be read, and those that no DAG can be built from. No DAG
    is registered by looking."""
    global _inspecting  # noqa: PLW0603
    sound, broken = usecase_module.read_all(settings_module.from_environment())
    messages = [str(error) for error in broken.values()]
    _inspecting = True
    try:
        for kind in KINDS:
            build = _builder(kind)
            for usecase in sound:
                try:
                    build(usecase)
                except Exception as error:
                    messages.append(f"{usecase.name}_{kind} cannot be built: {type(error).__name__}: {error}")
    finally:
        _inspecting = False
    return messages


def _builder(kind: str) -> Callable[[UseCase], None]:
    """Returns the function that makes the DAGs of a kind, from its file beside this one."""
    spec = importlib.util.spec_from_file_location(f"nightshift_dag_{kind}", Path(__file__).with_name(f"{kind}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build: Callable[[UseCase], None] = module.build
    return build


def common(usecase: UseCase, kind: str, doc: str | None, **keys: Any) -> dict[str, Any]:
    """Returns the arguments of `@dag` that all DAGs of a use case share; `keys` replace or add."""
    return {
        "dag_id": f"{usecase.name}_{kind}",
        "description": (doc or "").partition("\n")[0],
        "doc_md": f"*{usecase.title}*\n\n{doc}",
        "catchup": False,
        "max_active_runs": 1,
        "tags": ["nightshift", usecase.name, kind, f"risk: {usecase.risk_tier}"],
        "default_args": defaults(usecase.owner),
        "params": {"reuse": REUSE},
        "auto_register": not _inspecting,
        **keys,
    }


def defaults(owner: str) -> dict[str, Any]:
    """Returns what every task is given unless it says otherwise."""
    return {
        "owner": owner,
        "retries": 5,
        "retry_policy": OwnFailures(),
        "retry_delay": timedelta(seconds=20),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(minutes=30),
    }


def cron(expression: str | None) -> Any:
    """Returns the schedule "at these times". With no start date a DAG that is unpaused waits for its next time: it does
    not run at once for the last one that went by."""
    if expression is None:
        return None
    return CronTriggerTimetable(expression, timezone="UTC", run_immediately=timedelta(0))


def asset_or_cron(asset: Asset, expression: str | None) -> Any:
    """Returns the schedule "whenever the asset is new, and at these times"."""
    if expression is None:
        return [asset]
    return AssetOrTimeSchedule(timetable=cron(expression), assets=[asset])


def fail_without_retry(work: Callable[P, object]) -> Callable[P, Any]:
    """Makes a task fail at once, by the message alone, where trying again cannot help: bad input or a refusal. What the
    work returns, a record or a plain value, leaves the task as JSON."""

    @functools.wraps(work)
    def run(*args: P.args, **keys: P.kwargs) -> Any:
        try:
            with interruptible():
                return plain(work(*args, **keys))
        except (BadInput, Refused) as error:
            raise AirflowFailException(str(error)) from None

    return run


def stage_context(name: str) -> "Context":
    """Returns what a stage is called with, inside a task: settings, the use case as it is now, and who asked."""
    from pipeline.context import Context

    settings = settings_module.from_environment()
    usecase = usecase_module.find(settings, name)
    return Context(settings, usecase, origin(settings, name, get_current_context()), params().get("reuse", "auto"))


def params() -> Mapping[str, Any]:
    """Returns the parameters of the run."""
    return get_current_context()["params"]


def origin(settings: Settings, use_case: str, context: Mapping[str, Any]) -> "Origin":
    """Returns who asked for the running task, and where it runs."""
    from pipeline.steps import Origin

    instance = context["ti"]
    requester = requested_by(settings, use_case, context)
    return Origin("airflow", requester, instance.dag_id, instance.run_id, instance.task_id, instance.map_index)


def own_origin() -> "Origin":
    """Returns where the running task runs, for a DAG that is no use case's: the clock's, or whoever triggered it."""
    from pipeline.people import origins
    from pipeline.steps import Origin

    running = get_current_context()
    instance, user = running["ti"], running["dag_run"].triggering_user_name
    requester = origins.of_airflow(str(user)) if user else "schedule"
    return Origin("airflow", requester, instance.dag_id, instance.run_id, instance.task_id)


def requested_by(settings: Settings, use_case: str, context: Mapping[str, Any]) -> str:
    """Returns the user who triggered the run; for a run that an asset began, who asked for the run of ours that made
    the asset new, by the lineage's word and not the event's; `schedule` where nobody did.

    Raises Refused where no run of ours emitted the event.
    """
    from pipeline.people import origins

    user = context["dag_run"].triggering_user_name
    if user:
        return origins.of_airflow(str(user))
    events = asset_events(context)
    return origins.emission(settings, use_case, events).requested_by if events else "schedule"


def asset_events(context: Mapping[str, Any]) -> "list[AssetEvent]":
    """Returns the asset events that began the run."""
    from pipeline.people.origins import AssetEvent

    return [
        AssetEvent(event.timestamp, (event.extra or {}).get("run"), event.source_dag_id, event.source_run_id)
        for group in context["triggering_asset_events"].values()
        for event in group
    ]


def publish(asset: Asset, changed: bool, run: str) -> None:
    """Lets the asset event of the running task out where something is new, else skips the task: it emits none then. The
    event names the run of ours that made it new, and nothing else: what an event says, a REST client can write, too."""
    or_skip(changed or None, f"{asset.name}: nothing new")
    get_current_context()["outlet_events"][asset].extra = {"run": run}


def require(passed: bool, message: str) -> None:
    """Fails the running task for good where a check did not pass, so that the night shows red and its log begins with
    why."""
    if not passed:
        log.error(message)
        raise AirflowFailException(message)


def decision(context: "Context") -> int | None:
    """Returns the decision that the run is about: by its parameter, or what the gate came to that began it; None where
    neither says so."""
    from pipeline import release
    from pipeline.people import origins

    running = get_current_context()
    if running["params"]["decision_id"] is not None:
        return int(running["params"]["decision_id"])
    events = asset_events(running)
    if not events:
        return None
    emission = origins.emission(context.settings, context.usecase.name, events)
    return release.decision_of(context.settings, context.usecase, emission.run_id)


def or_skip(result: R | None, why: str) -> R:
    """Returns a result; skips the running task, and what depends on it, where there is none."""
    if result is None:
        log.info(why)
        raise AirflowSkipException(why)
    return result
