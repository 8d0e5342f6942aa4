"""`make up` and `make down`: everything an installation needs, started in order and stopped without a remainder."""

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline import usecase
from pipeline.operations import migrations
from pipeline.people import persons
from pipeline.people.persons import Person
from pipeline.services import airflow, configuration, postgres
from pipeline.settings import Settings

KINDS = ("data", "reindex", "retrain", "release", "evaluate", "govern", "rollback")


@dataclass(frozen=True)
class Running:
    """An installation that runs."""

    url: str
    password_file: str
    users: Mapping[str, str]  # to their roles at Airflow
    already: bool  # it ran before
    missing: Sequence[str]  # DAGs that did not appear: their import errors say why
    broken: Sequence[str]  # what is wrong with the use cases that have none


@dataclass(frozen=True)
class Stopped:
    """An installation that was told to stop."""

    stopped: bool  # whether anything ran


def up(settings: Settings) -> Running:
    """Returns the installation, after starting Postgres and Airflow unless they run, and waiting until they are of use.

    Raises NotAvailable where a port is taken or something does not start; nothing half-started is left of Airflow.
    """
    with _alone(settings):
        if airflow.healthy(settings):
            return _running(settings, already=True, missing=set())
        airflow.stop(settings)
        ports = configuration.ports(settings)
        if settings.database_url is None:
            postgres.start(settings)
            migrations.upgrade(settings)
            _introduce(settings)
        new = airflow.prepare_database(settings)
        configuration.write(settings, ports)
        airflow.migrate(settings, new=new)
        airflow.start(settings)
        return _running(settings, already=False, missing=airflow.set_up(settings, expected_dags(settings)))


def _introduce(settings: Settings) -> None:
    """Lets the database know Airflow's users as persons, unless it does. Whoever starts the installation here is its
    engineer, so that what he asks for in a shell is no other person's work."""
    known = {person.name for person in persons.everybody(settings)}
    aliases = {"engineer": (persons.of_process(),)}
    for user, role in configuration.USERS.items():
        if user not in known:
            signs = user == "reviewer"
            answers = Person(user, user, None, role != "viewer", aliases.get(user, ()), False, signs, signs)
            persons.add(settings, answers)


def down(settings: Settings) -> Stopped:
    """Returns whether anything ran, after stopping Airflow with all its tasks, and the embedded Postgres."""
    with _alone(settings):
        stopped = airflow.stop(settings)
        embedded = postgres.stop(settings) if settings.database_url is None else False
        return Stopped(embedded or stopped > 0)


def expected_dags(settings: Settings) -> set[str]:
    """Returns the ids of the DAGs that the sound use cases make."""
    return {f"{each.name}_{kind}" for each in usecase.read_all(settings)[0] for kind in KINDS} | {"maintain"}


def _running(settings: Settings, *, already: bool, missing: set[str]) -> Running:
    return Running(
        airflow.url(settings),
        str(configuration.password_file(settings)),
        dict(configuration.USERS),
        already,
        sorted(missing),
        [str(error) for error in usecase.read_all(settings)[1].values()],
    )


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Lets one `up` or `down` of an installation run at a time."""
    folder = configuration.folder(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
