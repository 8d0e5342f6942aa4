"""The tasks that ask persons about a release, an erasure or a dataset version, and record what they answer."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException
from nightshift_factory import fail_without_retry

from pipeline import settings as settings_module
from pipeline import usecase as usecase_module

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.settings import Settings
    from pipeline.usecase import UseCase

Choice = Literal["approve", "reject"]


@dataclass(frozen=True)
class Asked:
    """A question, as the database has it."""

    number: int  # of what it is about
    body: str
    eligible: "Mapping[str, str]"  # who may answer: ids at Airflow to names


@dataclass(frozen=True)
class Given:
    """An answer, as somebody gave it."""

    number: int  # of what he saw
    choice: Choice
    reason: str | None
    person: str | None


@dataclass(frozen=True)
class Counted:
    """An answer, as the database counts it."""

    answer: str
    message: str
    result: dict[str, Any]


class Question(HITLOperator):
    """Asks persons, waiting without a worker, and records the answer: approve, reject or silence.

    What is asked comes from the database and not from another task, and the answer carries the number of what the
    person saw: an XCom can be written by anyone who may edit the run. Airflow takes an answer from those who may give
    one alone; whether it counts is the database's to say. There is no default answer, so silence fails. Fails for any
    answer but an approval that counts; what was answered is the task's result in either case.
    """

    about: ClassVar[str]  # the parameter with the number of what an answer is about
    key: ClassVar[str]  # where the record that the run is about has that number
    template_fields = (*HITLOperator.template_fields, "target")

    def __init__(self, *, use_case: str, target: Any, headline: str, params: Any = None, **keys: Any) -> None:
        keys |= {
            "subject": f"{use_case}: {headline}?",
            "options": ["Approve", "Reject"],
            "params": {
                self.about: self._number_param(type=["null", "integer"]),
                "reason": Param(
                    "", type="string", maxLength=500, title="Reason", description="kept on record", source="task"
                ),
            },
            "retries": 0,
            "execution_timeout": None,
        }
        super().__init__(**keys)
        self.use_case = use_case
        self.target = target

    @abstractmethod
    def ask(self, settings: "Settings", usecase: "UseCase") -> Asked | None:
        """Returns the question; None where there is nothing to ask. Raises Refused where nobody may answer."""

    @abstractmethod
    def record(self, settings: "Settings", usecase: "UseCase", given: Given) -> Counted:
        """Returns an answer as it counts, once it is written down."""

    @abstractmethod
    def silence(self, settings: "Settings", usecase: "UseCase") -> str:
        """Returns what silence means, once it is written down where that is kept."""

    @property
    def number(self) -> int:
        """Returns the number of what the run is about."""
        return int(self.target[self.key])

    @fail_without_retry
    def execute(self, context: Any) -> Any:
        """Asks; raises for Airflow to wait. Returns None where nothing is asked, fails where nobody may answer."""
        question = self.ask(*self._house())
        if question is None:
            return None
        self.body = question.body
        self.params[self.about] = self._number_param(question.number, type="integer", enum=[question.number])
        self.assigned_users = [{"id": user, "name": name} for user, name in question.eligible.items()]
        return super().execute(context)

    @fail_without_retry
    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Records the answer and returns it, or fails where it is no approval that counts."""
        if event.get("error_type") == "timeout":
            raise AirflowFailException(self.silence(*self._house()))
        answered = super().execute_complete(context, event)
        choice: Choice = "approve" if answered["chosen_options"] == ["Approve"] else "reject"
        number = answered["params_input"].get(self.about)
        if number is None and choice == "approve":
            raise AirflowFailException(
                f"the approval does not say which {self.about} it is about: nothing was recorded, and it waits on"
            )
        given = Given(
            self.number if number is None else int(number),
            choice,
            answered["params_input"].get("reason"),
            _person(answered),
        )
        counted = self.record(*self._house(), given)
        self.log.info(counted.message)
        if counted.answer == "approve":
            return counted.result
        context["ti"].xcom_push("return_value", counted.result)
        raise AirflowFailException(counted.message)

    def _house(self) -> "tuple[Settings, UseCase]":
        settings = settings_module.from_environment()
        return settings, usecase_module.find(settings, self.use_case)

    def _number_param(self, value: int | None = None, **schema: Any) -> Param:
        title = self.about.capitalize()
        return Param(value, title=title, description="what the answer is about", source="task", **schema)


