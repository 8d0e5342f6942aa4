"""Erasure: a person, a document or a row is forgotten. First what it touches, then a person's answer, then the deed in
one transaction; the certificate comes after it (certificate.py)."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from pipeline import database, steps
from pipeline.context import Context
from pipeline.data import impact, tombstones
from pipeline.data.impact import Impact, Target, TargetKind
from pipeline.database import Connection
from pipeline.errors import BadInput, Refused
from pipeline.settings import Settings
from pipeline.steps import Attempt, Result, Step
from pipeline.usecase import UseCase

Basis = Literal["request", "retention"]
Choice = Literal["approve", "reject"]


@dataclass(frozen=True)
class Erasure:
    """An erasure that was asked for, and where it stands."""

    erasure: int
    kind: str
    basis: Basis
    state: Literal["waiting", "due", "rejected", "erased"]
    reason: str
    requested_by: str


@dataclass(frozen=True)
class Answered:
    """A person's answer, as it counts."""

    erasure: int
    answer: str  # approve, reject, or refused for an approval that the rules do not accept
    person: str
    reason: str


@dataclass(frozen=True)
class Question:
    """What persons are asked about an erasure, and whom to ask."""

    erasure: int
    body: str  # Markdown: counts and digests
    eligible: dict[str, str]  # ids at Airflow to names


@dataclass(frozen=True)
class Erased:
    """What went in the one transaction."""

    erasure: int
    examples: int
    locked_examples: int
    document_versions: int
    chunks: int
    embeddings: int
    cases: int  # of suites, whose question and expectation were of it
    answers: int  # of evaluations


def request(context: Context, target: Target, reason: str, basis: Basis = "request") -> Erasure:
    """Returns the erasure, written down: nothing goes by it.

    Raises BadInput for an empty reason, and where no row that has its text is about the target.
    """
    if not reason.strip():
        raise BadInput("an erasure has a reason", where="reason", next_step="say in a sentence on what ground")
    name = context.usecase.name
    with database.connect(context.settings, "pipeline") as connection:
        shown = "\n".join(impact.lines(impact.measure(connection, context.settings, name, target)))
        arguments = (name, target.kind, basis, target.reference, reason.strip(), shown, context.origin.requested_by)
        (row,) = database.call(connection, "catalog.request_erasure", *arguments)
        return _erasure(_standing(connection, context.usecase, row["request_erasure"]))


def requested(context: Context, params: Mapping[str, Any]) -> Erasure:
    """Returns the erasure that a DAG's parameters name: one that was asked for by its number, or one that is asked for
    now. Raises BadInput unless they name exactly one thing."""
    return (
        get(context.settings, context.usecase, int(params["request"]))
        if (target := named(params)) is None
        else request(context, target, params["reason"] or "")
    )


def named(params: Mapping[str, Any]) -> Target | None:
    """Returns what is to be erased; None where `request` says it. Raises BadInput unless exactly one of `request`,
    `subject`, `document` and `example` is given."""
    kinds: tuple[TargetKind, ...] = ("subject", "document", "example")
    targets = [Target(kind, params[kind]) for kind in kinds if params.get(kind) is not None]
    asked_before = params.get("request") is not None
    if len(targets) + asked_before != 1:
        raise BadInput(
            "an erasure is about one thing",
            found=", ".join([target.kind for target in targets] + ["request"] * asked_before) or "nothing",
            allowed="one of subject, document, example, or request with the number of an erasure",
        )
    return targets[0] if targets else None


def get(settings: Settings, usecase: UseCase, erasure: int) -> Erasure:
    """Returns an erasure. Raises BadInput where the use case has none with this number."""
    with database.connect_any(settings, ("pipeline", "approver")) as connection:
        return _erasure(_standing(connection, usecase, erasure))


def touched(settings: Settings, usecase: UseCase, target: Target) -> Impact:
    """Returns what the erasure of a target touches. Raises BadInput where no row that has its text is about it."""
    with database.connect(settings, "pipeline") as connection:
        return impact.measure(connection, settings, usecase.name, target)


def may_answer(settings: Settings, erasure: int, person: str) -> bool:
    """Returns whether this person may agree to an erasure."""
    with database.connect(settings, "pipeline") as connection:
        (row,) = database.call(connection, "catalog.erasure_refusal", erasure, person)
        return row["erasure_refusal"] is None


def impact_of(settings: Settings, usecase: UseCase, erasure: int) -> Impact:
    """Returns what an erasure that was asked for touches. Raises Refused where it was rejected or carried out."""
    with database.connect(settings, "pipeline") as connection:
        return impact.measure(connection, settings, usecase.name, _target(_read(connection, usecase, erasure)))


