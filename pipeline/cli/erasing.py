"""The command that forgets: what is touched, who agreed, the deed and its certificate."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import context_of, person
from pipeline.cli.output import Answer, command
from pipeline.cli.people import Login, password
from pipeline.cli.stages import UseCaseName
from pipeline.context import Context
from pipeline.errors import BadInput
from pipeline.records import plain

if TYPE_CHECKING:
    from pipeline.data.erasure import Answered, Choice


def register(app: typer.Typer) -> None:
    """Adds the command to the app."""
    command(app, "erase", ok=lambda answer: answer["state"] in ("erased", "dry run", "rejected"))(erase)


def erase(
    name: UseCaseName,
    subject: Annotated[str | None, typer.Option(help="A person, as `data_subject` names him.")] = None,
    document: Annotated[str | None, typer.Option(help="A document's id.")] = None,
    example: Annotated[str | None, typer.Option(help="An example's digest.")] = None,
    request: Annotated[int | None, typer.Option(help="An erasure that was asked for: agree, and carry it out.")] = None,
    reason: Annotated[str, typer.Option(help="Why. It is kept on record.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it touches, and ask for nothing.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="With --request: say no to it.")] = False,
    login: Login = None,
) -> Answer:
    """Erase a person, a document or an example: its impact; once a person has agreed, the deed and its certificate."""
    from pipeline import data

    target = data.erasure.named({"subject": subject, "document": document, "example": example, "request": request})
    context = context_of(name)
    if target is None:
        assert request is not None
        if dry_run:
            return _dry_run(plain(data.erasure.impact_of(context.settings, context.usecase, request)))
        return _answer(context, request, "reject" if reject else "approve", reason, login)
    if reject:
        raise BadInput("only an erasure that was asked for can be rejected", where="--reject", allowed="with --request")
    touched = plain(data.erasure.touched(context.settings, context.usecase, target))
    if dry_run:
        return _dry_run(touched)
    requested = data.erasure.request(context, target, reason)
    if login is not None or data.erasure.may_answer(context.settings, requested.erasure, context.origin.requested_by):
        return {"impact": touched, **_answer(context, requested.erasure, "approve", reason, login)}
    return {
        "impact": touched,
        "erasure": requested.erasure,
        "state": "waiting",
        "next": f"another person agrees by `nightshift erase {name} --request {requested.erasure} --reason …`, "
        f"or in Airflow: trigger {name}_erase with this number",
    }


def _dry_run(impact: Answer) -> Answer:
    return {"impact": impact, "state": "dry run"}


def _answer(context: Context, erasure: int, choice: "Choice", reason: str, login: str | None) -> Answer:
    """Returns what comes of a person's answer: on a yes the erasure is carried out and certified, and a dataset version
    without the rows is committed."""
    from pipeline import data

    state = data.erasure.get(context.settings, context.usecase, erasure).state
    if state in ("waiting", "rejected"):
        given = _given(context, erasure, choice, reason, login)
        if given.answer != "approve":
            return {"erasure": erasure, "state": "rejected" if given.answer == "reject" else "waiting", **asdict(given)}
    gone = data.erasure.erase(context, erasure)
    certified = data.certify(context, erasure)
    committed = data.commit(context, data.check(context, data.fetch(context)))
    data.card(context, committed)
    return {
        "erasure": erasure,
        "state": "erased",
        "erased": plain(gone),
        "certificate": certified.where,
        "to_retrain": certified.to_retrain,
        "dataset": committed.dataset.version,
        "next": f"`nightshift sql erasure_story --param erasure={erasure}` shows what came of it",
    }


def _given(context: Context, erasure: int, choice: "Choice", reason: str, login: str | None) -> "Answered":
    """Returns the answer of who is logged in, at the database or at Airflow."""
    from pipeline import data
    from pipeline.login import identity

    given = None if login is None else password(login)
    own = identity.own_login(context.settings, login, given)
    if own is not None:
        with own:
            return data.erasure.answer(context.settings, context.usecase, erasure, choice, reason, own=own)
    who = person(context, "an erasure")
    return data.erasure.answer(context.settings, context.usecase, erasure, choice, reason, who)
