"""The daily round over the records themselves: lost attempts, and the audit trail."""

from datetime import timedelta
from typing import Any

from pipeline import database
from pipeline.errors import Refused
from pipeline.lineage import HEARTBEAT_SECONDS
from pipeline.settings import Settings

# An attempt beats every HEARTBEAT_SECONDS; so many beats missed in a row, and nobody is at work on it.
_SILENCE = timedelta(seconds=30 * HEARTBEAT_SECONDS)


def sweep_lost(settings: Settings) -> dict[str, Any]:
    """Returns how many runs were marked as lost: their attempts gave no sign of life for ten minutes."""
    with database.connect(settings, "pipeline") as connection:
        (row,) = database.call(connection, "lineage.sweep_lost", _SILENCE)
    return {"lost": row["sweep_lost"]}


def seal_and_verify(settings: Settings) -> dict[str, Any]:
    """Returns the newest block of the audit chain and how many events were sealed now.

    Raises Refused that names the blocks which do not hash as they were sealed.
    """
    sealed = 0
    block: dict[str, Any] = {}
    with database.connect(settings, "auditor") as connection:
        damaged = database.call(connection, "audit.verify")
        if damaged:
            raise Refused(
                "the audit trail was changed after it was sealed",
                where=", ".join(f"block {row['block_no']}" for row in damaged[:10]),
                found="; ".join(sorted({row["problem"] for row in damaged})),
                next_step="treat it as an incident: the anchored heads and the server's log say since when",
            )
        while rows := database.call(connection, "audit.seal"):
            block = {"block": rows[0]["block_no"], "hash": rows[0]["hash"]}
            sealed += rows[0]["events"]
    return {"sealed": sealed, **block}