class Approval(Question):
    """Asks who may approve a release; never who asked for the run. Returns {outcome, message, decision_id, answer,
    person}."""

    about, key = "decision", "decision_id"

    def __init__(self, *, decision: Any, **keys: Any) -> None:
        super().__init__(target=decision, headline="release", **keys)

    def ask(self, settings: "Settings", usecase: "UseCase") -> Asked:
        """Returns the question about the decision."""
        from pipeline import release

        question = release.ask(settings, usecase, self.number)
        self.subject = question.subject
        return Asked(question.decision_id, question.body, question.eligible)

    def record(self, settings: "Settings", usecase: "UseCase", given: Given) -> Counted:
        """Returns the answer as the release counts it."""
        from pipeline import release

        counted = release.answer(settings, usecase, given.number, given.choice, given.person, given.reason)
        message = _RELEASED[counted.answer].format(
            decision=counted.decision_id, person=counted.person, why=counted.reason
        )
        result = {
            "outcome": counted.answer,
            "message": message,
            "decision_id": counted.decision_id,
            "answer": counted.answer,
            "person": counted.person,
        }
        return Counted(counted.answer, message, result)

    def silence(self, settings: "Settings", usecase: "UseCase") -> str:
        """Records that nobody answered."""
        from pipeline import release

        release.answer(settings, usecase, self.number, "timeout", None, None)
        return "nobody answered in time: what was live stays live, and silence is recorded"


_RELEASED = {
    "approve": "{person} approved decision {decision}: {why}",
    "reject": "{person} rejected decision {decision}: {why}. What was live stays live",
    "refused": "the approval of decision {decision} was refused: {why}. It waits on: trigger this DAG again and let"
    " another person answer",
}


class ErasureApproval(Question):
    """Asks who may agree to an erasure. Returns {erasure, answer, person, message}."""

    about = key = "erasure"

    def __init__(self, *, requested: Any, **keys: Any) -> None:
        super().__init__(target=requested, headline="erase", **keys)

    def ask(self, settings: "Settings", usecase: "UseCase") -> Asked | None:
        """Returns the question; None where somebody has agreed on the command line."""
        from pipeline import data

        if data.erasure.get(settings, usecase, self.number).state in ("due", "erased"):
            return None
        question = data.erasure.ask(settings, usecase, self.number)
        return Asked(question.erasure, question.body, question.eligible)

    def record(self, settings: "Settings", usecase: "UseCase", given: Given) -> Counted:
        """Returns the answer as the erasure counts it."""
        from pipeline import data

        counted = data.erasure.answer(settings, usecase, given.number, given.choice, given.reason, given.person)
        message = f"erasure {counted.erasure}: {counted.answer} by {counted.person}: {counted.reason}"
        result = {"erasure": counted.erasure, "answer": counted.answer, "person": counted.person, "message": message}
        return Counted(counted.answer, message, result)

    def silence(self, settings: "Settings", usecase: "UseCase") -> str:
        """Returns what silence means."""
        return "nobody answered in time: nothing was erased, and the erasure waits on"


class SignOff(Question):
    """Asks one role to sign what is new in a dataset version. Returns {version, role, answer, person, message}."""

    about = key = "version"

    def __init__(self, *, role: Literal["data_owner", "privacy_reviewer"], standing: Any, **keys: Any) -> None:
        super().__init__(target=standing, headline=f"train on what is new ({role.replace('_', ' ')})", **keys)
        self.role = role

    def ask(self, settings: "Settings", usecase: "UseCase") -> Asked | None:
        """Returns the question; None where nothing is new to the role, or it has answered."""
        from pipeline.data import signoff

        question = signoff.ask(settings, usecase, self.number, self.role)
        return None if question is None else Asked(question.version, question.body, question.eligible)

    def record(self, settings: "Settings", usecase: "UseCase", given: Given) -> Counted:
        """Returns the answer as it counts."""
        from pipeline.data import signoff

        counted = signoff.answer(settings, usecase, given.number, self.role, given.choice, given.reason, given.person)
        message = f"version {counted.version}, {counted.role}: {counted.answer} by {counted.person}: {counted.reason}"
        result = {"version": counted.version, "role": counted.role, "answer": counted.answer, "person": counted.person}
        return Counted(counted.answer, message, result | {"message": message})

    def silence(self, settings: "Settings", usecase: "UseCase") -> str:
        """Returns what silence means."""
        return "nobody answered in time: the night goes on with the version that was signed last"


def _person(given: Any) -> str | None:
    """Returns who Airflow says answered, by the id of his login there."""
    from pipeline.people.origins import of_airflow

    user = (given["responded_by_user"] or {}).get("id")
    return None if user is None else of_airflow(str(user))
