"""Mixing: how often the rows of each source are trained on, as the use case said it when the version was made."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline import database
from pipeline.database import Connection

_SCALE = 1 << 64


@dataclass(frozen=True)
class Mix:
    """How often rows are trained on: of a weight of 2.5 each row twice, and half of them once more."""

    weights: Mapping[str, float] = field(default_factory=dict)  # by source; where there is none: once
    seed: int = 0

    def times(self, source: str, digest: str) -> int:
        """Returns how often a row of a source is trained on. Which rows come once more depends on their digests and the
        seed alone: rows that come in or go change nothing for the others."""
        weight = self.weights.get(source, 1.0)
        whole = int(weight)
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed}\n{digest}".encode()).digest()[:8]) / _SCALE
        return whole + (drawn < weight - whole)


def weights(connection: Connection, use_case: str, version: int) -> dict[str, float]:
    """Returns the weights of a dataset version's sources that are not 1."""
    rows = database.fetch(connection, "training", "weights", use_case=use_case, version=version)
    return {row["source"]: float(row["weight"]) for row in rows}
