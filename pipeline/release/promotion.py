"""What is live: promotion, rollback, and whether a candidate is the champion already."""

from collections.abc import Mapping
from typing import Any

from pipeline import database, deployments
from pipeline.artifacts import ArtifactStore
from pipeline.database import Connection
from pipeline.errors import BadInput, Refused
from pipeline.release.records import Earlier, Promoted, RollbackWaits, Unchanged
from pipeline.results import Check
from pipeline.settings import Settings
from pipeline.steps import Version
from pipeline.usecase import UseCase


def unchanged(settings: Settings, usecase: UseCase, candidate: Version) -> Unchanged:
    """Returns whether the candidate's weights are the live model's, by digest."""
    with database.connect(settings, "pipeline") as connection:
        live = deployments.live(connection, usecase.name)
    champion = None if live is None else live.model_digest
    return Unchanged(champion == candidate.digest, candidate.digest, champion)


def promote(settings: Settings, decision_id: int) -> Promoted:
    """Returns the deployment that a decision brings about: the pair of model and index that it was about, let through
    by who approved it. A decision is promoted once; asked again, the deployment from then is returned, with `already`
    true.

    Raises Stale where another deployment went live since the decision was made, Refused where the gate blocked it, a
    person's approval is missing, or the model or the index is not there any more, BadInput where there is no such
    decision.
    """
    with database.connect(settings, "approver") as connection:
        decision = _decision(connection, decision_id)
        already = decision["deployment_id"] is not None
        if not already and decision["outcome"] != "block":
            _standing(settings, decision, f"decision {decision_id}")
        deployment = decision["deployment_id"] if already else deployments.promote(connection, decision_id)
    return Promoted(
        deployment,
        decision_id,
        decision["use_case"],
        decision["replaces"],
        decision["model_digest"],
        decision["index_digest"],
        already,
    )


def rollback(
    settings: Settings, usecase: UseCase, to: int | None, person: str, why: str, *, to_nothing: bool = False
) -> Promoted | RollbackWaits:
    """Returns what `promote` returns, after making the pair of an earlier deployment live again; or the decision that
    waits for an approval, where a second person has to agree first.

    One person alone goes back to the pair before the live one. Further back or to nothing asks a second one where the
    policy in force asks a person, and a model that a rollback took out asks one in every tier.

    The earlier pair went through its gate when it was first promoted; the rollback is a decision of its own, in the
    person's name. Documents that were withdrawn meanwhile stay withdrawn: chunks carry that in every generation.

    Raises BadInput, listing the earlier pairs, for none or a deployment that is none of this use case; Refused where
    it is live, or its model or index does not stand any more, or it has no model and `to_nothing` is not said; Stale
    where another deployment goes live at the same time.
    """
    if to is None:
        raise BadInput(
            "a rollback names the earlier deployment", where=usecase.name, allowed=_earlier(settings, usecase) or "none"
        )
    if not person or not why.strip():
        raise BadInput("a rollback is somebody's, for a reason", found=f"by {person!r}, why {why!r}")
    with database.connect(settings, "approver") as connection:
        target = database.fetch_one(connection, "release", "deployment", deployment_id=to)
        if target is None or target["use_case"] != usecase.name:
            raise BadInput(f"this is no deployment of {usecase.name}", found=to, allowed=_earlier(settings, usecase))
        live = deployments.live(connection, usecase.name)
        pair = (target["model_version_id"], target["index_version_id"])
        if live is None or (live.model_version_id, live.index_version_id) == pair:
            raise Refused("this pair of model and index is live already", where=f"deployment {to}")
        standing = _standing(settings, target, f"deployment {to}")
        if target["model_version_id"] is None:
            if not to_nothing:
                raise Refused(
                    "this pair has no model: nothing would answer",
                    where=f"deployment {to}",
                    allowed=_earlier(settings, usecase),
                    next_step="choose a pair with a model, or say --to-nothing",
                )
            standing = [*standing, Check("registry.to_nothing", "pass", "it was asked for")]
        with connection.transaction():
            if target["generation_id"] is not None:
                database.call(connection, "rag.replay", target["generation_id"])
            decision = deployments.decide_rollback(connection, to, person, why, standing)
        asks = _decision(connection, decision)["needs_person"]
    if asks:
        return RollbackWaits(decision, usecase.name, "for a second person's approval")
    return promote(settings, decision)


def _earlier(settings: Settings, usecase: UseCase) -> list[str]:
    """Returns the earlier pairs that a rollback may name, newest first."""
    return [
        f"{pair.deployment_id}: model {(pair.model or 'none')[:12]}, index {(pair.index or 'none')[:12]}"
        for pair in history(settings, usecase)
        if pair.until is not None
    ][:10]


def history(settings: Settings, usecase: UseCase) -> list[Earlier]:
    """Returns what was live, newest first."""
    with database.connect(settings, "approver") as connection:
        rows = database.fetch(connection, "release", "history", use_case=usecase.name)
    return [
        Earlier(
            row["deployment_id"],
            row["model_digest"],
            row["index_digest"],
            row["decision_id"],
            row["promoted_by"],
            row["why"],
            row["valid_from"].isoformat(),
            None if row["valid_to"] is None else row["valid_to"].isoformat(),
        )
        for row in rows
    ]


def _standing(settings: Settings, target: Mapping[str, Any], where: str) -> list[Check]:
    """Returns the checks that a pair can serve: its content is there. Raises Refused where it is not."""
    problems = []
    if target["model_purged_at"] is not None:
        problems.append(f"the model was purged on {target['model_purged_at']:%Y-%m-%d}")
    elif target["model_uri"] is not None:
        problems += ArtifactStore(settings.artifacts).verify(target["model_kind"], target["model_digest"])
    if target["index_version_id"] is not None and target["generation_id"] is None:
        problems.append("its index generation was dropped")
    if problems:
        raise Refused(
            "the pair of model and index no longer exists",
            where=where,
            found="; ".join(problems),
            next_step="restore it from a backup, choose another deployment, or run the night again",
        )
    return [
        Check("registry.model", "pass", "the model exists and its hash matches"),
        Check("registry.index", "pass", "the index generation exists"),
    ]


def _decision(connection: Connection, decision_id: int) -> dict[str, Any]:
    row = database.fetch_one(connection, "release", "decision", decision_id=decision_id)
    if row is None:
        raise BadInput("there is no such decision", found=decision_id)
    return row
