"""The whole chain for the command line, and what stands."""

from typing import Any

from pipeline import database
from pipeline.context import Context
from pipeline.records import plain
from pipeline.retrieval.building import build
from pipeline.retrieval.embedding import embed
from pipeline.retrieval.gates import check
from pipeline.retrieval.planning import plan
from pipeline.retrieval.records import Synced, SyncedChunks
from pipeline.retrieval.swapping import swap
from pipeline.settings import Settings
from pipeline.usecase import UseCase


def sync(context: Context, *, accept_loss: str | None = None) -> Synced:
    """Returns the index brought up to the newest corpus. Raises NotAvailable where no corpus was committed."""
    with database.connect(context.settings, "pipeline") as connection:
        # A second one waits, and then has nothing to do: it would embed everything once more.
        database.fetch(connection, "retrieval", "lock_sync", use_case=context.usecase.name)
        return _sync(context, accept_loss)


def _sync(context: Context, accept_loss: str | None) -> Synced:
    planned = plan(context)
    reused, deleted = planned.chunks.reused, planned.chunks.deleted
    if planned.unchanged:
        chunks = SyncedChunks(0, reused, deleted)
        return Synced(planned.generation_id, True, planned.documents, chunks, None, passed=True, swapped=False)
    embedded = sum(embed(context, planned, batch).embedded for batch in range(planned.batches))
    built = build(context, planned)
    checked = check(context, built, accept_loss=accept_loss)
    swapped = swap(context, built, checked)
    return Synced(
        built.generation,
        False,
        planned.documents,
        SyncedChunks(embedded, reused, deleted),
        checked.gates,
        checked.passed,
        swapped.swapped,
    )


def status(settings: Settings, usecase: UseCase) -> dict[str, Any]:
    """Returns {live, generations}: the live generation, or None, and all that stand, the newest first."""
    with database.connect(settings, "reader") as connection:
        rows = database.fetch(connection, "retrieval", "status", use_case=usecase.name)
    generations = [plain(row) for row in rows]
    live = next((entry for entry in generations if entry["deployment_id"] is not None), None)
    return {"live": live, "generations": generations}
