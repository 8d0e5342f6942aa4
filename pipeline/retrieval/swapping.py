"""Makes a generation live, by a decision that rests on its gates, and drops the generations that nothing needs."""

import logging
from collections.abc import Mapping
from typing import Any

import psycopg

from pipeline import database, deployments, steps
from pipeline.database import Connection
from pipeline.errors import Refused, Stale
from pipeline.retrieval import building
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Result, Reuse, Step, Version
from pipeline.usecase import UseCase

log = logging.getLogger(__name__)

_TRIES = 5


def swap(
    settings: Settings,
    usecase: UseCase,
    origin: Origin,
    built: Mapping[str, Any],
    checked: Mapping[str, Any],
    *,
    reuse: Reuse = "auto",
) -> dict[str, Any]:
    """Returns {swapped, deployment, decision}. Where the gates did not pass, the decision is "block" and nothing goes
    live; where the generation is live already, nothing is decided.

    The model that is live stays. A release that goes live at the same moment is waited for, and the swap decided anew
    beside it; raises Stale where that happens again and again. `reuse` changes nothing: a swap is an act.
    """
    generation = int(built["generation"])
    version = Version(**built["outputs"]["generation"])
    report = Version(**checked["outputs"]["report"])
    told: dict[str, Any] = {}

    def work(attempt: Attempt) -> Result:
        def write(connection: Connection, _versions: Mapping[str, Version]) -> None:
            told.update(_swap(connection, usecase, attempt, version, checked))

        return Result({}, {"generation": generation}, write)

    spec = Step(
        usecase.name,
        "retrieval.swap",
        "pipeline",
        ("pipeline.retrieval.swapping",),
        params={"generation": generation},
        inputs={"generation": version, "report": report},
        reuse="never",
    )
    outcome = steps.run(settings, origin, spec, work)
    return outcome.as_dict() | told


def _swap(
    connection: Connection, usecase: UseCase, attempt: Attempt, version: Version, checked: Mapping[str, Any]
) -> dict[str, Any]:
    """Decides and swaps in the connection's transaction; what came to nothing is rolled back to before it."""
    for tries in range(1, _TRIES + 1):
        live = deployments.live(connection, usecase.name)
        if live is not None and live.index_version_id == version.version_id:
            return {"swapped": False, "deployment": live.deployment_id, "decision": None}
        try:
            with connection.transaction():
                decision = deployments.decide_index(connection, attempt.run_id)
                if not checked["passed"]:
                    standing = live.deployment_id if live else None
                    return {"swapped": False, "deployment": standing, "decision": decision}
                return {"swapped": True, "deployment": deployments.swap(connection, decision), "decision": decision}
        except Stale:
            if tries == _TRIES:
                raise
            log.info("another deployment of %s went live meanwhile; deciding anew", usecase.name)
    raise AssertionError("unreachable")


def drop_superseded(connection: Connection, use_case: str, kept: int = 2) -> dict[str, list[int]]:
    """Returns {dropped, unfinished, busy}: the numbers of the generations dropped because they are not among the last
    `kept` that were live, those dropped because their build did not end, and those that readers would not let go.

    For maintenance. The live generation and the one before it, for a rollback, stay.
    """
    dropped, busy = [], []
    for row in database.fetch(connection, "retrieval", "superseded_generations", use_case=use_case, kept=kept):
        try:
            database.call(connection, "rag.drop_version", row["generation_id"])
            dropped.append(row["generation_id"])
        except psycopg.errors.LockNotAvailable:
            busy.append(row["generation_id"])
        except Refused as error:
            log.warning("index generation %s was not dropped: %s", row["generation_id"], error.what)
    unfinished: list[int] = []
    row = database.fetch_one(connection, "retrieval", "try_lock_build", use_case=use_case) or {}
    if row.get("held"):
        try:
            unfinished = building.drop_unfinished(connection, use_case)
        finally:
            database.fetch(connection, "retrieval", "unlock_build", use_case=use_case)
    return {"dropped": dropped, "unfinished": unfinished, "busy": busy}


def maintain(settings: Settings) -> dict[str, Any]:
    """Returns what maintenance removed: {generations: {use case: …}, sessions, embeddings}. Embeddings go a week after
    no generation uses them: a document that comes back within days needs no model."""
    with database.connect(settings, "pipeline") as connection:
        names = [row["use_case"] for row in database.fetch(connection, "retrieval", "use_cases")]
        generations = {name: drop_superseded(connection, name) for name in names}
        (sessions,) = database.call(connection, "rag.prune_sessions")
        (embeddings,) = database.call(connection, "rag.prune_cache", "7 days")
    return {
        "generations": generations,
        "sessions": sessions["prune_sessions"],
        "embeddings": embeddings["prune_cache"],
    }
