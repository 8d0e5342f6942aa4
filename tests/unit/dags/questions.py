"""Asks the DAG files' shared module what it does, in a process of its own, and prints the answers as JSON."""

import json
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace as Of
from typing import Any

REVIEWER, ENGINEER = ({"id": name, "name": name} for name in ("reviewer", "engineer"))
EVENTS: dict[str, dict[str, Any]] = {
    "approve": {
        "chosen_options": ["Approve"],
        "params_input": {"decision": 7, "reason": "fine"},
        "responded_by_user": REVIEWER,
    },
    "another": {  # the XCom was changed after the person was asked
        "chosen_options": ["Approve"],
        "params_input": {"decision": 8, "reason": "fine"},
        "responded_by_user": REVIEWER,
    },
    "unsaid": {"chosen_options": ["Approve"], "params_input": {}, "responded_by_user": REVIEWER},
    "reject": {"chosen_options": ["Reject"], "params_input": {}, "responded_by_user": REVIEWER},
    "nobody": {"chosen_options": ["Reject"], "params_input": {}, "responded_by_user": None},
    "own": {
        "chosen_options": ["Approve"],
        "params_input": {"decision": 7, "reason": ""},
        "responded_by_user": ENGINEER,
    },
    "silence": {"error": "too late", "error_type": "timeout"},
    "broken": {"error": "broken", "error_type": "unknown"},
}


def main(folder: Path) -> dict[str, Any]:
    """Returns the answers."""
    sys.path.append(str(folder))
    factory = import_module("nightshift_factory")
    return {
        "requested": requested(factory),
        "published": published(factory),
        "failures": failures(factory),
        "answers": answers(import_module("nightshift_approval")),
        "retries": retries(factory),
        "fenced": fenced(factory),
    }


def fenced(factory: Any) -> list[Any]:
    """Returns whose DAGs are built where one of three use cases cannot be built, in whatever way, and whether looking
    for problems names it."""
    names = ("first", "second", "third")
    factory.usecase_module = Of(read_all=lambda _: ([Of(name=name) for name in names], {}))
    results = []
    for error in (ValueError("x"), RecursionError("x"), OverflowError("x"), KeyError("x")):
        built: list[str] = []

        def build(usecase: Any, built: list[str] = built, error: Exception = error) -> None:
            if usecase.name == "second":
                raise error
            built.append(usecase.name)

        factory.each(build)
        factory._builder = lambda kind, build=build: build
        results.append([built, len([problem for problem in factory.problems() if "second_" in problem])])
    return results


def retries(factory: Any) -> dict[str, list[str]]:
    """Returns, by what ended a task, what its policy says at tries 1 to 4, where each earlier try failed by itself."""
    from airflow.sdk.exceptions import AirflowTaskTerminated, AirflowTaskTimeout

    from pipeline.errors import Interrupted, NotAvailable

    policy = factory.defaults("owner")["retry_policy"]
    given = {"ti": Of()}

    def says(error: BaseException, failures: list[Any]) -> list[str]:
        counts = iter(failures)

        def count(_: Any) -> int:
            found = next(counts)
            if isinstance(found, Exception):
                raise found
            return int(found)

        factory.failed_attempts = count
        return [policy.evaluate(error, tries, 6, given).action.value for tries in range(1, len(failures) + 1)]

    own = [1, 2, 3, 4]
    return {
        "own": says(ValueError("x"), own),
        "timeout": says(AirflowTaskTimeout(), own),
        "before its step": says(ImportError("x"), [0, 0, 0, 0]),
        "interrupted": says(Interrupted("stop"), own),
        "terminated": says(AirflowTaskTerminated(), own),
        "exited": says(SystemExit(1), own),
        "own after two losses": says(ValueError("x"), [1, 1, 1, 2]),
        "no database": says(OSError("x"), [NotAvailable("away")] * 4),
    }


def context(user: str | None = None, events: tuple[Any, ...] = (), **more: Any) -> dict[str, Any]:
    """Returns as much of a task's context as the module reads."""
    return {
        "dag_run": Of(triggering_user_name=user),
        "triggering_asset_events": {"asset": list(events)} if events else {},
        **more,
    }


def requested(factory: Any) -> dict[str, Any]:
    """Returns who asked for runs that a user or the clock began; what the module reads of an asset event."""
    event = Of(timestamp=2, extra={"run": "ours", "requested_by": "x"}, source_dag_id="demo_data", source_run_id="r")
    written = Of(timestamp=1, extra=None, source_dag_id=None, source_run_id=None)
    users = ("reviewer", "schedule", "os:root", "Jos\N{LATIN SMALL LETTER E WITH ACUTE}")
    (read, bare) = factory.asset_events(context(None, (event, written)))
    return {
        "users": [factory.requested_by(None, "demo", context(user, (event,))) for user in users],
        "clock": factory.requested_by(None, "demo", context()),
        "event": [read.run, read.dag_id, read.dag_run_id],
        "bare": [bare.run, bare.dag_id, bare.dag_run_id],
    }


def published(factory: Any) -> list[Any]:
    """Returns what came of publishing nothing new, and then something."""
    event = Of(extra=None)

    class Outlets:
        def __getitem__(self, _: Any) -> Any:
            return event

    factory.get_current_context = lambda: context("engineer", outlet_events=Outlets())
    asset = Of(name="demo/dataset")
    skipped = raised(lambda: factory.publish(asset, False, "a run"))
    before = event.extra
    factory.publish(asset, True, "a run")
    return [skipped, before, event.extra]


def failures(factory: Any) -> list[list[str]]:
    """Returns what errors become that a task meets."""
    from pipeline.errors import BadInput, NotAvailable, Refused, Stale

    def meeting(error: Exception) -> Any:
        def work() -> None:
            raise error

        return factory.fail_without_retry(work)

    errors = (BadInput("bad", found=3), Refused("no"), Stale("late"), NotAvailable("away"), OSError("disk"))
    return [raised(meeting(error)) for error in errors]


def answers(module: Any) -> dict[str, list[Any]]:
    """Returns, for every way in which a question can end, what was recorded, what the task returned or left, and the
    error that it ended with."""
    from pipeline import release

    kept: list[Any] = []
    left: dict[str, Any] = {}

    def record(
        settings: Any, usecase: Any, decision_id: int, answer: str, person: str | None, reason: str | None
    ) -> release.Answer:
        kept.append([decision_id, answer, person, reason])
        return release.Answer(decision_id, "refused" if person == "engineer" else answer, person, reason or "-")

    setattr(release, "answer", record)  # noqa: B010
    module.usecase_module = Of(find=lambda settings, name: name)
    found: dict[str, list[Any]] = {}
    instance = Of(xcom_push=lambda key, value: left.update({key: value}))
    for name, event in EVENTS.items():
        kept.clear()
        left.clear()
        question = module.Approval(task_id="approve", use_case="demo", decision={"decision_id": 7})
        returned, error = None, []
        try:
            returned = question.execute_complete({"ti": instance}, event | {"responded_at": datetime.now(UTC)})
        except Exception as problem:
            error = [type(problem).__name__, str(problem)]
        found[name] = [list(kept), returned or left.get("return_value"), error]
    return found


def raised(work: Any) -> list[str]:
    """Returns the name and the message of what a call raises."""
    try:
        work()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return []


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))  # noqa: T201
