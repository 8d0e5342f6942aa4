"""The daily round over the records themselves: lost attempts, the audit trail and its anchors, the artifacts."""

import logging
import re
import shutil
from datetime import timedelta
from typing import Any

from pipeline import anchors, database
from pipeline.artifacts import ArtifactStore, store_of
from pipeline.errors import Refused
from pipeline.settings import Settings
from pipeline.steps import HEARTBEAT_SECONDS

log = logging.getLogger(__name__)

# An attempt beats every HEARTBEAT_SECONDS; so many beats missed in a row, and nobody is at work on it.
_SILENCE = timedelta(seconds=30 * HEARTBEAT_SECONDS)
_IDLE = timedelta(hours=1)
_ATTEMPT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.\d+")


def sweep_lost(settings: Settings) -> dict[str, Any]:
    """Returns {"lost", "scratch", "idle"}: how many runs were marked as lost, because their attempts gave no sign of
    life for ten minutes, how many scratch folders of ended attempts were removed on this machine, and how many sessions
    were ended that had stood idle in a transaction for an hour."""
    with database.connect(settings, "pipeline") as connection:
        # Before the query: a folder that is made later belongs to an attempt which the query may not show.
        folders = list(settings.scratch.iterdir()) if settings.scratch.is_dir() else []
        (row,) = database.call(connection, "lineage.sweep_lost", _SILENCE)
        (idle,) = database.call(connection, "rag.end_idle", _IDLE)
        running = database.fetch(connection, "maintenance", "running_attempts")
    used = {f"{attempt['run_id']}.{attempt['fence']}" for attempt in running}
    # Attempts alone: a training process keeps a folder of its own here, and removes it itself.
    ended = [folder for folder in folders if _ATTEMPT.fullmatch(folder.name) and folder.name not in used]
    for folder in ended:
        shutil.rmtree(folder, ignore_errors=True)
    return {"lost": row["sweep_lost"], "scratch": len(ended), "idle": idle["end_idle"]}


def seal_and_verify(settings: Settings) -> dict[str, Any]:
    """Returns {"sealed", "block", "hash", "anchored_at", "anchors", "warning"}: how many events were sealed now, and
    the chain's head, which now stands in the anchors' file outside the database too. Without any event these three are
    None. `warning` says what is weak about the place of the anchors, or is None.

    Raises Refused that names the blocks which do not hash as they were sealed, or are not those that were anchored,
    and the rows that were changed behind the trail's back; nothing is sealed or anchored over damage.
    """
    sealed = 0
    with database.connect(settings, "auditor") as connection:
        problems = anchors.verify(settings, connection)
        if problems:
            raise Refused(
                "the records were changed behind the audit trail's back, or the trail after it was sealed",
                where=anchors.path(settings),
                found="; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" if len(problems) > 10 else ""),
                next_step="treat it as an incident: the anchored heads and the server's log say since when",
            )
        while rows := database.call(connection, "audit.seal"):
            sealed += rows[0]["events"]
        head = anchors.anchor(settings, connection) or {}
    weak = anchors.warning(settings)
    if weak:
        log.warning(weak)
    return {
        "sealed": sealed,
        "block": head.get("block_no"),
        "hash": head.get("hash"),
        "anchored_at": head.get("at"),
        "anchors": str(anchors.path(settings)),
        "warning": weak,
    }


def verify_artifacts(settings: Settings) -> dict[str, Any]:
    """Returns {"verified", "elsewhere"}: how many artifacts hash to their digests, and how many of them stand in
    another store than this installation's: the one that they were recorded in.

    Raises Refused that names those which are missing, do not hash as recorded, or stand although they were purged;
    NotAvailable where a store that should hold some is not there.
    """
    store = ArtifactStore(settings.artifacts)
    store.relocate()
    with database.connect(settings, "auditor") as connection:
        standing = database.fetch(connection, "maintenance", "standing_artifacts")
        purged = database.fetch(connection, "maintenance", "purged_artifacts")
    problems = []
    elsewhere = 0
    for row in standing:
        holder, moved = store, not store.exists(row["kind"], row["digest"])
        if moved:
            recorded = store_of(row["uri"], row["kind"], row["digest"])
            holder = ArtifactStore(recorded) if recorded != store.url else store
            elsewhere += holder is not store
        problems += [
            f"{row['kind']} {row['digest'][:12]}: {problem}" + ("" if holder is store else f" in {holder.url}")
            for problem in holder.verify(row["kind"], row["digest"])
        ]
    problems += [
        f"{row['kind']} {row['digest'][:12]}: it was purged and is still there"
        for row in purged
        if store.exists(row["kind"], row["digest"])
    ]
    if problems:
        raise Refused(
            f"{len(problems)} artifacts are not what the lineage says",
            where=store.url,
            found="; ".join(problems[:10]),
            next_step="restore them, or run the steps that make them again with reuse: never",
        )
    return {"verified": len(standing), "elsewhere": elsewhere}
