"""The keys of a usecase.yaml: their types, defaults, ranges and meanings. The reference and the JSON Schema are made of
this (`make reference`)."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.settings import ROOT

# The order is the order of clearances: who may read one may read those before it.
Classification = Literal["public", "internal", "confidential", "restricted"]
CLASSIFICATIONS: tuple[Classification, ...] = get_args(Classification)
Dtype = Literal["float32", "bfloat16"]
Quantize = Literal["none", "nf4"]
ExampleKind = Literal["sft", "preference"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Login = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]  # a caller's name; part of no identifier
Share = Annotated[float, Field(ge=0, le=1)]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]  # text without line ends
# What Postgres ships: `select cfgname from pg_ts_config`.
TextSearch = Literal[
    "simple",
    "arabic",
    "armenian",
    "basque",
    "catalan",
    "danish",
    "dutch",
    "english",
    "estonian",
    "finnish",
    "french",
    "german",
    "greek",
    "hindi",
    "hungarian",
    "indonesian",
    "irish",
    "italian",
    "lithuanian",
    "nepali",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "serbian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
    "yiddish",
]
_PRESETS = {"@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly"}


def _cron(expression: str) -> str:
    """Returns a cron expression that Airflow will take, and that fires. Raises ValueError."""
    from croniter import CroniterError, croniter  # what Airflow reads it with

    if expression in _PRESETS:
        return expression
    if len(expression) > 200 or len(expression.split()) != 5 or "@" in expression:
        raise ValueError(f"five fields such as 30 1 * * *, or one of {', '.join(sorted(_PRESETS))}")
    try:
        croniter(expression, datetime(2000, 1, 1, tzinfo=UTC), max_years_between_matches=8).get_next()
    except (CroniterError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"a cron expression in UTC that fires: {error}") from None
    return expression


Cron = Annotated[str, AfterValidator(_cron)]


class _Model(BaseModel):
    # The line below each key is its description in the reference.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=4_000, use_attribute_docstrings=True
    )


class Schedule(_Model):
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


class DocumentDefaults(_Model):
    """What a document is where its source does not say: readable by nobody, until the YAML or it says more."""

    tenant: Name = "default"
    """Whose document it is: callers of other tenants never see it."""
    classification: Classification = "restricted"
    """How confidential it is."""
    groups: tuple[str, ...] = Field(("nobody",), min_length=1, max_length=64)
    """Who may read it; a public document, everyone of the tenant."""
    owner: str = "unassigned"
    """Who answers for it."""
    fresh_until: date | None = None
    """The day after which it answers nobody any more; null: it does not expire."""
    retain_until: date | None = None
    """The day until which it is kept: after it `maintain` erases it, and the examples that speak of it. null: it
    stays."""


class DocumentSource(_Model):
    """One place that documents come from."""

    path: Path
    """A folder of Markdown files, or a text file. Nothing outside it is read."""
    format: Literal["markdown", "lines"] = "markdown"
    """`markdown`: files with front matter; `lines`: one document a line."""
    front_matter: Literal["required", "optional"] = "required"
    """Whether a Markdown file without a readable front matter is rejected, or has the rights of the defaults."""
    defaults: DocumentDefaults = DocumentDefaults()
    """What a document is where its source does not say."""
    licence: str | None = None
    """For the data card."""


class ExampleSource(_Model):
    """One file of training rows."""

    path: Path
    """A file of training rows."""
    kind: ExampleKind
    """What the rows are for."""
    format: Literal["auto", "messages", "sharegpt", "alpaca", "prompt_completion", "oasst", "preference", "ranking"] = (
        "auto"
    )
    """`auto`: what most of the first 200 rows have. `messages`: {messages}; `sharegpt`: {conversations}, of pairs also
    {chosen, rejected}; `alpaca`: {instruction, output}, also {input, context, history, instances};
    `prompt_completion`: {prompt, completion}; `preference`: {chosen, rejected}, with or without {prompt};
    `ranking`: {prompt, responses, scores or ranks}, the best beside the worst; `oasst`: a tree of {text, replies}."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names that the file has for our fields: `{instruction: question, output: reply}`."""
    licence: str | None = None
    """For the data card."""


