"""How the demo carries a release out: whom it answers as, and what a person at the terminal answers."""

from io import StringIO
from typing import Any, cast

import httpx
import pytest
from rich.console import Console

from pipeline.demo.approval import WAITING, Release
from pipeline.demo.watch import Ended, Watch
from pipeline.services.rest import Airflow, Answered

pytestmark = pytest.mark.unit


class FakeAirflow:
    """An Airflow that turns the engineer's answer away."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str, str]] = []


class Session:
    """A user's session at it."""

    def __init__(self, server: FakeAirflow, user: str) -> None:
        self.server, self.user = server, user

    def call(self, method: str, path: str, body: Any = None) -> Any:
        assert path == "dags/d_release/dagRuns/" + path.split("/")[3] + "/taskInstances/approve/-1/hitlDetails"
        if method == "PATCH":
            assert body["params_input"]["decision"] == 7
            self.server.answers.append((self.user, body["chosen_options"][0], body["params_input"]["reason"]))
            if self.user == "engineer":
                raise Answered(httpx.Response(403, request=httpx.Request("PATCH", f"http://x/{path}")))
        return {"body": "| check |", "options": ["Approve", "Reject"], "params": {"decision": {"value": 7}}}


class FakeWatch:
    """Follows runs: they wait, and end by what was answered last."""

    def __init__(self, server: FakeAirflow) -> None:
        self.server, self.airflow = server, Session(server, "engineer")

    def follow(self, dag_id: str, run_id: str, *, until: str | None = None, may_fail: tuple[str, ...] = ()) -> Ended:
        if until:
            return Ended(dag_id, run_id, WAITING, 1.0, {}, {})
        user, option, _ = self.server.answers[-1]
        assert user == "reviewer"
        assert may_fail == (("approve",) if option == "Reject" else ())
        state = "failed" if may_fail else "success"
        return Ended(dag_id, run_id, state, 1.0, {"approve": state, "promote": state}, {})


def release(server: FakeAirflow, typed: str | None = None) -> Release:
    """Returns a release to carry out, at a terminal where something is typed."""
    console = Console(file=StringIO())
    if typed is not None:
        lines = iter(typed.splitlines())
        console.input = lambda *_, **__: next(lines)  # type: ignore[method-assign]
    engineer, reviewer = (cast(Airflow, Session(server, user)) for user in ("engineer", "reviewer"))
    watch = cast(Watch, FakeWatch(server))
    return Release(watch, console, engineer, reviewer, interactive=typed is not None, rest_seconds=0)


def test_without_a_terminal_the_requester_is_refused_and_the_reviewer_approves() -> None:
    server = FakeAirflow()
    ended = release(server).carry_out("d_release", "run", "engineer")
    assert [(user, option) for user, option, _ in server.answers] == [("engineer", "Approve"), ("reviewer", "Approve")]
    assert ended.succeeded("promote")


def test_the_engineer_does_not_answer_what_somebody_else_asked_for() -> None:
    server = FakeAirflow()
    only = release(server).carry_out("d_release", "run", "schedule")
    assert [user for user, _, _ in server.answers] == ["reviewer"]
    assert only.succeeded("promote")


@pytest.mark.parametrize(("typed", "option"), [("approve\nwell done", "Approve"), ("reject\ntoo weak", "Reject")])
def test_a_person_at_the_terminal_answers_as_the_reviewer(typed: str, option: str) -> None:
    server = FakeAirflow()
    only = release(server, typed).carry_out("d_release", "run", "engineer")
    assert server.answers == [("reviewer", option, typed.splitlines()[1])]
    assert only.succeeded("promote") is (option == "Approve")
