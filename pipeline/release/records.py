"""What the release stage hands on, and what it stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from pipeline.results import DEFAULT_FORM, AnswerForm, Outcome, Verdict
from pipeline.steps import Version


@dataclass(frozen=True)
class Threshold:
    """What the candidate must reach in one metric."""

    metric: str
    minimum: float | None
    margin: float | None


@dataclass(frozen=True)
class SealedSuite:
    """A gated suite, by its file's digest (None: the locked test split)."""

    name: str
    file: str | None
    limit: int | None
    form: AnswerForm = DEFAULT_FORM


@dataclass(frozen=True)
class SealedAnswers:
    """How answers are made."""

    max_new_tokens: int
    k: int
    prompt: str | None = None  # its digest; None in a policy from before a use case had its own


@dataclass(frozen=True)
class PolicyContent:
    """Everything that a decision depends on and a person could turn. Its digest is what is sealed."""

    use_case: str
    risk_tier: str
    asks_a_person: bool
    timeout_hours: int | float  # as it was sealed: 24 and 24.0 have different digests
    thresholds: Sequence[Threshold]
    min_cases: int
    confidence: float
    suites: Sequence[SealedSuite]
    answers: SealedAnswers
    min_good: float | None = None  # share of good rows in a read sample; None where no sample is asked for
    signs_data: bool | None = None  # None in a policy from before data was signed: by the risk tier


@dataclass(frozen=True)
class Sealed:
    """A policy that was sealed before the training."""

    policy_id: int
    digest: str
    content: PolicyContent


@dataclass(frozen=True)
class Unchanged:
    """Whether the candidate's weights are the live model's, by digest."""

    unchanged: bool
    candidate: str
    champion: str | None


@dataclass(frozen=True)
class GateFacts:
    """What the gate came to, in numbers."""

    decision: Outcome
    verdicts: Mapping[Verdict, int]


@dataclass(frozen=True)
class SealedPolicy:
    """The policy that a report applied."""

    digest: str
    content: PolicyContent


@dataclass(frozen=True)
class Replaced:
    """The pair that a candidate would replace, by digests."""

    model: str | None
    index: str | None


@dataclass(frozen=True)
class Report:
    """The gate's report, as it is stored: digests and numbers."""

    FORMAT: ClassVar[int] = 1

    use_case: str
    policy: SealedPolicy
    candidate: str
    baseline: str
    replaces: Replaced | None
    evaluations: Mapping[str, str]  # digests by subject
    checks: Sequence[Mapping[str, Any]]  # as a decision stores them
    decision: Outcome

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the value: there is no older format."""
        return value


@dataclass(frozen=True)
class Decided:
    """A decision, as it stands in the database."""

    decision_id: int
    decision: Outcome
    checks: Sequence[Mapping[str, Any]]  # as they are stored
    needs_person: bool
    superseded: Sequence[int]  # older decisions that no longer wait


@dataclass(frozen=True)
class Gated(Decided):
    """What the gate decided."""

    run: UUID
    report: Version
    baseline: str  # what the candidate was compared with
    message: str  # what it came to, in one line


@dataclass(frozen=True)
class Waiting:
    """A decision that the gate let through and that is neither live nor turned down."""

    decision_id: int
    outcome: Outcome
    needs_person: bool
    answer: str | None
    stale: bool  # it cannot be promoted any more
    candidate: str
    index: str | None
    requested_by: str
    decided_at: str
    refused: int  # approvals of it that were refused


@dataclass(frozen=True)
class Chosen:
    """The decision that a release acts on."""

    decision_id: int
    needs_person: bool  # false where the person has answered by now
    candidate: str
    outcome: Outcome
    requested_by: str


@dataclass(frozen=True)
class Promoted:
    """The deployment that a decision brought about."""

    deployment_id: int
    decision_id: int
    use_case: str
    replaces: int | None
    model: str | None
    index: str | None
    already: bool  # it had been promoted before


@dataclass(frozen=True)
class RollbackWaits:
    """A rollback that a second person has to agree to."""

    decision_id: int
    use_case: str
    waits: str


@dataclass(frozen=True)
class Earlier:
    """A pair that was live."""

    deployment_id: int
    model: str | None
    index: str | None
    decision_id: int
    by: str
    why: str | None
    since: str
    until: str | None  # None: it is live
