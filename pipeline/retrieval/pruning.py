"""What no search needs any more: superseded index generations, ended sessions, embeddings without a chunk."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import Refused
from pipeline.retrieval import building
from pipeline.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dropped:
    """Index generations by number."""

    dropped: Sequence[int]  # not among the last that were live
    unfinished: Sequence[int]  # their build did not end
    busy: Sequence[int]  # readers would not let them go


@dataclass(frozen=True)
class Pruned:
    """What maintenance removed."""

    generations: Mapping[str, Dropped]  # by use case
    sessions: int
    embeddings: int


def drop_superseded(connection: Connection, use_case: str, kept: int = 2) -> Dropped:
    """Returns the generations that are not needed any more. The last `kept` that were live stay: the live one, and the
    one before it for a rollback."""
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
    return Dropped(dropped, unfinished, busy)


def maintain(settings: Settings) -> Pruned:
    """Returns what maintenance removed. Embeddings go that are older than a week and that no generation uses."""
    with database.connect(settings, "pipeline") as connection:
        names = [row["use_case"] for row in database.fetch(connection, "retrieval", "use_cases")]
        generations = {name: drop_superseded(connection, name) for name in names}
        (sessions,) = database.call(connection, "rag.prune_sessions")
        (embeddings,) = database.call(connection, "rag.prune_cache", "7 days")
    return Pruned(generations, sessions["prune_sessions"], embeddings["prune_cache"])
