"""What the gate rests on, and the checks that it is sound: the policy, the cases, the index, the model's past."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline import database, deployments
from pipeline.artifacts import ArtifactStore
from pipeline.database import Connection
from pipeline.deployments import Live
from pipeline.errors import BadInput, Stale
from pipeline.release import policy as policies
from pipeline.release.policy import Policy
from pipeline.release.thresholds import Check
from pipeline.settings import Settings
from pipeline.steps import Version
from pipeline.usecase import UseCase


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at."""

    policy: Policy
    candidate: Version
    live: Live | None
    evaluations: Mapping[str, Version]  # by subject
    contents: Mapping[str, dict[str, Any]]  # of the evaluations' artifacts
    trained_at: datetime | None  # when these weights were first made
    trained_again_at: datetime | None
    policy_at_training: int | None  # the policy in force when the training first began
    rolled_back_at: datetime | None  # when they were last taken out of production

    @property
    def baseline(self) -> str:
        """Returns what the candidate is compared with: the champion, or before the first release the base model."""
        return "base" if self.live is None or self.live.model_version_id is None else "champion"


def gather(
    connection: Connection,
    settings: Settings,
    usecase: UseCase,
    sealed: dict[str, Any],
    candidate: Version,
    versions: Mapping[str, Version],
) -> Evidence:
    """Returns the evidence on a candidate, its evaluations verified against their digests. Raises as `gate` does."""
    policy = policies.read(connection, usecase.name, int(sealed["policy_id"]))
    live = deployments.live(connection, usecase.name)
    trained = database.fetch_one(connection, "release", "trained", use_case=usecase.name, digest=candidate.digest)
    back = database.fetch_one(connection, "release", "rolled_back", use_case=usecase.name, digest=candidate.digest)
    assert trained is not None
    store = ArtifactStore(settings.artifacts)
    contents = {
        subject: json.loads(store.read(version.kind, version.digest, "evaluation.json"))
        for subject, version in versions.items()
    }
    evidence = Evidence(
        policy,
        candidate,
        live,
        versions,
        contents,
        trained["first_at"],
        trained["last_at"],
        trained["policy_id"],
        None if back is None else back["at"],
    )
    _demand(evidence)
    return evidence


def _demand(evidence: Evidence) -> None:
    """Refuses evaluations that are not of the models in question, or cannot be compared."""
    for subject in ("candidate", evidence.baseline):
        if subject not in evidence.contents:
            raise BadInput("an evaluation is missing", found=", ".join(evidence.contents), allowed=subject)
    candidate, baseline = evidence.contents["candidate"], evidence.contents[evidence.baseline]
    if candidate["inputs"].get("adapter") != evidence.candidate.digest:
        raise BadInput(
            "the evaluation is of another model than the candidate", found=candidate["inputs"].get("adapter")
        )
    wanted = evidence.live.model_digest if evidence.live is not None else None
    if baseline["inputs"].get("adapter") != wanted:
        raise Stale(
            "another model went live since the champion was evaluated",
            found=wanted,
            next_step="evaluate the champion again, then run the gate",
        )
    for part in ("settings", "index", "dataset"):
        new, old = (each.get(part) or each["inputs"].get(part) for each in (candidate, baseline))
        if new != old:
            raise BadInput(
                "candidate and baseline were not evaluated alike",
                where=part,
                next_step="evaluate both with the same suites, index and settings",
            )


def sound(evidence: Evidence) -> list[Check]:
    """Returns the checks on the evidence itself, before any score is looked at."""
    return [_sealed(evidence), _same_suites(evidence), _same_index(evidence), *_not_rolled_back(evidence)]


def _sealed(evidence: Evidence) -> Check:
    """Returns the check that the thresholds were not chosen for this candidate.

    Weights that existed before the policy was sealed may have been evaluated before, too: nothing can prove then that
    the thresholds were set without knowing the results, so a person has to accept it. Training again does not help: the
    first run that made these weights counts.
    """
    policy, trained = evidence.policy, evidence.trained_at
    told = {
        "name": "policy.sealed",
        "sealed_at": policy.sealed_at.isoformat(),
        "sealed_again_at": policy.sealed_again_at.isoformat(),
        "trained_at": None if trained is None else trained.isoformat(),
        "trained_again_at": None if evidence.trained_again_at is None else evidence.trained_again_at.isoformat(),
    }
    if not policy.in_force:
        return {**told, "verdict": "fail", "reason": "another policy was sealed after this one"}
    if trained is None:
        return {**told, "verdict": "fail", "reason": "no run is known that made this model"}
    if evidence.policy_at_training == policy.policy_id:
        return {**told, "verdict": "pass", "reason": "in force since before this model was first trained"}
    reason = (
        "these thresholds were not in force when the training of this model began; they were sealed before this gate"
    )
    return {**told, "verdict": "condition", "reason": reason}


def _same_suites(evidence: Evidence) -> Check:
    """Returns the check that the cases and the way of answering are those that were sealed."""
    policy, settings = evidence.policy.content, evidence.contents["candidate"]["settings"]
    measured = {suite["name"]: (suite["file"], suite["limit"]) for suite in settings["suites"]}
    other = [
        suite["name"] for suite in policy["suites"] if measured.get(suite["name"]) != (suite["file"], suite["limit"])
    ]
    answers = {"max_new_tokens": settings["generation"]["max_new_tokens"], "k": settings["retrieval"]["k"]}
    if answers != policy["answers"]:
        other.append("answers")
    reason = f"not as sealed: {', '.join(other)}" if other else "suites and settings are those that were sealed"
    return {"name": "evidence.suites", "verdict": "fail" if other else "pass", "reason": reason}


def _same_index(evidence: Evidence) -> Check:
    """Returns the check that the pair which would go live is the pair that was evaluated."""
    used = evidence.contents["candidate"]["inputs"].get("index")
    now = evidence.live.index_digest if evidence.live is not None else None
    told = {"name": "evidence.index", "index": used, "live_index": now}
    if used is None:
        return {**told, "verdict": "pass", "reason": "evaluated without retrieval"}
    if used == now:
        return {**told, "verdict": "pass", "reason": "evaluated against the index that is live"}
    return {**told, "verdict": "inconclusive", "reason": "another index went live since the evaluation"}


def _not_rolled_back(evidence: Evidence) -> list[Check]:
    if evidence.rolled_back_at is None:
        return []
    reason = "this model was live before, and a person took it back"
    at = evidence.rolled_back_at.isoformat()
    return [{"name": "registry.rolled_back", "rolled_back_at": at, "verdict": "condition", "reason": reason}]
