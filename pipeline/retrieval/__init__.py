"""Retrieval: documents become chunks, chunks become an index generation, and a generation that passes its gates goes
live. Callers search it through pipeline.search."""

from pipeline.retrieval.building import build
from pipeline.retrieval.embedding import embed
from pipeline.retrieval.gates import check
from pipeline.retrieval.planning import plan
from pipeline.retrieval.swapping import maintain, swap
from pipeline.retrieval.syncing import status, sync

__all__ = ["build", "check", "embed", "maintain", "plan", "status", "swap", "sync"]
