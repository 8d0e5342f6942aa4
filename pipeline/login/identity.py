"""Who somebody is: by a login, at Airflow or at the database, and never by an environment variable."""

from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import BadInput, NightshiftError, Refused
from pipeline.login import session
from pipeline.people import persons
from pipeline.settings import Settings

LOG_IN = "`nightshift login` with your name at Airflow, or your own database login in NIGHTSHIFT_DATABASE_URL"


@dataclass(frozen=True)
class Identity:
    """Whoever calls a command, and what says so."""

    name: str  # of a person; `os:` and the system's name of the user where nobody is logged in
    proof: Literal["airflow", "database", "system"]
    known: bool = False  # as a person of this installation

    @property
    def logged_in(self) -> bool:
        """Returns whether this is a person who has proven who he is."""
        return self.proof != "system"


def current(settings: Settings) -> Identity:
    """Returns who calls: by his own database login, else by his login at Airflow, else by the operating system.

    The last is a name that no person can have. It says who asked for a run; it answers for nothing.
    """
    connection = own_login(settings)
    if connection is not None:
        with connection:
            return Identity(_whoami(connection) or persons.of_process(), "database", True)
    kept = session.current(settings)
    if kept is not None:
        try:
            with kept.open() as opened:
                user = opened.me()
            known = _person_of(settings, user)
            return Identity(known or user, "airflow", known is not None)
        except NightshiftError:
            pass  # a token that the server does not take, or no server: nobody is logged in
    return Identity(persons.of_process(), "system")


def require(settings: Settings, what: str) -> Identity:
    """Returns who is logged in, for what a person answers for: `what` names it. Raises Refused where nobody is, or who
    is logged in is no person of this installation."""
    identity = current(settings)
    if not identity.logged_in:
        raise Refused(f"{what} is a person's, and nobody is logged in", found=identity.name, next_step=LOG_IN)
    if not identity.known:
        raise Refused(
            f"{what} is a person's, and this login is nobody's who is known here",
            found=identity.name,
            next_step="`nightshift person add`, by whoever holds the superuser's login",
        )
    return identity


def own_login(settings: Settings, login: str | None = None, password: str | None = None) -> Connection | None:
    """Returns a connection by a person's own database login: the one named, or the URL's; None where the URL names
    nobody, a worker or the superuser. Raises BadInput for a worker's login, NotAvailable where the one named cannot
    connect."""
    if login is not None:
        if login in database.ROLES:
            raise BadInput("this is a worker's login, and no person's", found=login, next_step=LOG_IN)
        dsn = make_conninfo(database.location(settings), user=login, password=password)
        return database.open_connection(dsn, "nightshift/person")
    named = conninfo_to_dict(settings.database_url or "").get("user")
    if named is None or named in database.ROLES:
        return None
    connection = database.open_connection(str(settings.database_url), "nightshift/person")
    if _whoami(connection) is None:
        connection.close()
        return None
    return connection


def _whoami(connection: Connection) -> str | None:
    """Returns the person whose login a connection is; None for a login that is nobody's."""
    try:
        row = database.fetch_one(connection, "persons", "whoami")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction):
        return None
    return None if row is None else row["name"]


def _person_of(settings: Settings, name: str) -> str | None:
    """Returns the one name of the person who comes under this one; None where the database does not know him."""
    roles: tuple[database.Role, ...] = ("reader", "pipeline", "evaluator", "approver", "auditor")
    with database.connect_any(settings, roles) as connection:
        row = database.fetch_one(connection, "persons", "person_of", name=name)
    return None if row is None else row["name"]