class Splits(_Model):
    """Shares of the splits. A prompt's split is fixed when it is first seen."""

    train: Share = 0.8
    """Share of the prompts that are trained on."""
    validation: Share = 0.1
    """Share that checkpoints are selected on."""
    test: Share = 0.1
    """Share that is locked away for the evaluation."""
    group_by: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    """Fields of rows whose equal values keep rows in one split: `data_subject`, `documents`, or another that the files
    have, such as the fact that a question is about."""

    @property
    def shares(self) -> dict[str, float]:
        """Returns the share of each split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @model_validator(mode="after")
    def _sum(self) -> "Splits":
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("the three shares must add up to 1")
        return self


class Retention(_Model):
    """How long what was erased may stand elsewhere, and whether dates erase by themselves."""

    erase_expired: bool = True
    """`maintain` erases documents whose `retain_until` has gone by."""
    backup_days: int = Field(35, ge=0, le=36_500)
    """How long backups of the database are kept: what a certificate of erasure says of them."""


# What becomes of a row that a rule finds: it is left out; it waits until a person accepts it; it is reported, no more.
RuleAction = Literal["reject", "quarantine", "report", "off"]


class Checks(_Model):
    """What an example or a document must pass to be accepted."""

    min_characters: int = Field(1, ge=1, le=1_000_000)
    """Of an answer."""
    max_characters: int = Field(20_000, ge=1, le=10_000_000)
    """Of a row's whole text."""
    max_rejected: Share = 0.5
    """A file with a larger share of bad rows stops the commit."""
    max_removed: Share = 0.5
    """A commit that would take out a larger share of the examples, and ten or more, waits for `nightshift data accept`;
    the version stays as it was until then."""
    personal_data: Literal["reject", "redact", "quarantine", "report", "off"] = "quarantine"
    """Examples with e-mail addresses, telephone, card or account numbers, or national ids. `quarantine`: they wait for
    `nightshift data accept`; `redact`: `[email]` stands in their place."""
    public_contacts: list[Annotated[str, Field(min_length=1, max_length=200)]] = []
    """Patterns of addresses and numbers that are nobody's own: `*@bank.example`, `00 800 *`."""
    phone_regions: list[Annotated[str, Field(pattern=r"^[A-Z]{2}$")]] = ["US", "GB"]
    """Countries whose telephone numbers are found without their country code; those with it always are."""
    credentials: RuleAction = "reject"
    """Examples with keys, tokens, private keys, or connection strings with a password."""
    languages: list[Annotated[str, Field(pattern=r"^[a-z]{2}$")]] = []
    """Languages that examples are in (ISO 639-1); empty: any. Short texts are in any."""
    other_language: RuleAction = "reject"
    """Examples that are surely in another language."""
    debris: RuleAction = "report"
    """Examples with tags or entities of HTML outside code."""
    mojibake: RuleAction = "reject"
    """Examples with letters that were decoded in the wrong encoding."""
    repetition: RuleAction = "report"
    """Answers of which a third or more says again what stands before."""
    contamination: RuleAction = "reject"
    """Examples that ask what a suite of the evaluation asks, case and punctuation aside."""
    other_answers: RuleAction = "report"
    """Examples whose prompt stands earlier with another answer."""
    excuses: RuleAction = "report"
    """Answers that speak of themselves as a model."""
    max_widened: int = Field(0, ge=0, le=1_000_000)
    """So many documents that more may read from now on go through; with more of them, all wait for a person."""
    max_lost: Share = 0.5
    """A source that lost a larger share of its documents, or all, withdraws none without a person."""


def _local(path: str) -> bool:
    return Path(path).is_dir() or (ROOT / path).is_dir() or path.startswith(("/", "./", "../", "models/"))


class BaseModelSource(_Model):
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


class SftRecipe(_Model):
    """Supervised fine-tuning with LoRA, by TRL."""

    learning_rate: float = Field(2e-4, gt=0, le=1)
    """Higher learns faster, and forgets faster."""
    epochs: float = Field(3, gt=0, le=1_000)
    """How often each row is seen."""
    max_steps: int = Field(-1, ge=-1, le=10_000_000)
    """-1: as many as the epochs need."""
    batch_size: int = Field(8, ge=1, le=4_096)
    """Rows in one forward pass."""
    gradient_accumulation: int = Field(1, ge=1, le=4_096)
    """Passes to one step."""
    max_length: int = Field(1024, ge=16, le=1_000_000)
    """Tokens; longer rows are cut."""
    max_tokens: int | None = Field(None, ge=1_000, le=1_000_000_000_000)
    """Of the rows of an epoch: a random sample of them; of validation rows, a tenth as many. null: all rows."""
    lora_rank: int = Field(16, ge=1, le=1_024)
    """The adapter's rank: more can learn more, and takes more memory."""
    lora_alpha: int = Field(32, ge=1, le=4_096)
    """The scale of the adapter, over its rank."""
    patience: int = Field(3, ge=1, le=10_000)
    """Evaluations without improvement before it stops early."""
    eval_steps: int = Field(20, ge=1, le=1_000_000)
    """Steps between two evaluations on the validation split."""
    seed: int = Field(7, ge=0, le=2**32 - 1)
    """Of every random choice."""


