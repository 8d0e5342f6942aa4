"""The keys of a usecase.yaml: their types, defaults, ranges and meanings. The reference and the JSON Schema are made of
this (`make reference`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.settings import ROOT
from pipeline.usecase.data import Checks, DataCard, DocumentSource, ExampleSource, Retention, SignOff, Splits
from pipeline.usecase.recipes import Training
from pipeline.usecase.types import (
    Classification,
    Cron,
    Line,
    Login,
    Name,
    Section,
    Share,
    TextSearch,
)


class Schedule(Section):
    """When the DAGs run: cron expressions in UTC, or null for never by itself."""

    data: Cron | None = "@hourly"
    """Fetch, check and commit documents and examples."""
    reindex: Cron | None = "30 1 * * *"
    """Bring the index up to date; new documents begin it, too."""
    retrain: Cron | None = "0 2 * * *"
    """The night: train, evaluate, gate."""
    evaluate: Cron | None = "0 5 * * 0"
    """Evaluate what is live again."""
    govern: Cron | None = "0 6 * * 1"
    """Renew the evidence packet of what is live."""


def _local(path: str) -> bool:
    return Path(path).is_dir() or (ROOT / path).is_dir() or path.startswith(("/", "./", "../", "models/"))


class BaseModelSource(Section):
    """The model that adapters are trained on: a name that was pulled or ships, a local path, or a Hugging Face id with
    a pinned revision."""

    name: str | None = Field(None, pattern=r"^[a-z0-9]+([-.][a-z0-9]+)*$")
    """As `nightshift model list` has it; instead of a path."""
    path: str | None = None
    """A local folder, or a Hugging Face id; null: the model of this name, or models/tiny."""
    revision: str | None = None
    """The commit hash; needed for a Hugging Face id."""

    @model_validator(mode="after")
    def _pinned(self) -> "BaseModelSource":
        if self.name is not None and (self.path, self.revision) != (None, None):
            raise ValueError("a base model has a name, or a path and perhaps a revision: not both")
        if self.revision is None and self.name is None and not _local(self.label):
            raise ValueError("a model that is not a local folder needs its revision pinned, by commit hash")
        return self

    @classmethod
    def labelled(cls, label: str, revision: str | None) -> "BaseModelSource":
        """Returns the source that has this label and revision: a name has no slash, unless a folder is called so."""
        if revision is not None or "/" in label or _local(label):
            return cls(path=label, revision=revision)
        return cls(name=label)

    @property
    def label(self) -> str:
        """Returns what the use case calls it."""
        return self.name or self.path or "models/tiny"


class Retrieval(Section):
    """How documents become an index."""

    chunk_tokens: int = Field(200, ge=16, le=256)
    """Size of a chunk in the embedder's tokens; MiniLM reads 256."""
    overlap_sentences: int = Field(1, ge=0, le=20)
    """Sentences that a chunk repeats of the one before."""
    text_search: TextSearch | None = "english"
    """Language whose words are searched beside the vectors; `simple`: as they are written; null: vectors alone."""
    k: int = Field(3, ge=1, le=100)
    """Chunks that a question is answered from."""
    min_recall: Share = 0.99
    """Of the index against an exact scan, before a swap."""
    max_lost: Share = 0.5
    """An index that lost ten documents and a larger share, or all, does not swap without a person."""
    leak_principals: int = Field(200, ge=1, le=100_000)
    """Generated callers in the leak test before a swap."""


class Principal(Section):
    """A caller that the gateway may open a session for."""

    tenant: Name
    """Whose documents he may see at all."""
    groups: tuple[str, ...] = ()
    """Groups whose documents he may read."""
    clearance: Classification = "internal"
    """Up to which classification."""


REFUSALS = ("is not stated", "are not stated", "was not stated", "were not stated")


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON Schema that stands by itself. Raises ValueError."""
    from jsonschema import Draft202012Validator, SchemaError

    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            yield from (str(value) for key, value in part.items() if key in ("$ref", "$dynamicRef"))
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from references(inner)

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"a JSON Schema of 2020-12: {error.message}") from None
    if foreign := [name for name in references(schema) if not name.startswith("#")]:
        raise ValueError(f"a JSON Schema that refers to nothing outside itself, as {foreign[0]}")
    return schema


class Suite(Section):
    """One file of evaluation cases."""

    name: Name
    """How results name it."""
    path: Path
    """A JSONL file of cases."""
    gated: bool = True
    """Whether the gate looks at it."""
    limit: int | None = Field(None, ge=1, le=1_000_000)
    """A sample of so many cases, of each kind in proportion; null: all."""
    refusals: tuple[Line, ...] = Field(REFUSALS, min_length=1, max_length=64)
    """How a refusal sounds: an answer with one of these in it refuses."""
    sentences: int = Field(1, ge=1, le=100)
    """An answer of the right form has at most so many."""
    citation: bool = True
    """An answer of the right form ends in its source, unless it refuses."""
    json_schema: dict[str, Any] | None = None
    """A JSON Schema (2020-12): an answer of the right form is JSON that meets it, or refuses; whatever it cites."""
    wordings: dict[Line, tuple[Line, ...]] = Field(default_factory=dict)
    """Other wordings of a value, as right as it in every case that asks for it."""

    @field_validator("json_schema")
    @classmethod
    def _sound(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if schema is None else _json_schema(schema)


class Evaluation(Section):
    """What the models are asked, and how."""

    suites: tuple[Suite, ...] = ()
    """What is asked. None: the locked test split alone."""
    max_new_tokens: int = Field(64, ge=1, le=100_000)
    """Of an answer."""
    batch_size: int = Field(32, ge=1, le=4_096)
    """Questions answered at once."""
    without_retrieval: Share = 1
    """Of a suite's cases, that are asked without retrieval as well: to see what retrieval adds, a quarter may do."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of the intervals."""


