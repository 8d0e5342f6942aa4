"""What is live and what lets something go live: decisions and deployments, shared by index swaps and model releases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import BadInput
from pipeline.settings import Settings


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


def is_champion(settings: Settings, use_case: str, digest: str) -> bool:
    """Returns whether the live model of a use case has this digest."""
    with database.connect(settings, "pipeline") as connection:
        found = live(connection, use_case)
    return found is not None and found.model_digest == digest


@dataclass(frozen=True)
class Decision:
    """A decision to be recorded: what it is about, what it replaces, what it rests on."""

    use_case: str
    kind: str  # model, index or rollback
    model_version_id: int | None
    index_version_id: int | None
    replaces: int | None  # the deployment that was live when it was made
    outcome: str  # approve, approve_with_conditions or block
    checks: Sequence[Mapping[str, Any]]
    evidence: Mapping[str, str]  # name to digest
    needs_person: bool
    requested_by: str
    policy_id: int | None = None
    run_id: UUID | None = None


def decide(connection: Connection, decision: Decision) -> int:
    """Returns the id of the decision, recorded in the connection's transaction."""
    row = database.fetch_one(
        connection,
        "lineage",
        "insert_decision",
        use_case=decision.use_case,
        kind=decision.kind,
        policy_id=decision.policy_id,
        run_id=None if decision.run_id is None else str(decision.run_id),
        model_version_id=decision.model_version_id,
        index_version_id=decision.index_version_id,
        replaces=decision.replaces,
        outcome=decision.outcome,
        checks=Jsonb(list(decision.checks)),
        evidence=Jsonb(dict(decision.evidence)),
        needs_person=decision.needs_person,
        requested_by=decision.requested_by,
    )
    assert row is not None
    return int(row["decision_id"])


def promote(connection: Connection, decision_id: int, by: str, why: str) -> int:
    """Returns the id of the deployment that a decision brings about.

    Raises Stale where another deployment went live since the decision was made, and Refused where the decision blocked,
    or has no approval that it needs.
    """
    row = database.fetch_one(connection, "lineage", "promote_decision", decision_id=decision_id, by=by, why=why)
    if row is None:
        raise BadInput("there is no such decision", found=decision_id)
    return int(row["deployment_id"])
