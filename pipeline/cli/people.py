"""Commands about persons: who is logged in, what he answers for, and who is known context."""

import getpass
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.cli.context import context_of, settings
from pipeline.cli.output import Answer, command
from pipeline.cli.stages import UseCaseName
from pipeline.errors import BadInput

Login = Annotated[
    str | None, typer.Option("--login", metavar="ROLE", help="Answer by your own database login; asks its password.")
]
Which = Annotated[int | None, typer.Option("--decision", help="Which decision; default: the newest that waits.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the app."""
    command(app, "login")(login)
    command(app, "logout")(logout)
    command(app, "whoami", ok=lambda answer: bool(answer["logged_in"]))(whoami)
    command(app, "approve", ok=lambda answer: answer["answer"] == "approve")(approve)
    command(app, "reject")(reject)
    person = typer.Typer(
        no_args_is_help=True, help="Who may answer for a release, and sign data. Takes the superuser's login."
    )
    app.add_typer(person, name="person")
    command(person, "add")(person_add)
    command(person, "end")(person_end)
    command(person, "list")(person_list)


def login(
    user: Annotated[str, typer.Argument(help="Your name at Airflow.")],
    server: Annotated[str | None, typer.Option(help="Airflow's address; default: the one that runs context.")] = None,
) -> Answer:
    """Log in at Airflow, so that commands know who you are. Asks the password; reads it from a pipe where it is one."""
    from pipeline.login import session

    in_force = settings()
    kept = session.log_in(in_force, server or session.server(in_force), user, password(user))
    return {"user": kept.user, "server": kept.server, "expires_at": kept.expires_at}


def logout() -> Answer:
    """Forget the login."""
    from pipeline.login import session

    return {"logged_out": session.log_out(settings())}


def whoami() -> Answer:
    """Say who commands act for, and what says so."""
    from pipeline.login import identity

    current = identity.current(settings())
    answer = {"name": current.name, "by": current.proof, "logged_in": current.logged_in, "known": current.known}
    return answer | {"next": None if current.logged_in else identity.LOG_IN}


def approve(
    name: UseCaseName,
    reason: Annotated[str, typer.Option(help="Why. It is kept with the answer.")],
    decision: Which = None,
    login: Login = None,
) -> Answer:
    """Approve a waiting release, as who is logged in."""
    if not reason.strip():
        raise BadInput("an approval needs a reason", found=repr(reason), next_step="say in a sentence why")
    return _answer(name, decision, "approve", reason, login)


def reject(
    name: UseCaseName,
    reason: Annotated[str | None, typer.Option(help="Why. It is kept with the answer.")] = None,
    decision: Which = None,
    login: Login = None,
) -> Answer:
    """Reject a waiting release, as who is logged in. What was live stays live."""
    return _answer(name, decision, "reject", reason, login)


def _answer(name: str, decision: int | None, answer: str, reason: str | None, login: str | None) -> Answer:
    from pipeline.login import answers, identity

    context = context_of(name)
    own = None if login is None else identity.own_login(context.settings, login, password(login))
    choice: answers.Choice = "approve" if answer == "approve" else "reject"
    return asdict(answers.give(context.settings, context.usecase.name, decision, choice, reason, own))


def password(user: str) -> str:
    """Returns a password that is typed, or the first line of a pipe. It never stands among the arguments."""
    if sys.stdin.isatty():
        return getpass.getpass(f"password of {user}: ")
    return sys.stdin.readline().rstrip("\n")


def person_add(
    name: Annotated[str, typer.Argument(help="The one name that answers are recorded in.")],
    airflow: Annotated[str | None, typer.Option("--airflow", metavar="ID", help="Who he is at Airflow.")] = None,
    login: Annotated[str | None, typer.Option("--login", metavar="ROLE", help="His own database login.")] = None,
    alias: Annotated[list[str] | None, typer.Option("--alias", help="Another name of his, such as os:maria.")] = None,
    approver: Annotated[bool, typer.Option(help="May let a release through.")] = True,
    data_owner: Annotated[
        bool | None, typer.Option("--data-owner/--no-data-owner", help="May sign new sources of training rows.")
    ] = None,
    privacy_reviewer: Annotated[
        bool | None, typer.Option("--privacy-reviewer/--no-privacy-reviewer", help="May sign rows about persons.")
    ] = None,
) -> Answer:
    """Add a person, or another name of one who is known. A login that is not there is made."""
    from pipeline.people import persons

    in_force, names = settings(), tuple(alias or ())
    known = {person.name: person for person in persons.everybody(in_force)}.get(name)
    # What is not said of one who is known stays as it is.
    owns = (known is not None and known.data_owner) if data_owner is None else data_owner
    reviews = (known is not None and known.privacy_reviewer) if privacy_reviewer is None else privacy_reviewer
    person = persons.Person(name, airflow, login, approver, names, False, owns, reviews)
    file = persons.add(in_force, person)
    return {"person": name, "password_file": None if file is None else str(file)}


def person_end(name: str) -> Answer:
    """Let a person's answers count no more. What he answered stands."""
    from pipeline.people import persons

    persons.end(settings(), name)
    return {"ended": name}


def person_list() -> Answer:
    """List the persons and every name of theirs."""
    from pipeline.people import persons

    return {"persons": [asdict(person) for person in persons.everybody(settings())]}
