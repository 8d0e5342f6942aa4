"""Persons' answers to decisions. The rules stand in the database: nobody approves his own run, an answer is final, and
silence is never a yes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import BadInput, Refused
from pipeline.release.records import Chosen, Waiting
from pipeline.settings import Settings
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class Answer:
    """An answer as it is recorded."""

    decision_id: int
    answer: str  # approve, reject, timeout, or refused for an approval that the rules do not accept
    person: str | None  # None for a timeout
    reason: str  # the person's, or why the approval was refused


@dataclass(frozen=True)
class Question:
    """What persons are asked about a decision, and whom to ask."""

    decision_id: int
    subject: str
    body: str  # Markdown: digests, checks and who asked
    eligible: Mapping[str, str]  # ids at Airflow to names


_MARKS = {"pass": "✓", "condition": "!", "inconclusive": "?", "fail": "✗"}


def answer(
    settings: Settings, usecase: UseCase, decision_id: int, answer: str, person: str | None, reason: str | None
) -> Answer:
    """Returns the answer as it counts: approve, reject or timeout, or refused for an approval that the rules do not
    accept (of one's own run, by nobody who is known here, of a blocked candidate). Each is recorded; after "refused"
    the decision goes on waiting.

    `person` is who Airflow says is logged in; None for a timeout. A rejection counts whoever it is from, and without a
    reason. Raises Refused for a second answer, BadInput for a decision that is none of the use case or an approval that
    names nobody.
    """
    if answer not in ("approve", "reject", "timeout"):
        raise BadInput("unknown answer", found=answer, allowed="approve, reject, timeout")
    if (answer == "timeout" and person is not None) or (answer == "approve" and not person):
        raise BadInput("an approval is a named person's, and silence is nobody's", found=f"{answer} by {person}")
    with database.connect(settings, "approver") as connection:
        _decision(connection, usecase, decision_id)
        arguments = (decision_id, answer, person, reason, usecase.name)
        database.call(connection, "release.answer", *arguments)
        row = database.fetch_one(connection, "persons", "newest_answer", decision_id=decision_id)
    assert row is not None
    return Answer(decision_id, row["answer"], row["person"], row["reason"])


def check(settings: Settings, usecase: UseCase, decision_id: int) -> None:
    """Raises BadInput where a decision is none of the use case."""
    with database.connect(settings, "approver") as connection:
        _decision(connection, usecase, decision_id)


def ask(settings: Settings, usecase: UseCase, decision_id: int) -> Question:
    """Returns what persons are asked about a decision, and whom to ask. Raises Refused where nobody may approve it."""
    with database.connect(settings, "approver") as connection:
        row = _decision(connection, usecase, decision_id)
        eligible = database.fetch(connection, "release", "eligible", decision_id=decision_id)
    if not eligible:
        raise Refused(
            f"nobody may approve decision {decision_id}",
            found=f"asked for by {row['requested_by']}",
            allowed="a person who is known here, with an id at Airflow, and did not ask for it",
            next_step="`nightshift person list` shows who is known, `nightshift person add` adds one",
        )
    subject = f"{usecase.name}: release {row['model_digest'][:12]}?"
    return Question(
        decision_id, subject, question(usecase, row), {each["airflow_id"]: each["name"] for each in eligible}
    )


def supersede(settings: Settings, decision_id: int) -> list[int]:
    """Returns the older decisions which this one ended: those of its use case that still waited. The gate does it by
    itself; a decision that blocks supersedes nothing."""
    with database.connect(settings, "approver") as connection:
        return [row["supersede"] for row in database.call(connection, "release.supersede", decision_id)]


def waiting(settings: Settings, usecase: UseCase) -> list[Waiting]:
    """Returns the decisions about a model that the gate let through and that are neither live nor turned down, newest
    first."""
    with database.connect(settings, "approver") as connection:
        rows = database.fetch(connection, "release", "open", use_case=usecase.name)
    return [
        Waiting(
            row["decision_id"],
            row["outcome"],
            row["needs_person"],
            row["answer"],
            row["stale"],
            row["model_digest"],
            row["index_digest"],
            row["requested_by"],
            row["decided_at"].isoformat(),
            row["refused"],
        )
        for row in rows
    ]


def decision_of(settings: Settings, usecase: UseCase, run: UUID) -> int:
    """Returns the decision that a gate's run came to. Raises BadInput where it came to none of the use case."""
    with database.connect(settings, "approver") as connection:
        row = database.fetch_one(connection, "release", "decision_of_run", run=str(run), use_case=usecase.name)
    if row is None:
        raise BadInput(f"this run came to no decision of {usecase.name}", found=run)
    return int(row["decision_id"])


def choose(settings: Settings, usecase: UseCase, decision_id: int | None = None) -> Chosen | None:
    """Returns the decision to act on: the given one, or the newest that can still be promoted; None where there is
    nothing to do.

    Raises BadInput for a decision that is none of this use case, Refused for one that cannot be promoted any more.
    """
    number = decision_id
    if number is None:
        number = next((one.decision_id for one in waiting(settings, usecase) if not one.stale), None)
        if number is None:
            return None
    with database.connect(settings, "approver") as connection:
        row = _decision(connection, usecase, number)
    if row["kind"] != "model":
        raise BadInput(f"this is no decision about a model of {usecase.name}", found=number)
    if row["deployment_id"] is not None:
        return None
    if row["outcome"] == "block" or row["answer"] not in (None, "approve"):
        why = "the gate blocked it" if row["outcome"] == "block" else f"its answer was: {row['answer']}"
        raise Refused(
            f"decision {number} cannot be promoted: {why}", next_step="run the night again for a new decision"
        )
    needs_person = row["needs_person"] and row["answer"] is None
    return Chosen(number, needs_person, row["model_digest"], row["outcome"], row["requested_by"])


def question(usecase: UseCase, row: Mapping[str, Any]) -> str:
    """Returns what an approver is shown, as Markdown: no text of examples, documents or answers."""
    lines = [
        f"**{usecase.title}**: decision {row['decision_id']}, {row['outcome'].replace('_', ' ')}",
        "",
        f"- candidate `{row['model_digest'][:12]}`, index `{(row['index_digest'] or 'none')[:12]}`",
        f"- asked for by {row['requested_by']}, who cannot approve it; decided {row['decided_at']:%Y-%m-%d %H:%M} UTC",
        "",
        "| | check | found | wanted | cases |",
        "|---|---|---|---|---|",
        *(_line(check) for check in row["checks"]),
    ]
    return "\n".join(lines)


def _line(check: Mapping[str, Any]) -> str:
    mark = _MARKS[check["verdict"]]
    if "low" not in check:
        return f"| {mark} | {check['name']} | {check['reason']} | | |"
    measured = f"{check['value']:.3f} [{check['low']:.3f}, {check['high']:.3f}]"
    return f"| {mark} | {check['name']} | {measured} | ≥ {check['wanted']:.3f} | {check['n']} |"


def _decision(connection: Connection, usecase: UseCase, decision_id: int) -> Mapping[str, Any]:
    row = database.fetch_one(connection, "release", "decision", decision_id=decision_id)
    if row is None or row["use_case"] != usecase.name:
        raise BadInput(
            f"there is no such decision of {usecase.name}",
            found=decision_id,
            next_step=f"`nightshift status {usecase.name}` lists those that wait",
        )
    return row
