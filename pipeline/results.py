"""The results of evaluations and what a gate makes of them: records that evaluation, release and governance share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pipeline.records import plain
from pipeline.statistics import Estimate
from pipeline.usecase import REFUSALS, Dtype, Quantize, Suite

# Whether a case was answered with passages that retrieval gave.
Condition = Literal["without", "with"]
WITHOUT: Condition = "without"
WITH: Condition = "with"
CONDITIONS = (WITHOUT, WITH)
# What a model is evaluated as.
Subject = Literal["base", "sft", "candidate", "champion"]
# The name of the suite that is made of a use case's locked test split, where the YAML names no suite.
LOCKED = "locked_test"
FILE = "evaluation.json"  # of an evaluation's artifact

Metrics = Mapping[str, Estimate]
# condition: nothing speaks against it, but a person has to accept it. Inconclusive is never a pass.
Verdict = Literal["pass", "fail", "inconclusive", "condition"]
Outcome = Literal["approve", "approve_with_conditions", "block"]


@dataclass(frozen=True)
class CaseResult:
    """One case's scores. What was said stands in the database, where an erasure reaches it."""

    case: str
    digest: str  # of the case
    scores: Mapping[str, float]  # by metric, in [0, 1]
    answer: str  # digest of the answer's text
    documents: Sequence[str]  # that the model had to read, best first


@dataclass(frozen=True)
class SuiteResults:
    """One suite under one condition."""

    suite: str
    condition: Condition
    metrics: Metrics
    cases: Sequence[CaseResult]


@dataclass(frozen=True)
class AnswerForm:
    """What form the answers of a suite have."""

    refusals: tuple[str, ...] = REFUSALS  # an answer with one of these in it refuses
    sentences: int = 1  # the most that an answer has, citations aside
    citation: bool = True  # an answer that is no refusal ends in its source
    json_schema: Mapping[str, Any] | None = None  # it is JSON that meets this, instead of sentences

    @classmethod
    def of(cls, suite: Suite) -> "AnswerForm":
        """Returns the form that a use case's suite asks for."""
        return cls(suite.refusals, suite.sentences, suite.citation, suite.json_schema)


DEFAULT_FORM = AnswerForm()


@dataclass(frozen=True)
class SuiteSettings:
    """A suite that was answered, by digests."""

    name: str
    digest: str  # of its cases
    file: str | None  # digest of its file; None for the locked test split
    limit: int | None
    gated: bool
    cases: int
    form: AnswerForm = DEFAULT_FORM


@dataclass(frozen=True)
class GenerationSettings:
    """How answers were generated."""

    decoding: str
    max_new_tokens: int
    batch_size: int
    prompt: str | None = None  # its digest; None before format 3, which had one for all


@dataclass(frozen=True)
class ModelSettings:
    """How the model was loaded."""

    dtype: Dtype
    quantize: Quantize
    device: str


@dataclass(frozen=True)
class RetrievalSettings:
    """What was retrieved."""

    k: int
    unserved: str | None  # digest of the index's documents that were withdrawn or expired by then


@dataclass(frozen=True)
class EvaluationSettings:
    """What an evaluation's result depends on, beside code and inputs."""

    suites: Sequence[SuiteSettings]
    generation: GenerationSettings
    model: ModelSettings
    retrieval: RetrievalSettings
    confidence: float
    without_retrieval: float = 1.0  # share of each suite's cases that were asked so, too


@dataclass(frozen=True)
class Evaluation:
    """An evaluation as it is stored: what was evaluated, under which settings, and each case's digests and scores."""

    FORMAT: ClassVar[int] = 4

    inputs: Mapping[str, str]  # digests by role: base, adapter, index, dataset
    settings: EvaluationSettings
    results: Sequence[SuiteResults]

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the value: format 1 did not name itself, format 2 had one prompt and one form for all suites, and
        before format 4 every case was asked without retrieval, too."""
        return value


@dataclass(frozen=True)
class Measured:
    """An estimate that was held against a threshold."""

    metric: str
    rule: Literal["minimum", "margin"]
    wanted: float  # the interval's lower end must reach it
    against: str | None  # what a margin compares with; None for a minimum
    estimate: Estimate  # over the cases of all gated suites
    suites: Mapping[str, Estimate]  # over those of each
    confidence: float
    min_cases: int


@dataclass(frozen=True)
class Check:
    """One check of a decision."""

    name: str
    verdict: Verdict
    reason: str
    measured: Measured | None = None  # None where nothing was measured
    details: Mapping[str, Any] = field(default_factory=dict)  # times and digests that the reason rests on

    def stored(self) -> dict[str, Any]:
        """Returns the check as decisions, reports and packets hold it: one flat object."""
        measured: dict[str, Any] = {}
        if self.measured is not None:
            measured = plain(self.measured)
            measured |= measured.pop("estimate")
            if self.measured.against is None:
                measured.pop("against")
        return {"name": self.name, **self.details, **measured, "verdict": self.verdict, "reason": self.reason}