class Threshold(Section):
    """One line of the release policy, applied to a metric of the candidate with retrieval."""

    metric: Literal["value", "source", "refusal", "format", "correct", "reference", "likelihood", "preference"]
    """Of a suite's cases; `reference`, `likelihood` and `preference`: of the locked test split, without a suite."""
    minimum: Share | None = None
    """The lower end of the interval must reach it."""
    margin: Share | None = None
    """Non-inferiority: the paired difference to the champion may not fall below minus this."""


class Approval(Section):
    """When a person answers for a release."""

    required: bool | None = None
    """Whether a person answers for every release; null: the risk tier decides."""
    timeout_hours: float = Field(24, gt=0, le=8_760)
    """After which no answer is a no."""


class Release(Section):
    """The release policy. It is sealed before training begins."""

    thresholds: tuple[Threshold, ...] = ()
    """What a candidate must reach, sealed before training. `[]`, of minimal risk alone: nothing."""
    min_cases: int = Field(30, ge=1, le=1_000_000)
    """With fewer cases a check is inconclusive, and inconclusive is no pass."""
    min_good: Share | None = None
    """The share of good rows that readers of a sample must have found in the dataset version that the candidate was
    trained on (`nightshift data review`), by the lower end of each reader's interval. null: no sample is asked for."""
    approval: Approval = Approval()
    """When a person answers for a release."""


class Freshness(Section):
    """Ages in hours at which `nightshift status --strict` says no."""

    night: float = Field(36, gt=0, le=87_600)
    """Of the last night."""
    index: float = Field(36, gt=0, le=87_600)
    """Of the last look at the documents."""
    anchor: float = Field(36, gt=0, le=87_600)
    """Of the audit trail's last anchor."""


class UseCase(Section):
    """One assistant."""

    name: Name
    """The folder's name."""
    title: Line
    """What the assistant is for, in one line."""
    owner: Line
    """Who answers for it."""
    risk_tier: Literal["minimal", "limited", "high"]
    """`high` asks a person before every release."""
    documents: tuple[DocumentSource, ...] = Field(min_length=1)
    """Where documents come from."""
    examples: tuple[ExampleSource, ...] = Field(min_length=1)
    """Where training rows come from."""
    schedule: Schedule = Schedule()
    """When the DAGs run."""
    splits: Splits = Splits()
    """How rows are split."""
    checks: Checks = Checks()
    """What is accepted."""
    data_card: DataCard = DataCard()
    """What the data card says beyond what is measured."""
    signoff: SignOff = SignOff()
    """Whether persons sign what is new in the examples before it is trained on."""
    retention: Retention = Retention()
    """How long what was erased may stand elsewhere."""
    base_model: BaseModelSource = BaseModelSource()
    """What is trained on."""
    prompt: Path | None = None
    """A Jinja file: how a question and its passages are put to the model; null: pipeline/prompt.md.j2."""
    training: Training = Training()
    """How the night trains."""
    retrieval: Retrieval = Retrieval()
    """How documents become an index."""
    principals: dict[Login, Principal] = Field(default_factory=dict)
    """The callers that may be searched for, by name."""
    evaluation: Evaluation = Evaluation()
    """What the models are asked."""
    release: Release = Release()
    """What lets a candidate through."""
    freshness: Freshness = Freshness()
    """What counts as too old."""

    @property
    def signs_data(self) -> bool:
        """Returns whether persons sign what is new in the examples before it is trained on."""
        return self.risk_tier == "high" or bool(self.signoff.required)

    @property
    def asks_a_person(self) -> bool:
        """Returns whether every release needs a person's approval, whatever the gate says."""
        required = self.release.approval.required
        return self.risk_tier == "high" if required is None else required
