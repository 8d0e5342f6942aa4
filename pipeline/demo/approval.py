"""Questions to persons, about new data and about the release: a person answers at the terminal, or the demo answers by
itself and says so."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.markdown import Markdown
from rich.prompt import Prompt

from pipeline.demo.watch import Ended, Watch
from pipeline.errors import Refused
from pipeline.login import answers
from pipeline.services.rest import Airflow, Answered

TASK = "approve"
WAITING = "awaiting_input"


@dataclass(frozen=True)
class Answer:
    """An answer to give, and in whose name."""

    user: Airflow
    option: str  # Approve or Reject
    reason: str


@dataclass(frozen=True)
class Questions:
    """Who is asked what a DAG's run waits for, and how the answer is given."""

    watch: Watch
    console: Console
    engineer: Airflow
    reviewer: Airflow
    interactive: bool
    rest_seconds: float = 2 * answers.REST_SECONDS  # a busy scheduler sees late that a question's process has ended

    def _question(self, ended: Ended, task: str) -> tuple[str, dict[str, Any]]:
        """Returns where the answer to a waiting task goes, and the question, which is shown."""
        path = f"dags/{ended.dag_id}/dagRuns/{ended.run_id}/taskInstances/{task}/-1/hitlDetails"
        question: dict[str, Any] = self.watch.airflow.call("GET", path)
        self.console.print()
        self.console.print(Markdown(str(question["body"])))
        return path, question

    def _rest(self) -> None:
        """Lets a question rest before the demo answers it; a person takes longer."""
        if not self.interactive:
            time.sleep(self.rest_seconds)

    def _answer(self, path: str, question: dict[str, Any], reason: str) -> Answer:
        """Returns the answer that was given: a person's at the terminal, who stands in for the reviewer, or the demo's
        for its reviewer, with this reason."""
        given = self._ask(question, reason) if self.interactive else Answer(self.reviewer, "Approve", reason)
        self._give(path, question, given)
        self.console.print(f"  [bold]{given.user.user}[/] answers: {given.option} ({given.reason})")
        return given

    def _give(self, path: str, question: dict[str, Any], given: Answer) -> None:
        (about,) = question["params"].keys() - {"reason"}
        params = {about: question["params"][about]["value"], "reason": given.reason}
        given.user.call("PATCH", path, {"chosen_options": [given.option], "params_input": params})

    def _ask(self, question: dict[str, Any], reason: str) -> Answer:
        self.console.print(
            f"You answer as [bold]{self.reviewer.user}[/]. The UI asks the same, under Required Actions."
        )
        options = {option.lower(): option for option in question["options"]}
        chosen = Prompt.ask("Your answer", choices=list(options), console=self.console)
        return Answer(self.reviewer, options[chosen], Prompt.ask("Why", console=self.console, default=reason))


@dataclass(frozen=True)
class SignOff(Questions):
    """Runs `<usecase>_sign` to its end, asking or answering on the way."""

    def carry_out(self, dag_id: str, run_id: str) -> Ended:
        """Returns the run at its end. The demo signs as its reviewer, its data owner and privacy reviewer."""
        answered: dict[str, str] = {}
        while True:
            rejected = [task for task, option in answered.items() if option == "Reject"]
            ended = self.watch.follow(dag_id, run_id, until=WAITING, may_fail=rejected)
            if ended.state != WAITING:
                return ended
            self._rest()
            for task in [name for name, state in ended.tasks.items() if state == WAITING and name not in answered]:
                given = self._answer(*self._question(ended, task), "the demo signs as its reviewer")
                answered[task] = given.option


@dataclass(frozen=True)
class Release(Questions):
    """Runs `<usecase>_release` to its end, asking or answering on the way."""

    def carry_out(self, dag_id: str, run_id: str, requested_by: str) -> Ended:
        """Returns the run of the release at its end. Where it comes to a question, a person at the terminal answers it,
        or the demo: as its reviewer, after Airflow turned away who asked for the run."""
        ended = self.watch.follow(dag_id, run_id, until=WAITING)
        if ended.state != WAITING:
            return ended
        path, question = self._question(ended, TASK)
        self._rest()
        if not self.interactive and requested_by == self.engineer.user:
            self.console.print(
                f"\nNo terminal, so the demo answers: first as [bold]{requested_by}[/], who asked for it."
            )
            self._try_own(path, question)
            self.console.print(f"Now as [bold]{self.reviewer.user}[/]:")
        given = self._answer(path, question, "the demo approves as its reviewer: the gate's checks passed")
        return self.watch.follow(dag_id, run_id, may_fail=("approve",) if given.option == "Reject" else ())

    def _try_own(self, path: str, question: dict[str, Any]) -> None:
        """Answers as who asked for the run, and shows that it is turned away. Raises Refused where it is not."""
        try:
            self._give(path, question, Answer(self.engineer, "Approve", "the demo tries to approve its own run"))
        except Answered as refusal:
            if refusal.status != httpx.codes.FORBIDDEN:
                raise
            self.console.print("  Turned away: nobody approves what he asked for himself. Nothing was promoted.")
            return
        raise Refused("Airflow took an approval from who asked for the run", where=path)
