"""A person's answer to a waiting release, from the command line: to the question that Airflow asks, with his own login
there, or to the database, with his own login there. Nobody is named: the login says who answers."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import httpx

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import NotAvailable, Refused
from pipeline.login import identity, session
from pipeline.login.session import Session
from pipeline.services import rest
from pipeline.settings import Settings

Choice = Literal["approve", "reject"]
TASK = "approve"
WAITING = "awaiting_input"
# A question rests this long before it is answered: a task that is queued again while Airflow still sees its process is
# taken for one that was killed.
REST_SECONDS = 4.0
RESULT_SECONDS = 120.0
_BUSY = {WAITING, "deferred", "scheduled", "queued", "running", "up_for_retry", "None"}


@dataclass(frozen=True)
class Given:
    """An answer as it counts."""

    decision: int
    answer: str  # approve, reject, or refused for an approval that the rules do not accept
    person: str
    by: Literal["airflow", "database"]
    message: str


@dataclass(frozen=True)
class Question:
    """A question that waits in Airflow."""

    decision: int
    dag_id: str
    run_id: str
    asked_at: datetime

    @property
    def path(self) -> str:
        """Returns where its answer goes."""
        return f"{self._instance}/-1/hitlDetails"

    @property
    def _instance(self) -> str:
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{TASK}"

    def state(self, airflow: rest.Airflow) -> str:
        """Returns the state of the task that asks."""
        return str(airflow.call("GET", self._instance)["state"])


def give(
    settings: Settings,
    use_case: str,
    decision: int | None,
    answer: Choice,
    reason: str | None,
    own: Connection | None = None,
) -> Given:
    """Returns the answer of whoever is logged in to a decision of the use case, or to the newest that waits.

    `own` is a connection by his own database login, where he named one. Raises Refused where nobody is logged in, where
    Airflow or the database turns him away, or the decision has its answer; BadInput where it is none of the use case.
    """
    connection = own or identity.own_login(settings)
    if connection is not None:
        with connection:
            return over_database(connection, use_case, decision, answer, reason)
    kept = session.current(settings)
    if kept is None:
        raise Refused("an answer is a person's, and nobody is logged in", next_step=identity.LOG_IN)
    return over_airflow(kept, use_case, decision, answer, reason)


def over_database(
    connection: Connection, use_case: str, decision: int | None, answer: Choice, reason: str | None
) -> Given:
    """Returns the answer of the person whose own login the connection is."""
    if decision is None:
        rows = database.fetch(connection, "persons", "waiting", use_case=use_case)
        if not rows:
            raise Refused("nothing waits for an answer", where=use_case)
        decision = rows[0]["decision_id"]
    arguments = (decision, answer, None, reason, use_case)
    (row,) = database.call(connection, "release.answer", *arguments)
    given = database.fetch_one(connection, "persons", "newest_answer", decision_id=decision)
    assert given is not None
    return Given(decision, row["answer"], given["person"], "database", given["reason"])


def over_airflow(kept: Session, use_case: str, decision: int | None, answer: Choice, reason: str | None) -> Given:
    """Returns the answer of the person whose login at Airflow is kept, to the question that its page shows, too."""
    with kept.open() as airflow:
        question = _find(airflow, use_case, decision)
        rested = (datetime.now(UTC) - question.asked_at).total_seconds()
        time.sleep(min(REST_SECONDS, max(0.0, REST_SECONDS - rested)))
        body = {
            "chosen_options": [answer.capitalize()],
            "params_input": {"decision": question.decision, "reason": reason or ""},
        }
        try:
            person = airflow.call("PATCH", question.path, body)["responded_by"]["id"]
        except rest.Answered as refusal:
            raise _turned_away(refusal, airflow.user, question.decision) from None
        if not rest.wait(lambda: question.state(airflow) not in _BUSY, RESULT_SECONDS):
            raise NotAvailable(
                "the answer was given, and Airflow has not recorded it yet",
                where=f"{question.dag_id}, run {question.run_id}",
                next_step="look at the run: is the scheduler running?",
            )
        return _recorded(airflow, question, person)


def _find(airflow: rest.Airflow, use_case: str, decision: int | None) -> Question:
    """Returns the question about a decision, or the newest. Raises Refused where none waits."""
    dag_id = f"{use_case}_release"
    try:
        details = airflow.everything(
            f"dags/{dag_id}/dagRuns/~/hitlDetails", "hitl_details", state=WAITING, response_received=False
        )
    except rest.Answered as refusal:
        # Everyone who is logged in may read the questions: who may not, is not.
        if refusal.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise _expired() from None
        raise
    questions = [
        Question(
            detail["params"]["decision"]["value"],
            dag_id,
            detail["task_instance"]["dag_run_id"],
            datetime.fromisoformat(detail["created_at"]),
        )
        for detail in details
        if isinstance(detail["params"].get("decision", {}).get("value"), int)
    ]
    matching = [question for question in questions if decision in (None, question.decision)]
    if not matching:
        raise Refused(
            "no question about this decision waits" if decision else "nothing waits for an answer",
            where=dag_id,
            found=decision,
            allowed=", ".join(str(question.decision) for question in questions) or None,
            next_step=f"trigger {dag_id} in Airflow, which asks about the newest decision that waits",
        )
    return max(matching, key=lambda question: (question.decision, question.asked_at))


def _recorded(airflow: rest.Airflow, question: Question, person: str) -> Given:
    try:
        result: dict[str, Any] = airflow.result(question.dag_id, question.run_id, TASK)
    except rest.Answered:
        raise Refused(
            "the answer was not recorded",
            where=f"{question.dag_id}, run {question.run_id}, task {TASK}",
            next_step="the task's log says why",
        ) from None
    return Given(question.decision, result["answer"], result["person"] or person, "airflow", result["message"])


def _turned_away(refusal: rest.Answered, user: str, decision: int) -> Refused:
    """Returns what Airflow's refusal means."""
    if refusal.status == httpx.codes.UNAUTHORIZED:
        return _expired()
    if refusal.status == httpx.codes.FORBIDDEN:
        return Refused(
            f"{user} may not answer for decision {decision}",
            found="who asked for a run does not approve it, nor does who is no approver",
            next_step="let another person answer",
        )
    if refusal.status == httpx.codes.CONFLICT:
        return Refused(f"the question about decision {decision} has been answered already")
    return refusal


def _expired() -> Refused:
    return Refused("Airflow does not take the login any more", next_step="`nightshift login`")
