"""The release policy: what a candidate must reach, sealed by digest before it is trained."""

from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from pipeline import canonical, database, prompt
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.errors import BadInput, Refused
from pipeline.records import load, plain
from pipeline.release.records import PolicyContent, Sealed, SealedAnswers, SealedSuite, Threshold
from pipeline.results import LOCKED, AnswerForm
from pipeline.usecase import UseCase

_OF_REFERENCES = ("reference", "likelihood", "preference")


@dataclass(frozen=True)
class Policy:
    """A sealed policy, as the database has it."""

    policy_id: int
    digest: str
    content: PolicyContent
    sealed_at: datetime  # for the first time
    sealed_again_at: datetime  # for the last time
    in_force: bool  # whether no other policy of the use case was sealed after it


def content(usecase: UseCase) -> PolicyContent:
    """Returns the release policy as the YAML has it.

    Raises BadInput for a policy that compares nothing: without thresholds it must be a use case of minimal risk whose
    YAML says `thresholds: []` in so many words.
    """
    release, where = usecase.release, f"usecases/{usecase.name}/usecase.yaml: release.thresholds"
    if not release.thresholds and not (usecase.risk_tier == "minimal" and "thresholds" in release.model_fields_set):
        raise BadInput(
            "a release policy without thresholds would let every candidate through",
            where=where,
            allowed="at least one threshold; or, in the risk tier minimal alone, an explicit empty list",
        )
    suites = [suite for suite in usecase.evaluation.suites if suite.gated]
    if usecase.evaluation.suites and not suites and release.thresholds:
        raise BadInput("no suite is gated, so the thresholds compare nothing", where=where)
    for place, threshold in enumerate(release.thresholds):
        if threshold.minimum is None and threshold.margin is None:
            raise BadInput(
                "a threshold without minimum and margin asks for nothing",
                where=f"{where}.{place}",
                found=threshold.metric,
            )
        if (threshold.metric in _OF_REFERENCES) is bool(suites):
            raise BadInput(
                "this metric is not measured on these cases",
                where=f"{where}.{place}.metric",
                found=threshold.metric,
                allowed="with suites: correct, value, source, refusal, format; without: " + ", ".join(_OF_REFERENCES),
            )
    gated = [
        SealedSuite(
            suite.name,
            canonical.digest_text(suite.path.read_text(encoding="utf-8")),
            suite.limit,
            AnswerForm.of(suite),
        )
        for suite in suites
    ]
    return PolicyContent(
        use_case=usecase.name,
        risk_tier=usecase.risk_tier,
        asks_a_person=usecase.asks_a_person,
        signs_data=usecase.signs_data,
        min_good=release.min_good,
        timeout_hours=release.approval.timeout_hours,
        thresholds=[Threshold(**threshold.model_dump(mode="json")) for threshold in release.thresholds],
        min_cases=release.min_cases,
        confidence=usecase.evaluation.confidence,
        # The evaluation makes a suite of this name from the test split where the YAML names none.
        suites=gated or [SealedSuite(LOCKED, None, None)],
        answers=SealedAnswers(
            usecase.evaluation.max_new_tokens, usecase.retrieval.k, prompt.read(usecase.prompt).digest
        ),
    )


def seal(context: Context) -> Sealed:
    """Returns the policy as the YAML has it, sealed now if it was not before.

    The same thresholds are the same policy, and the first time they were sealed counts; every sealing is written down.
    Raises BadInput as `content` does.
    """
    sealed = content(context.usecase)
    digest = canonical.digest(plain(sealed))
    arguments = (context.usecase.name, digest, Jsonb(plain(sealed)), context.origin.requested_by)
    with database.connect(context.settings, "pipeline") as connection:
        (row,) = database.call(connection, "release.seal_policy", *arguments)
    return Sealed(row["seal_policy"], digest, sealed)


def read(connection: Connection, use_case: str, policy_id: int) -> Policy:
    """Returns a sealed policy. Raises BadInput where the use case has none of this id, Refused where its content does
    not give its digest."""
    row = database.fetch_one(connection, "release", "policy", policy_id=policy_id)
    if row is None or row["use_case"] != use_case:
        raise BadInput(f"no such policy of {use_case} is sealed", found=policy_id)
    if canonical.digest(row["content"]) != row["digest"]:
        raise Refused("a sealed policy does not give its digest: it was altered", where=f"release.policy {policy_id}")
    return Policy(
        row["policy_id"],
        row["digest"],
        load(PolicyContent, row["content"]),
        row["sealed_at"],
        row["sealed_again_at"],
        row["in_force"] == row["policy_id"],
    )
