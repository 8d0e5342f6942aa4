"""Retrieval: documents become chunks, chunks become an index generation, and a generation that passes its gates goes
live. Callers search it through pipeline.search."""

from pipeline.retrieval.building import build
from pipeline.retrieval.embedding import embed
from pipeline.retrieval.gates import check
from pipeline.retrieval.planning import plan
from pipeline.retrieval.pruning import maintain
from pipeline.retrieval.records import Built, Gated, Planned, Swapped, Synced
from pipeline.retrieval.swapping import swap
from pipeline.retrieval.syncing import status, sync

__all__ = [
    "Built",
    "Gated",
    "Planned",
    "Swapped",
    "Synced",
    "build",
    "check",
    "embed",
    "maintain",
    "plan",
    "status",
    "swap",
    "sync",
]
