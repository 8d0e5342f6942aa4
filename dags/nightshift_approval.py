"""The tasks that ask persons about a release or an erasure, and record what they answer."""

from collections.abc import Mapping
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException
from nightshift_factory import fail_without_retry

from pipeline import settings as settings_module
from pipeline import usecase as usecase_module

DECISION: Mapping[str, Any] = {"title": "Decision", "description": "what the answer is about", "source": "task"}
ERASURE: Mapping[str, Any] = {"title": "Erasure", "description": "what the answer is about", "source": "task"}
REASON: Mapping[str, Any] = {"title": "Reason", "description": "kept on record", "source": "task"}


class Approval(HITLOperator):
    """Asks who may approve a decision, waiting without a worker, and records the answer: approve, reject or silence.

    What is asked comes from the database and not from another task, and the answer carries the decision that the
    person saw: an XCom can be written by anyone who may edit the run. Airflow takes an answer from those who may
    approve alone, never from who asked for the run; whether it counts is the database's to say. There is no default
    answer, so silence fails. Returns {outcome, message, decision_id, answer, person} for an approval that counts; for
    any other answer the task leaves the same as its result and fails.
    """

    template_fields = (*HITLOperator.template_fields, "decision")

    def __init__(self, *, use_case: str, decision: Any, params: Any = None, **keys: Any) -> None:
        keys |= {
            "subject": f"{use_case}: release?",
            "options": ["Approve", "Reject"],
            "params": {
                "decision": Param(None, type=["null", "integer"], **DECISION),
                "reason": Param("", type="string", maxLength=500, **REASON),
            },
            "retries": 0,
            "execution_timeout": None,
        }
        super().__init__(**keys)
        self.use_case = use_case
        self.decision = decision

    @fail_without_retry
    def execute(self, context: Any) -> Any:
        """Asks; raises for Airflow to wait. Fails where nobody may approve the decision."""
        from pipeline import release

        settings = settings_module.from_environment()
        question = release.ask(
            settings, usecase_module.find(settings, self.use_case), int(self.decision["decision_id"])
        )
        self.subject, self.body = question.subject, question.body
        self.params["decision"] = Param(question.decision_id, type="integer", enum=[question.decision_id], **DECISION)
        self.assigned_users = [{"id": user, "name": name} for user, name in question.eligible.items()]
        return super().execute(context)

    @fail_without_retry
    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Records the answer and returns it, or fails where it is no approval that counts."""
        from pipeline import release

        settings = settings_module.from_environment()
        usecase = usecase_module.find(settings, self.use_case)
        if event.get("error_type") == "timeout":
            release.answer(settings, usecase, int(self.decision["decision_id"]), "timeout", None, None)
            raise AirflowFailException("nobody answered in time: what was live stays live, and silence is recorded")
        given = super().execute_complete(context, event)
        wanted = "approve" if given["chosen_options"] == ["Approve"] else "reject"
        counted = release.answer(
            settings,
            usecase,
            self._answered(given, wanted),
            wanted,
            _person(given),
            given["params_input"].get("reason"),
        )
        message = _MESSAGES[counted.answer].format(
            decision=counted.decision_id, person=counted.person, why=counted.reason
        )
        result = {
            "outcome": counted.answer,
            "message": message,
            "decision_id": counted.decision_id,
            "answer": counted.answer,
            "person": counted.person,
        }
        self.log.info(message)
        if counted.answer == "approve":
            return result
        context["ti"].xcom_push("return_value", result)
        raise AirflowFailException(message)

    def _answered(self, given: Any, wanted: str) -> int:
        """Returns the decision that the person answered for; a rejection needs not say which."""
        decision = given["params_input"].get("decision")
        if decision is None and wanted == "approve":
            raise AirflowFailException(
                "the approval does not say which decision it is about: nothing was recorded, and the decision waits on"
            )
        return int(self.decision["decision_id"] if decision is None else decision)


_MESSAGES = {
    "approve": "{person} approved decision {decision}: {why}",
    "reject": "{person} rejected decision {decision}: {why}. What was live stays live",
    "refused": "the approval of decision {decision} was refused: {why}. It waits on: trigger this DAG again and let"
    " another person answer",
}


class ErasureApproval(HITLOperator):
    """Asks who may agree to an erasure, and records the answer. As for Approval, what is asked comes from the database,
    and whether an answer counts is the database's to say. Fails for any answer but an approval that counts."""

    template_fields = (*HITLOperator.template_fields, "requested")

    def __init__(self, *, use_case: str, requested: Any, params: Any = None, **keys: Any) -> None:
        keys |= {
            "subject": f"{use_case}: erase?",
            "options": ["Approve", "Reject"],
            "params": {
                "erasure": Param(None, type=["null", "integer"], **ERASURE),
                "reason": Param("", type="string", maxLength=500, **REASON),
            },
            "retries": 0,
            "execution_timeout": None,
        }
        super().__init__(**keys)
        self.use_case = use_case
        self.requested = requested

    @fail_without_retry
    def execute(self, context: Any) -> Any:
        """Asks; raises for Airflow to wait. Fails where nobody may agree to the erasure."""
        from pipeline import data

        settings = settings_module.from_environment()
        usecase = usecase_module.find(settings, self.use_case)
        if data.erasure.get(settings, usecase, self._number).state in ("due", "erased"):
            return None  # somebody has agreed on the command line
        question = data.erasure.ask(settings, usecase, self._number)
        self.body = question.body
        self.params["erasure"] = Param(question.erasure, type="integer", enum=[question.erasure], **ERASURE)
        self.assigned_users = [{"id": user, "name": name} for user, name in question.eligible.items()]
        return super().execute(context)

    @fail_without_retry
    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Records the answer, or fails where it is no approval that counts."""
        from pipeline import data

        if event.get("error_type") == "timeout":
            raise AirflowFailException("nobody answered in time: nothing was erased, and the erasure waits on")
        given = super().execute_complete(context, event)
        approved = given["chosen_options"] == ["Approve"]
        if approved and given["params_input"].get("erasure") != self._number:
            raise AirflowFailException("the approval is about another erasure: nothing was recorded")
        settings = settings_module.from_environment()
        counted = data.erasure.answer(
            settings,
            usecase_module.find(settings, self.use_case),
            self._number,
            "approve" if approved else "reject",
            given["params_input"].get("reason"),
            _person(given),
        )
        message = f"erasure {counted.erasure}: {counted.answer} by {counted.person}: {counted.reason}"
        self.log.info(message)
        if counted.answer != "approve":
            raise AirflowFailException(message)
        return {"erasure": counted.erasure, "answer": counted.answer, "person": counted.person, "message": message}

    @property
    def _number(self) -> int:
        return int(self.requested["erasure"])


def _person(given: Any) -> str | None:
    """Returns who Airflow says answered, by the id of his login there."""
    from pipeline.people.origins import of_airflow

    user = (given["responded_by_user"] or {}).get("id")
    return None if user is None else of_airflow(str(user))
