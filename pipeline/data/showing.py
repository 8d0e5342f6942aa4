"""One row of the training data as a person reads it; who read it is written down first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline import database
from pipeline.errors import BadInput, Refused
from pipeline.settings import Settings
from pipeline.usecase import UseCase

_FEWEST = 6  # digits of a digest that name a row


@dataclass(frozen=True)
class Shown:
    """A training row with its text."""

    digest: str
    kind: str
    source: str
    split: str
    documents: Sequence[str]
    content: Mapping[str, Sequence[Mapping[str, str]]]


def show(settings: Settings, usecase: UseCase, begins: str, reader: str) -> Shown:
    """Returns the row of a use case whose digest begins so.

    Raises BadInput where there is none, or more than one; Refused for a row of the locked test split, which nobody
    reads who may choose what is trained on, and for one that was erased.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{_FEWEST},64}}", begins):
        raise BadInput(
            "this is no digest of a row", found=begins, allowed=f"its first {_FEWEST} hexadecimal digits or more"
        )
    with database.connect(settings, "pipeline") as connection:
        rows = database.fetch(connection, "data", "example", use_case=usecase.name, begins=begins)
        if len(rows) != 1:
            raise BadInput(
                f"{usecase.name} has no such row" if not rows else "several rows begin so",
                found=begins,
                next_step=f"`nightshift data diff {usecase.name} 0 VERSION` lists the digests of a version",
            )
        (row,) = rows
        if row["split"] == "test":
            raise Refused("this row is in the locked test split", found=row["digest"][:12])
        if row["content"] is None:
            raise Refused("this row was erased", found=row["digest"][:12])
        which = {"use_case": usecase.name, "digest": row["digest"], "reader": reader}
        database.execute(connection, "data", "insert_reading", **which)
    return Shown(**row)