class DpoRecipe(_Model):
    """Preference tuning of the SFT adapter, by TRL."""

    enabled: bool = True
    """`false`: the candidate is the SFT adapter. `true` needs preference rows."""
    learning_rate: float = Field(5e-6, gt=0, le=1)
    """A tenth or less of what SFT takes."""
    epochs: float = Field(1, gt=0, le=1_000)
    """How often each pair is seen."""
    max_steps: int = Field(-1, ge=-1, le=10_000_000)
    """-1: as many as the epochs need."""
    batch_size: int = Field(8, ge=1, le=4_096)
    """Pairs in one forward pass."""
    gradient_accumulation: int = Field(1, ge=1, le=4_096)
    """Passes to one step."""
    max_length: int = Field(1024, ge=16, le=1_000_000)
    """Tokens; longer pairs are cut."""
    max_tokens: int | None = Field(None, ge=1_000, le=1_000_000_000_000)
    """Of the pairs of an epoch, both sides counted: as for SFT."""
    beta: float = Field(0.1, gt=0, le=100)
    """How near it stays to the SFT adapter: higher is nearer."""
    patience: int = Field(3, ge=1, le=10_000)
    """Evaluations without improvement before it stops early."""
    eval_steps: int = Field(20, ge=1, le=1_000_000)
    """Steps between two evaluations on the validation split."""
    seed: int = Field(7, ge=0, le=2**32 - 1)
    """Of every random choice."""


class Training(_Model):
    """How the night trains."""

    sft: SftRecipe = SftRecipe()
    """Supervised fine-tuning."""
    dpo: DpoRecipe = DpoRecipe()
    """Preference tuning."""
    quantize: Quantize = "none"
    """`nf4`: QLoRA, the base model in four bits."""
    dtype: Dtype | Literal["auto"] = "auto"
    """What is computed in. `auto`: bfloat16 where preflight measures that this machine is faster with it."""
    timeout_minutes: int = Field(240, ge=1, le=20_160)
    """A training that takes longer is stopped, and has failed."""


class Retrieval(_Model):
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


class Principal(_Model):
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


class Suite(_Model):
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


class Evaluation(_Model):
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


class Threshold(_Model):
    """One line of the release policy, applied to a metric of the candidate with retrieval."""

    metric: Literal["value", "source", "refusal", "format", "correct", "reference", "likelihood", "preference"]
    """Of a suite's cases; `reference`, `likelihood` and `preference`: of the locked test split, without a suite."""
    minimum: Share | None = None
    """The lower end of the interval must reach it."""
    margin: Share | None = None
    """Non-inferiority: the paired difference to the champion may not fall below minus this."""


class Approval(_Model):
    """When a person answers for a release."""

    required: bool | None = None
    """Whether a person answers for every release; null: the risk tier decides."""
    timeout_hours: float = Field(24, gt=0, le=8_760)
    """After which no answer is a no."""


class Release(_Model):
    """The release policy. It is sealed before training begins."""

    thresholds: tuple[Threshold, ...] = ()
    """What a candidate must reach, sealed before training. `[]`, of minimal risk alone: nothing."""
    min_cases: int = Field(30, ge=1, le=1_000_000)
    """With fewer cases a check is inconclusive, and inconclusive is no pass."""
    approval: Approval = Approval()
    """When a person answers for a release."""


class Freshness(_Model):
    """Ages in hours at which `nightshift status --strict` says no."""

    night: float = Field(36, gt=0, le=87_600)
    """Of the last night."""
    index: float = Field(36, gt=0, le=87_600)
    """Of the last look at the documents."""
    anchor: float = Field(36, gt=0, le=87_600)
    """Of the audit trail's last anchor."""


class UseCase(_Model):
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
    def asks_a_person(self) -> bool:
        """Returns whether every release needs a person's approval, whatever the gate says."""
        required = self.release.approval.required
        return self.risk_tier == "high" if required is None else required
