"""Who asked for a run that an asset event began: read from the run that emitted the event, never from the event.

Anyone who may use Airflow's REST API can write asset events, with whatever they say about themselves."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from pipeline import database
from pipeline.errors import Refused
from pipeline.settings import Settings

_ROLES: tuple[database.Role, ...] = ("pipeline", "approver", "evaluator", "trainer", "auditor")
_PLAIN = "!\"#$&'()*+,/;<=>?@[\\]^`{|}"  # what a name at Airflow keeps, besides letters, digits and _ . - ~


@dataclass(frozen=True)
class AssetEvent:
    """As much of an asset event as says where it came from."""

    at: datetime
    run: Any  # what the event names as our run
    dag_id: str | None  # the task that emitted it, by Airflow's word; None for one that a REST client wrote
    dag_run_id: str | None


@dataclass(frozen=True)
class Emission:
    """The run that made something new and said so."""

    run_id: UUID
    requested_by: str


def emission(settings: Settings, use_case: str, events: Iterable[AssetEvent]) -> Emission:
    """Returns the run behind the newest event that one of the use case's runs emitted.

    Raises Refused where none did: then nobody can say who asked for what the event begins.
    """
    with database.connect_any(settings, _ROLES) as connection:
        for event in sorted(events, key=lambda each: each.at, reverse=True):
            if not isinstance(event.run, str) or event.dag_id is None or not _is_uuid(event.run):
                continue
            row = database.fetch_one(connection, "lineage", "emitter", run=event.run)
            if row is not None and (row["use_case"], row["dag_id"], row["dag_run_id"]) == (
                use_case,
                event.dag_id,
                event.dag_run_id,
            ):
                return Emission(row["run_id"], row["requested_by"])
    raise Refused(
        f"no run of {use_case} emitted the asset event that began this one, so nobody can say who asked for it",
        next_step="trigger the DAG itself: then it is asked for by who triggers it",
    )


def of_airflow(user: str) -> str:
    """Returns a user of Airflow as he is recorded and known here: printable ASCII, and nothing that could be taken for
    the clock or for a user of the operating system."""
    name = quote(user, safe=_PLAIN)
    return f"%{name}" if name == "schedule" else name


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
