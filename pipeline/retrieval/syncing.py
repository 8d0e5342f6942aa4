"""The whole chain for the command line, and what stands."""

from collections.abc import Mapping
from typing import Any

from pipeline import database
from pipeline.retrieval.building import build
from pipeline.retrieval.embedding import embed
from pipeline.retrieval.gates import check
from pipeline.retrieval.planning import plan
from pipeline.retrieval.swapping import swap
from pipeline.settings import Settings
from pipeline.steps import Origin, Reuse
from pipeline.usecase import UseCase


def sync(
    settings: Settings, usecase: UseCase, origin: Origin, *, accept_loss: str | None = None, reuse: Reuse = "auto"
) -> dict[str, Any]:
    """Returns {generation, unchanged, documents: {added, changed, removed, unchanged}, chunks: {embedded, reused,
    deleted}, gates, passed, swapped}: the index brought up to the newest corpus. `gates` is None where nothing changed.

    Raises NotAvailable where no corpus was committed.
    """
    with database.connect(settings, "pipeline") as connection:
        # A second one waits, and then has nothing to do: it would embed everything once more.
        database.fetch(connection, "retrieval", "lock_sync", use_case=usecase.name)
        return _sync(settings, usecase, origin, accept_loss, reuse)


def _sync(
    settings: Settings, usecase: UseCase, origin: Origin, accept_loss: str | None, reuse: Reuse
) -> dict[str, Any]:
    planned = plan(settings, usecase, origin, reuse=reuse)
    chunks = planned["chunks"]
    told: dict[str, Any] = {
        "generation": planned["generation_id"],
        "unchanged": planned["unchanged"],
        "documents": planned["documents"],
        "chunks": {"embedded": 0, "reused": chunks["reused"], "deleted": chunks["deleted"]},
        "gates": None,
        "passed": True,
        "swapped": False,
    }
    if planned["unchanged"]:
        return told
    embedded = sum(
        embed(settings, usecase, origin, planned, batch, reuse=reuse)["embedded"] for batch in range(planned["batches"])
    )
    built = build(settings, usecase, origin, planned, reuse=reuse)
    checked = check(settings, usecase, origin, built, accept_loss=accept_loss, reuse=reuse)
    swapped = swap(settings, usecase, origin, built, checked, reuse=reuse)
    told["chunks"]["embedded"] = embedded
    return told | {
        "generation": built["generation"],
        "gates": checked["gates"],
        "passed": checked["passed"],
        "swapped": swapped["swapped"],
    }


def status(settings: Settings, usecase: UseCase) -> dict[str, Any]:
    """Returns {live, generations}: the live generation, or None, and all that stand, the newest first."""
    with database.connect(settings, "reader") as connection:
        rows = database.fetch(connection, "retrieval", "status", use_case=usecase.name)
    generations = [_plain(row) for row in rows]
    live = next((entry for entry in generations if entry["deployment_id"] is not None), None)
    return {"live": live, "generations": generations}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
