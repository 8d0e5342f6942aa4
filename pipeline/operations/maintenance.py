"""The daily round over the records themselves: lost attempts, the audit trail and its anchors, the artifacts."""

import logging
import re
import shutil
from dataclasses import dataclass
from datetime import timedelta

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


@dataclass(frozen=True)
class Swept:
    """What attempts and sessions left behind."""

    lost: int  # runs whose attempts gave no sign of life for ten minutes: marked so
    scratch: int  # folders of ended attempts on this machine: removed
    idle: int  # sessions that had stood idle in a transaction for an hour: ended


@dataclass(frozen=True)
class Anchored:
    """The audit chain, sealed and anchored. Without any event the block is None."""

    sealed: int  # events sealed now
    block: int | None
    hash: str | None
    anchored_at: str | None
    anchors: str  # the file
    warning: str | None  # what is weak about its place


@dataclass(frozen=True)
class VerifiedArtifacts:
    """The artifacts that hash to their digests."""

    verified: int
    elsewhere: int  # of them in another store than this installation's: the one that they were recorded in


def sweep_lost(settings: Settings) -> Swept:
    """Returns what was swept up."""
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
    return Swept(row["sweep_lost"], len(ended), idle["end_idle"])


def seal_and_verify(settings: Settings) -> Anchored:
    """Returns the chain's head, which now stands in the anchors' file outside the database too.

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
        head = anchors.anchor(settings, connection)
    weak = anchors.warning(settings)
    if weak:
        log.warning(weak)
    place = str(anchors.path(settings))
    if head is None:
        return Anchored(sealed, None, None, None, place, weak)
    return Anchored(sealed, head.block_no, head.hash, head.at, place, weak)


def verify_artifacts(settings: Settings) -> VerifiedArtifacts:
    """Returns how many artifacts hash to their digests.

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
    return VerifiedArtifacts(len(standing), elsewhere)
