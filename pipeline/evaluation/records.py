"""What the evaluation stage hands on."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from pipeline.results import Condition, Metrics, Subject
from pipeline.steps import Version


@dataclass(frozen=True)
class EvaluationFacts:
    """The metrics of one model, each with its interval."""

    pooled: Mapping[Condition, Metrics]  # over the gated suites; over all, where none is
    suites: Mapping[str, Mapping[Condition, Metrics]]
    answers: int
    cut: int  # prompts that lost their beginning
    seconds: float
    unsuitable: int = 0  # locked test rows that the model's template does not take, and so not answered


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, and what the model was evaluated as."""

    run: UUID
    reused: bool
    evaluation: Version
    facts: EvaluationFacts
    subject: Subject
    index: Version | None  # that was retrieved from


@dataclass(frozen=True)
class SubjectOf:
    """A model to evaluate."""

    subject: Subject
    adapter: Version | None  # None for the bare base model
    index: Version | None  # to retrieve from


@dataclass(frozen=True)
class Champion:
    """What is live, as the evaluation needs it."""

    deployment_id: int | None
    model: Version | None
    index: Version | None
