"""What is live and what lets something go live: decisions and deployments, shared by index swaps and model releases."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from pipeline import database
from pipeline.database import Connection
from pipeline.results import Check


@dataclass(frozen=True)
class Live:
    """The live deployment of a use case: a pair of model and index generation."""

    deployment_id: int
    model_version_id: int | None
    model_digest: str | None
    index_version_id: int | None
    index_digest: str | None


def live(connection: Connection, use_case: str) -> Live | None:
    """Returns what is live for a use case, or None."""
    row = database.fetch_one(connection, "lineage", "live", use_case=use_case)
    if row is None:
        return None
    return Live(
        row["deployment_id"],
        row["model_version_id"],
        row["model_digest"],
        row["index_version_id"],
        row["index_digest"],
    )


def decide_model(connection: Connection, run: UUID, policy: int, replaces: int | None, checks: Sequence[Check]) -> int:
    """Returns the id of the decision that a gate's verdicts come to, recorded in the connection's transaction. What it
    is about is read from the gate's run; `replaces` is the deployment that it compared the candidate with.

    Raises Refused where the verdicts would let something through that the records do not bear out.
    """
    return _value(connection, "release.decide_model", run, policy, replaces, _stored(checks))


def decide_index(connection: Connection, run: UUID) -> int:
    """Returns the id of the decision about the index generation of a swap's run, by the gates that were recorded of it.
    Raises Refused where the run is no swap."""
    return _value(connection, "release.decide_index", run)


def decide_rollback(connection: Connection, to: int, person: str, why: str, checks: Sequence[Check]) -> int:
    """Returns the id of a person's decision to go back to the pair of an earlier deployment. Raises Refused where the
    person is not known, or the pair cannot go live again."""
    return _value(connection, "release.decide_rollback", to, person, why, _stored(checks))


def promote(connection: Connection, decision_id: int) -> int:
    """Returns the id of the deployment that a decision brings about.

    Raises Stale where another deployment went live since the decision was made, BadInput where there is none, and
    Refused where the decision blocked, or has no approval that it needs.
    """
    return _value(connection, "lineage.promote", decision_id)


def swap(connection: Connection, decision_id: int) -> int:
    """Returns the id of the deployment that a decision about an index brings about, after the withdrawals since the
    build were replayed. Raises as `promote` does."""
    return _value(connection, "rag.swap", decision_id)


def _stored(checks: Sequence[Check]) -> Jsonb:
    return Jsonb([check.stored() for check in checks])


def _value(connection: Connection, function: str, *arguments: Any) -> int:
    (row,) = database.call(connection, function, *arguments)
    return int(next(iter(row.values())))
