"""The release: a person answers at the terminal, or the demo answers by itself and says so."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.prompt import Prompt

from pipeline.demo.watch import Ended, Watch
from pipeline.services.rest import Airflow

TASK = "approve"
WAITING = "awaiting_input"


@dataclass(frozen=True)
class Answer:
    """An answer to give, and in whose name."""

    user: Airflow
    option: str  # Approve or Reject
    reason: str


@dataclass(frozen=True)
class Release:
    """Runs `<usecase>_release` to its end, asking or answering on the way."""

    watch: Watch
    console: Console
    engineer: Airflow
    reviewer: Airflow
    interactive: bool

    def carry_out(self, dag_id: str, run_id: str, requested_by: str) -> list[Ended]:
        """Returns the runs that it took: one, or two where the first answer was refused."""
        if self.interactive:
            return [self._answered(dag_id, run_id, None)]
        if requested_by != self.engineer.user:
            return [self._answered(dag_id, run_id, self._second_pair_of_eyes())]
        self.console.print(
            f"\nNo terminal, so the demo answers: first as [bold]{self.engineer.user}[/], who asked for it."
        )
        first = self._answered(
            dag_id, run_id, Answer(self.engineer, "Approve", "the demo tries to approve its own run")
        )
        if first.succeeded("promote") or not first.succeeded(TASK):
            return [first]
        self.console.print(
            "  Refused and recorded: nobody approves what he asked for himself. Nothing was promoted.\n"
            f"Now as [bold]{self.reviewer.user}[/], in a second run of the release:"
        )
        decision = self.watch.airflow.result(dag_id, run_id, TASK)["decision_id"]
        again = self.reviewer.trigger(dag_id, {"decision_id": decision})
        return [first, self._answered(dag_id, again, self._second_pair_of_eyes())]

    def _second_pair_of_eyes(self) -> Answer:
        return Answer(self.reviewer, "Approve", "the demo approves as its reviewer: the gate's checks passed")

    def _answered(self, dag_id: str, run_id: str, answer: Answer | None) -> Ended:
        """Returns the run at its end. Without an answer, a person is asked when it comes to that."""
        ended = self.watch.follow(dag_id, run_id, until=WAITING)
        if ended.state != WAITING:
            return ended
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{TASK}/-1/hitlDetails"
        asked = self.watch.airflow.call("GET", path)
        self.console.print()
        self.console.print(Markdown(str(asked["body"])))
        given = answer or self._ask(asked)
        given.user.call("PATCH", path, {"chosen_options": [given.option], "params_input": {"reason": given.reason}})
        self.console.print(f"  [bold]{given.user.user}[/] answers: {given.option} ({given.reason})")
        return self.watch.follow(dag_id, run_id)

    def _ask(self, asked: dict[str, Any]) -> Answer:
        """Returns the answer of the person at the terminal, who stands in for the reviewer."""
        self.console.print(
            f"You answer as [bold]{self.reviewer.user}[/]. The UI asks the same, under Required Actions."
        )
        options = {option.lower(): option for option in asked["options"]}
        chosen = Prompt.ask("Your answer", choices=list(options), console=self.console)
        reason = Prompt.ask("Why", console=self.console, default="looked at the gate's checks")
        return Answer(self.reviewer, options[chosen], reason)
