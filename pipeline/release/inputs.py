"""What the gate rests on, and the checks that it is sound: the policy, the cases, the index, the model's past."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline import database, deployments, statistics
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.deployments import Live
from pipeline.errors import BadInput, Stale
from pipeline.records import plain, read
from pipeline.release import policy as policies
from pipeline.release import thresholds
from pipeline.release.policy import Policy
from pipeline.release.records import Sealed, SealedAnswers
from pipeline.results import FILE, Check, Evaluation, Measured, Subject, Verdict
from pipeline.steps import Version


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at."""

    policy: Policy
    candidate: Version
    live: Live | None
    evaluations: Mapping[Subject, Version]
    contents: Mapping[Subject, Evaluation]
    trained_at: datetime | None  # when these weights were first made
    trained_again_at: datetime | None
    policy_at_training: int | None  # the policy in force when the training first began
    rolled_back_at: datetime | None  # when they were last taken out of production
    readers: Sequence[
        Mapping[str, Any]
    ] = ()  # of a sample of the rows that it was trained on: review, version, read, good

    @property
    def baseline(self) -> Subject:
        """Returns what the candidate is compared with: the champion, or before the first release the base model."""
        return "base" if self.live is None or self.live.model_version_id is None else "champion"


def gather(
    connection: Connection, context: Context, sealed: Sealed, candidate: Version, versions: Mapping[Subject, Version]
) -> Evidence:
    """Returns the evidence on a candidate, its evaluations verified against their digests. Raises as `gate` does."""
    name = context.usecase.name
    policy = policies.read(connection, name, sealed.policy_id)
    live = deployments.live(connection, name)
    trained = database.fetch_one(connection, "release", "trained", use_case=name, digest=candidate.digest)
    back = database.fetch_one(connection, "release", "rolled_back", use_case=name, digest=candidate.digest)
    assert trained is not None
    readers = database.fetch(connection, "release", "readers", model=candidate.version_id)
    store = ArtifactStore(context.settings.artifacts)
    contents = {
        subject: read(Evaluation, store.read(version.kind, version.digest, FILE), f"evaluation {version.digest[:12]}")
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
        readers,
    )
    _require(evidence)
    return evidence


def _require(evidence: Evidence) -> None:
    """Refuses evaluations that are not of the models in question, or cannot be compared."""
    needed: tuple[Subject, ...] = ("candidate", evidence.baseline)
    for subject in needed:
        if subject not in evidence.contents:
            raise BadInput("an evaluation is missing", found=", ".join(evidence.contents), allowed=subject)
    candidate, baseline = evidence.contents["candidate"], evidence.contents[evidence.baseline]
    if candidate.inputs.get("adapter") != evidence.candidate.digest:
        raise BadInput("the evaluation is of another model than the candidate", found=candidate.inputs.get("adapter"))
    wanted = evidence.live.model_digest if evidence.live is not None else None
    if baseline.inputs.get("adapter") != wanted:
        raise Stale(
            "another model went live since the champion was evaluated",
            found=wanted,
            next_step="evaluate the champion again, then run the gate",
        )
    alike = {
        "settings": candidate.settings == baseline.settings,
        **{role: candidate.inputs.get(role) == baseline.inputs.get(role) for role in ("index", "dataset")},
    }
    for part, same in alike.items():
        if not same:
            raise BadInput(
                "candidate and baseline were not evaluated alike",
                where=part,
                next_step="evaluate both with the same suites, index and settings",
            )


def sound(evidence: Evidence) -> list[Check]:
    """Returns the checks on the evidence itself, before any score is looked at."""
    return [
        _sealed(evidence),
        _same_suites(evidence),
        _same_index(evidence),
        *_not_rolled_back(evidence),
        *_read(evidence),
    ]


def _sealed(evidence: Evidence) -> Check:
    """Returns the check that the thresholds were not chosen for this candidate.

    Weights that existed before the policy was sealed may have been evaluated before, too: nothing can prove then that
    the thresholds were set without knowing the results, so a person has to accept it. Training again does not help: the
    first run that made these weights counts.
    """
    policy, trained = evidence.policy, evidence.trained_at
    times = {
        "sealed_at": policy.sealed_at,
        "sealed_again_at": policy.sealed_again_at,
        "trained_at": trained,
        "trained_again_at": evidence.trained_again_at,
    }
    verdict: Verdict = "condition"
    reason = (
        "these thresholds were not in force when the training of this model began; they were sealed before this gate"
    )
    if not policy.in_force:
        verdict, reason = "fail", "another policy was sealed after this one"
    elif trained is None:
        verdict, reason = "fail", "no run is known that made this model"
    elif evidence.policy_at_training == policy.policy_id:
        verdict, reason = "pass", "in force since before this model was first trained"
    return Check("policy.sealed", verdict, reason, details=plain(times))


def _same_suites(evidence: Evidence) -> Check:
    """Returns the check that the cases and the way of answering are those that were sealed."""
    policy, settings = evidence.policy.content, evidence.contents["candidate"].settings
    measured = {suite.name: (suite.file, suite.limit, suite.form) for suite in settings.suites}
    other = [suite.name for suite in policy.suites if measured.get(suite.name) != (suite.file, suite.limit, suite.form)]
    generation = settings.generation
    if SealedAnswers(generation.max_new_tokens, settings.retrieval.k, generation.prompt) != policy.answers:
        other.append("answers")
    if other:
        return Check("evidence.suites", "fail", f"not as sealed: {', '.join(other)}")
    return Check("evidence.suites", "pass", "suites and settings are those that were sealed")


def _same_index(evidence: Evidence) -> Check:
    """Returns the check that the pair which would go live is the pair that was evaluated."""
    used = evidence.contents["candidate"].inputs.get("index")
    now = evidence.live.index_digest if evidence.live is not None else None
    verdict: Verdict = "pass"
    if used is None:
        reason = "evaluated without retrieval"
    elif used == now:
        reason = "evaluated against the index that is live"
    else:
        verdict, reason = "inconclusive", "another index went live since the evaluation"
    return Check("evidence.index", verdict, reason, details={"index": used, "live_index": now})


def _read(evidence: Evidence) -> list[Check]:
    """Returns the checks of what readers of a sample of the training rows said, where the policy asks for one: the
    share of good rows, of each of them."""
    wanted, confidence = evidence.policy.content.min_good, evidence.policy.content.confidence
    if wanted is None:
        return []
    if not evidence.readers:
        reason = "nobody has read a sample of the rows that this model was trained on to its end"
        return [Check("data.read", "inconclusive", reason, details={"wanted": wanted})]
    checks = []
    for reader in evidence.readers:
        scores = [1.0] * reader["good"] + [0.0] * (reader["read"] - reader["good"])
        estimate = statistics.mean(scores, confidence).rounded()
        verdict, reason = thresholds.judge(estimate, wanted, 1)
        measured = Measured("good_rows", "minimum", wanted, None, estimate, {}, confidence, 1)
        details = {"reader": reader["rater"], "review": reader["review_id"], "dataset_version": reader["version"]}
        checks.append(Check("data.read", verdict, reason, measured, details))
    return checks


def _not_rolled_back(evidence: Evidence) -> list[Check]:
    if evidence.rolled_back_at is None:
        return []
    reason = "this model was live before, and a person took it back"
    return [
        Check("registry.rolled_back", "condition", reason, details=plain({"rolled_back_at": evidence.rolled_back_at}))
    ]
