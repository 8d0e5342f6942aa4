"""Persons: who may answer for a release. Written with the superuser's login alone: a worker that could add a person
could be the second pair of eyes to its own work."""

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import BadInput
from pipeline.settings import Settings, secret

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}", re.ASCII)
FORM = "a to z, 0 to 9 and . _ @ -, at most 64 of them, the first a letter or a digit"


@dataclass(frozen=True)
class Person:
    """One person, under the one name that answers are recorded in."""

    name: str
    airflow_id: str | None  # as Airflow's login names him
    login: str | None  # his own database login
    approver: bool  # may let a release through
    aliases: tuple[str, ...] = ()  # every other name that he is recorded under, such as os:maria
    ended: bool = False
    data_owner: bool = False  # may sign that a new source is trained on
    privacy_reviewer: bool = False  # may sign that rows about persons are


def add(settings: Settings, person: Person) -> Path | None:
    """Adds a person, or what is new about one who is known. Returns the file with the password of a login that was made
    for him; None where none was made.

    Raises BadInput for a name that is none, NotAvailable where the superuser's login is not on this machine, Refused
    for an id, a login or an alias that is another person's.
    """
    if not NAME.fullmatch(person.name):
        raise BadInput("this cannot be a person's name", found=repr(person.name), allowed=FORM)
    with _administration(settings) as connection, connection.transaction():
        password_file = None if person.login is None else _login(settings, connection, person.login)
        database.call(
            connection,
            "release.add_person",
            person.name,
            person.airflow_id,
            person.login,
            person.approver,
            person.data_owner,
            person.privacy_reviewer,
            list(person.aliases),
        )
    return password_file


def end(settings: Settings, name: str) -> None:
    """Lets a person's answers count no more; what he answered stands. Raises Refused where nobody is called so."""
    with _administration(settings) as connection:
        database.call(connection, "release.end_person", name)


def everybody(settings: Settings) -> list[Person]:
    """Returns all persons, by name."""
    with database.connect(settings, "reader") as connection:
        rows = database.fetch(connection, "persons", "everybody")
    return [
        Person(
            row["name"],
            row["airflow_id"],
            row["login"],
            row["approver"],
            tuple(row["aliases"]),
            row["ended_at"] is not None,
            row["data_owner"],
            row["privacy_reviewer"],
        )
        for row in rows
    ]


def of_process() -> str:
    """Returns who runs this process, as a name that no person can have: `os:` and the user whom the system knows. What
    the environment says about him is not asked."""
    try:
        return f"os:{pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"os:{os.geteuid()}"


def _administration(settings: Settings) -> Connection:
    return database.open_connection(database.superuser_dsn(settings), "nightshift/persons")


def _login(settings: Settings, connection: Connection, login: str) -> Path | None:
    """Makes a person's login unless it is there, and lets it answer. Returns the file with a new one's password."""
    file, name = None, sql.Identifier(login)
    if connection.execute("select from pg_roles where rolname = %s", [login]).fetchone() is None:
        file = settings.home / "persons" / login
        verifier = connection.pgconn.encrypt_password(secret(file).encode(), login.encode(), b"scram-sha-256").decode()
        statement = sql.SQL("create role {} login nosuperuser nocreatedb nocreaterole password {}")
        connection.execute(statement.format(name, sql.Literal(verifier)))
    try:
        connection.execute(sql.SQL("grant approvers to {} with inherit true, set false").format(name))
    except psycopg.errors.InvalidGrantOperation as error:
        raise BadInput(
            "this login cannot be a person's", found=login, allowed=str(error.diag.message_primary)
        ) from None
    return file