def ask(settings: Settings, usecase: UseCase, erasure: int) -> Question:
    """Returns what persons are asked, and whom to ask. Raises Refused where nobody may agree to it."""
    with database.connect(settings, "approver") as connection:
        row = _standing(connection, usecase, erasure)
        eligible = database.fetch(connection, "erasure", "eligible", erasure=erasure)
    if not eligible:
        raise Refused(
            f"nobody may agree to erasure {erasure}",
            found=f"asked for by {row['requested_by']}",
            allowed="a person who is known here, with an id at Airflow; another one where a release asks a second",
            next_step="`nightshift person list` shows who is known, `nightshift person add` adds one",
        )
    body = f"Asked for by {row['requested_by']}: {row['reason']}\n\n{row['impact']}"
    return Question(erasure, body, {each["airflow_id"]: each["name"] for each in eligible})


def answer(
    settings: Settings,
    usecase: UseCase,
    erasure: int,
    choice: Choice,
    reason: str | None,
    person: str | None = None,
    own: Connection | None = None,
) -> Answered:
    """Returns a person's answer as it counts. `own` is a connection by his own database login; without it `person` is
    who Airflow says is logged in.

    Raises BadInput for an erasure that is none of the use case, Refused for a second answer.
    """
    if choice == "approve" and not (reason or "").strip():
        raise BadInput("an approval needs a reason", found=repr(reason), next_step="say in a sentence why")
    with database.connect(settings, "approver") if own is None else nullcontext(own) as connection:
        database.call(connection, "catalog.answer_erasure", erasure, choice, person, reason, usecase.name)
        row = database.fetch_one(connection, "erasure", "newest_answer", erasure=erasure)
    assert row is not None
    return Answered(erasure, row["answer"], row["person"], row["reason"])


def erase(context: Context, erasure: int) -> Erased:
    """Returns what went: content and names in one transaction, with the tombstones that keep them from coming back.
    What went once goes once: asked again it returns the same.

    Waits for commits and index builds of the use case. Raises Refused where nobody has agreed to it.
    """
    get(context.settings, context.usecase, erasure)
    spec = Step(
        context.usecase.name,
        "data.erase",
        "pipeline",
        ("pipeline.data.erasure",),
        params={"erasure": erasure},
        reuse="never",
    )
    outcome = steps.run(
        context.settings,
        context.origin,
        spec,
        lambda attempt: Result({}, _erase(context.settings, attempt, context.usecase, erasure)),
    )
    return Erased(erasure, **outcome.facts)


def _erase(settings: Settings, attempt: Attempt, usecase: UseCase, erasure: int) -> dict[str, int]:
    connection, name = attempt.connection, usecase.name
    # Both belong to the attempt's connection and go with it: no commit and no build takes in what goes meanwhile.
    database.fetch_one(connection, "data", "lock_commits", use_case=name)
    database.fetch_one(connection, "retrieval", "lock_build", use_case=name)
    with connection.transaction():
        row = _read(connection, usecase, erasure)
        if row["erased_at"] is None:
            _bury(settings, connection, name, _target(row), row["basis"])
        (gone,) = database.call(connection, "catalog.erase", attempt.run_id, attempt.fence, erasure)
    counts: dict[str, int] = gone["erase"]
    return counts


def _bury(settings: Settings, connection: Connection, use_case: str, target: Target, basis: Basis) -> None:
    """Writes the tombstones of all that a target is about. A document whose date has come may come back with another
    text; what was asked to be forgotten comes back in no form that carries its name."""
    reason = f"erased by {basis}"
    for kind, digests in impact.identities(connection, use_case, target).items():
        if basis == "retention" and kind == "document_key":
            continue
        tombstones.add(settings, connection, use_case, kind, sorted(digests), reason)


def _read(connection: Connection, usecase: UseCase, erasure: int) -> dict[str, Any]:
    """Returns an erasure with whom it is about, which the login `pipeline` alone may see."""
    row = database.fetch_one(connection, "erasure", "erasure", erasure=erasure, use_case=usecase.name)
    return _known(row, usecase, erasure)


def _target(row: dict[str, Any]) -> Target:
    if row["reference"] is None:
        done = "it has been carried out" if row["erased_at"] else f"it was answered: {row['answer']}"
        raise Refused(f"erasure {row['erasure_id']} touches nothing any more", found=done)
    return Target(row["kind"], row["reference"])


def _standing(connection: Connection, usecase: UseCase, erasure: int) -> dict[str, Any]:
    """Returns an erasure as every login may see it."""
    row = database.fetch_one(connection, "erasure", "standing", erasure=erasure, use_case=usecase.name)
    return _known(row, usecase, erasure)


def _known(row: dict[str, Any] | None, usecase: UseCase, erasure: int) -> dict[str, Any]:
    if row is None:
        raise BadInput(
            f"there is no such erasure of {usecase.name}",
            found=erasure,
            next_step=f"`nightshift sql erasures --param use_case={usecase.name}` lists them",
        )
    return row


def _erasure(row: dict[str, Any]) -> Erasure:
    return Erasure(row["erasure_id"], row["kind"], row["basis"], row["state"], row["reason"], row["requested_by"])
