"""What is live: promotion, rollback, and whether a candidate is the champion already."""

from typing import Any

from pipeline import database, deployments
from pipeline.artifacts import ArtifactStore
from pipeline.database import Connection
from pipeline.errors import BadInput, Refused
from pipeline.settings import Settings
from pipeline.usecase import UseCase


def unchanged(settings: Settings, usecase: UseCase, candidate: dict[str, Any]) -> dict[str, Any]:
    """Returns {"unchanged", "candidate", "champion"}: whether the candidate's weights are the live model's, by
    digest."""
    with database.connect(settings, "pipeline") as connection:
        live = deployments.live(connection, usecase.name)
    champion = None if live is None else live.model_digest
    return {
        "unchanged": champion == candidate["digest"],
        "candidate": candidate["digest"],
        "champion": champion,
    }


def promote(settings: Settings, decision_id: int) -> dict[str, Any]:
    """Returns {"deployment_id", "decision_id", "use_case", "replaces", "model", "index", "already"} of the deployment
    that a decision brings about: the pair of model and index that it was about, let through by who approved it. A
    decision is promoted once; asked again, the deployment from then is returned, with `already` true.

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
    return {
        "deployment_id": deployment,
        "decision_id": decision_id,
        "use_case": decision["use_case"],
        "replaces": decision["replaces"],
        "model": decision["model_digest"],
        "index": decision["index_digest"],
        "already": already,
    }


def rollback(
    settings: Settings, usecase: UseCase, to: int | None, person: str, why: str, *, to_nothing: bool = False
) -> dict[str, Any]:
    """Returns what `promote` returns, after making the pair of an earlier deployment live again; where a second person
    has to agree first, {"decision_id", "use_case", "waits"} of the decision that waits for an approval.

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
            standing = [*standing, {"name": "registry.to_nothing", "verdict": "pass", "reason": "it was asked for"}]
        with connection.transaction():
            if target["generation_id"] is not None:
                database.call(connection, "rag.replay", target["generation_id"])
            decision = deployments.decide_rollback(connection, to, person, why, standing)
        asks = _decision(connection, decision)["needs_person"]
    if asks:
        return {"decision_id": decision, "use_case": usecase.name, "waits": "for a second person's approval"}
    return promote(settings, decision)


def _earlier(settings: Settings, usecase: UseCase) -> list[str]:
    """Returns the earlier pairs that a rollback may name, newest first."""
    return [
        f"{row['deployment_id']}: model {(row['model'] or 'none')[:12]}, index {(row['index'] or 'none')[:12]}"
        for row in history(settings, usecase)
        if row["to"] is not None
    ][:10]


def history(settings: Settings, usecase: UseCase) -> list[dict[str, Any]]:
    """Returns what was live, newest first: {"deployment_id", "model", "index", "decision_id", "by", "why", "from",
    "to"}."""
    with database.connect(settings, "approver") as connection:
        rows = database.fetch(connection, "release", "history", use_case=usecase.name)
    return [
        {
            "deployment_id": row["deployment_id"],
            "model": row["model_digest"],
            "index": row["index_digest"],
            "decision_id": row["decision_id"],
            "by": row["promoted_by"],
            "why": row["why"],
            "from": row["valid_from"].isoformat(),
            "to": None if row["valid_to"] is None else row["valid_to"].isoformat(),
        }
        for row in rows
    ]


def _standing(settings: Settings, target: dict[str, Any], where: str) -> list[dict[str, Any]]:
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
            "the pair of model and index does not stand any more",
            where=where,
            found="; ".join(problems),
            next_step="restore it from a backup, choose another deployment, or run the night again",
        )
    return [
        {"name": "registry.model", "verdict": "pass", "reason": "the model stands and hashes as recorded"},
        {"name": "registry.index", "verdict": "pass", "reason": "the index generation stands"},
    ]


def _decision(connection: Connection, decision_id: int) -> dict[str, Any]:
    row = database.fetch_one(connection, "release", "decision", decision_id=decision_id)
    if row is None:
        raise BadInput("there is no such decision", found=decision_id)
    return row
