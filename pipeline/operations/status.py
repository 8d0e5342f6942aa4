"""Status: what is live, how the last night went, what waits for a person, and what is older than it may be.

Reads views alone, with the reader's login or the auditor's, and runs without Airflow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import psycopg

from pipeline import anchors, database
from pipeline import usecase as usecases
from pipeline.anchors import Anchor
from pipeline.database import Connection
from pipeline.errors import NotAvailable
from pipeline.settings import Settings
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class Champion:
    """The model that is live."""

    digest: str
    deployment_id: int
    decision_id: int
    promoted_by: str
    why: str | None
    valid_from: datetime


@dataclass(frozen=True)
class LiveIndex:
    """The index that is live."""

    digest: str
    generation: int | None
    chunks: int | None
    built_at: datetime | None
    checked_at: datetime | None  # when it was last compared with the documents


@dataclass(frozen=True)
class UseCaseStatus:
    """How one use case is."""

    champion: Champion | None
    index: LiveIndex | None
    last_night: Mapping[str, Any] | None  # the row of the night, when the last good one was, and what blocked this one
    waiting: Sequence[Mapping[str, Any]]  # decisions that wait for a person
    incidents: Sequence[Mapping[str, Any]]  # runs that failed or were lost


@dataclass(frozen=True)
class Status:
    """How an installation is."""

    ok: bool
    reasons: Sequence[str]  # what is missing, broken, blocked or older than the YAML's `freshness` allows
    use_cases: Mapping[str, UseCaseStatus]
    anchor: Anchor | None  # the newest


def status(settings: Settings, usecase: UseCase | None = None, strict: bool = False) -> Status:
    """Returns the status of one use case, or of all.

    `ok` is false where no model is live, the last night failed or was blocked (the reason names the check, what it
    found and what it wants), or a use case cannot be read; with `strict`, for any reason.

    Raises NotAvailable where the database does not answer, has no schema yet, or has no login on this machine.
    """
    problems: list[str] = []
    usecases = [usecase] if usecase else _usecases(settings, problems)
    reasons: list[str] = []
    answers: dict[str, UseCaseStatus] = {}
    newest = anchors.last(settings)
    try:
        with _connect(settings) as connection:
            now = _one(connection, "now")["now"]
            for each in usecases:
                answers[each.name] = _use_case(connection, each, now, problems, reasons)
            _anchor(newest, usecases, now, reasons)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn):
        raise NotAvailable("the database is not set up", next_step="`nightshift db upgrade`") from None
    ok = not problems and not (strict and reasons)
    return Status(ok, problems + reasons, answers, newest)


def _connect(settings: Settings) -> Connection:
    """Returns a connection as reader, or as auditor on a machine that has this login alone."""
    return database.connect(settings, "reader" if (settings.logins / "reader").exists() else "auditor")


def _usecases(settings: Settings, problems: list[str]) -> list[UseCase]:
    sound, broken = usecases.read_all(settings)
    problems += [f"{name}: {error.what} ({error.details['where']})" for name, error in broken.items()]
    return sound


def _use_case(
    connection: Connection, usecase: UseCase, now: datetime, problems: list[str], reasons: list[str]
) -> UseCaseStatus:
    name = usecase.name
    live = _one(connection, "live", name)
    checked = _one(connection, "index_checked", name).get("at")
    night = _one(connection, "last_night", name)
    good = _one(connection, "last_good_night", name).get("at")
    blocking = [check for check in night.pop("checks", None) or [] if check["verdict"] not in ("pass", "condition")]
    blocking = blocking if night.get("outcome") == "block" else []
    incidents = database.fetch(connection, "status", "incidents", use_case=name)
    if not live.get("model_digest"):
        problems.append(f"{name}: no model is live")
    if night.get("state") == "failed":
        problems.append(f"{name}: the last night failed")
    if night.get("outcome") == "block":
        problems.append(f"{name}: the last night was blocked by {'; '.join(map(_blocked, blocking)) or 'its gate'}")
    reasons += [
        f"{name}: {reason}"
        for reason in (
            None if live.get("index_digest") else "no index is live",
            _late("the last good night", good, usecase.freshness.night, now),
            _late("the live index", checked, usecase.freshness.index, now) if live.get("index_digest") else None,
            *(f"{row['job']} {row['state']} ({row['error_class'] or 'no sign of life'})" for row in incidents),
        )
        if reason
    ]
    return UseCaseStatus(
        _champion(live),
        _index(live, checked),
        night | {"last_good_at": good, "blocked_by": blocking} if night else None,
        [dict(row) for row in database.fetch(connection, "status", "waiting", use_case=name)],
        [dict(row) for row in incidents],
    )


def _champion(live: Mapping[str, Any]) -> Champion | None:
    if not live.get("model_digest"):
        return None
    names = [field.name for field in fields(Champion)][1:]
    return Champion(live["model_digest"], **{name: live[name] for name in names})


def _index(live: Mapping[str, Any], checked: datetime | None) -> LiveIndex | None:
    if not live.get("index_digest"):
        return None
    return LiveIndex(live["index_digest"], live["generation_id"], live["chunks"], live["attached_at"], checked)


def _blocked(check: dict[str, Any]) -> str:
    """Returns what a check that did not pass found, and what it wants."""
    if "value" not in check:
        return f"{check['name']} ({check['verdict']}: {check['reason']})"
    measured = f"{check['value']:.3f} [{check['low']:.3f}, {check['high']:.3f}]"
    return f"{check['name']} ({check['verdict']}: {measured}, wanted ≥ {check['wanted']:.3f})"


def _one(connection: Connection, query: str, use_case: str | None = None) -> dict[str, Any]:
    """Returns the row of a query; an empty one where there is none."""
    filters = {} if use_case is None else {"use_case": use_case}
    return dict(database.fetch_one(connection, "status", query, **filters) or {})


def _late(what: str, at: datetime | None, hours: float, now: datetime) -> str | None:
    """Returns that something is too old, or was never there; None when it is neither."""
    if at is None:
        return f"{what} has not been yet" if "night" in what else f"{what} was never checked"
    age = (now - at).total_seconds() / 3600
    return f"{what} is {age:.1f} hours old, {hours:g} are allowed" if age > hours else None


def _anchor(newest: Anchor | None, usecases: list[UseCase], now: datetime, reasons: list[str]) -> None:
    hours = min((each.freshness.anchor for each in usecases), default=None)
    if hours is None:
        return
    at = datetime.fromisoformat(newest.at) if newest else None
    late = _late("the audit's last anchor", at, hours, now)
    reasons += [late.replace("was never checked", "has not been written yet")] if late else []
