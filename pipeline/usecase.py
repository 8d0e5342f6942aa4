"""A use case: one assistant, as its usecase.yaml says. Imports YAML and pydantic alone: DAG files read it."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline import parsing, validation
from pipeline.errors import BadInput, nearest
from pipeline.settings import ROOT, Settings

Classification = Literal["public", "internal", "confidential", "restricted"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Login = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]  # a caller's name; part of no identifier
Share = Annotated[float, Field(ge=0, le=1)]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]  # text without line ends
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
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=4_000)


class Schedule(_Model):
    """When the DAGs run: cron expressions in UTC, or null for never by itself."""

    data: Cron | None = "@hourly"
    reindex: Cron | None = "30 1 * * *"
    retrain: Cron | None = "0 2 * * *"
    evaluate: Cron | None = "0 5 * * 0"
    govern: Cron | None = "0 6 * * 1"


class DocumentDefaults(_Model):
    """What a document is where its source does not say: readable by nobody, until the YAML or it says more."""

    tenant: Name = "default"
    classification: Classification = "restricted"
    groups: tuple[str, ...] = Field(("nobody",), min_length=1, max_length=64)
    owner: str = "unassigned"
    fresh_until: date | None = None
    retain_until: date | None = None


class DocumentSource(_Model):
    """One place that documents come from."""

    path: Path  # a folder of Markdown files, or a text file
    format: Literal["markdown", "lines"] = "markdown"  # lines: one document a line
    # Of Markdown files: whether one without a readable front matter is rejected, or has the rights of the defaults.
    front_matter: Literal["required", "optional"] = "required"
    defaults: DocumentDefaults = DocumentDefaults()
    licence: str | None = None  # for the data card


class ExampleSource(_Model):
    """One file of training rows."""

    path: Path
    kind: Literal["sft", "preference"]
    # messages: {messages}; preference: {prompt, chosen, rejected}; alpaca: {instruction, input, output};
    # sharegpt: {conversations, chosen, rejected}
    format: Literal["messages", "preference", "alpaca", "sharegpt"] = "messages"
    licence: str | None = None  # for the data card


class Splits(_Model):
    """Shares of the splits. A prompt's split is fixed when it is first seen."""

    train: Share = 0.8
    validation: Share = 0.1
    test: Share = 0.1

    @model_validator(mode="after")
    def _sum(self) -> "Splits":
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError("the three shares must add up to 1")
        return self


class Checks(_Model):
    """What an example or a document must pass to be accepted."""

    min_characters: int = Field(1, ge=1, le=1_000_000)  # of an answer
    max_characters: int = Field(20_000, ge=1, le=10_000_000)  # of a row's whole text
    max_rejected: Share = 0.5  # a file with a larger share of bad rows stops the commit
    max_widened: int = Field(
        0, ge=0, le=1_000_000
    )  # documents that more may read from now on; with more of them, all wait for a person
    max_lost: Share = 0.5  # a source that lost a larger share of its documents, or all, withdraws none without a person


def _local(path: str) -> bool:
    return Path(path).is_dir() or (ROOT / path).is_dir() or path.startswith(("/", "./", "../", "models/"))


class BaseModelSource(_Model):
    """The model that adapters are trained on: a local path or a Hugging Face id with a pinned revision."""

    path: str = "models/tiny"
    revision: str | None = None

    @model_validator(mode="after")
    def _pinned(self) -> "BaseModelSource":
        if self.revision is None and not _local(self.path):
            raise ValueError("a model that is not a local folder needs its revision pinned, by commit hash")
        return self


class SftRecipe(_Model):
    """Supervised fine-tuning with LoRA, by TRL."""

    learning_rate: float = Field(2e-4, gt=0, le=1)
    epochs: float = Field(3, gt=0, le=1_000)
    max_steps: int = Field(-1, ge=-1, le=10_000_000)  # -1: as many as the epochs need
    batch_size: int = Field(8, ge=1, le=4_096)
    gradient_accumulation: int = Field(1, ge=1, le=4_096)
    max_length: int = Field(1024, ge=16, le=1_000_000)  # tokens; longer rows are cut
    lora_rank: int = Field(16, ge=1, le=1_024)
    lora_alpha: int = Field(32, ge=1, le=4_096)
    patience: int = Field(3, ge=1, le=10_000)  # evaluations without improvement before it stops early
    eval_steps: int = Field(20, ge=1, le=1_000_000)
    seed: int = Field(7, ge=0, le=2**32 - 1)


class DpoRecipe(_Model):
    """Preference tuning of the SFT adapter, by TRL."""

    enabled: bool = True
    learning_rate: float = Field(5e-6, gt=0, le=1)
    epochs: float = Field(1, gt=0, le=1_000)
    max_steps: int = Field(-1, ge=-1, le=10_000_000)
    batch_size: int = Field(8, ge=1, le=4_096)
    gradient_accumulation: int = Field(1, ge=1, le=4_096)
    max_length: int = Field(1024, ge=16, le=1_000_000)
    beta: float = Field(0.1, gt=0, le=100)
    patience: int = Field(3, ge=1, le=10_000)
    eval_steps: int = Field(20, ge=1, le=1_000_000)
    seed: int = Field(7, ge=0, le=2**32 - 1)


class Training(_Model):
    """How the night trains."""

    sft: SftRecipe = SftRecipe()
    dpo: DpoRecipe = DpoRecipe()
    quantize: Literal["none", "nf4"] = "none"  # nf4: QLoRA, the base model in four bits
    dtype: Literal["float32", "bfloat16"] = "float32"
    timeout_minutes: int = Field(240, ge=1, le=20_160)


class Retrieval(_Model):
    """How documents become an index."""

    chunk_tokens: int = Field(200, ge=16, le=256)  # of the embedder's tokens; MiniLM reads 256
    overlap_sentences: int = Field(1, ge=0, le=20)
    k: int = Field(3, ge=1, le=100)
    min_recall: Share = 0.99  # of the index against an exact scan, before a swap
    max_lost: Share = 0.5  # an index that lost ten documents and a larger share, or all, does not swap without a person
    leak_principals: int = Field(200, ge=1, le=100_000)  # generated callers in the leak test before a swap


class Principal(_Model):
    """A caller that the gateway may open a session for."""

    tenant: Name
    groups: tuple[str, ...] = ()
    clearance: Classification = "internal"


class Suite(_Model):
    """One file of evaluation cases."""

    name: Name
    path: Path
    gated: bool = True
    limit: int | None = Field(None, ge=1, le=1_000_000)  # the first so many cases, for a quick run


class Evaluation(_Model):
    """What the models are asked, and how."""

    suites: tuple[Suite, ...] = ()
    max_new_tokens: int = Field(64, ge=1, le=100_000)
    batch_size: int = Field(32, ge=1, le=4_096)
    confidence: float = Field(0.95, gt=0.5, lt=1)


class Threshold(_Model):
    """One line of the release policy, applied to a metric of the candidate with retrieval."""

    # Of a suite's cases; reference, likelihood and preference: of the locked test split, where there is no suite.
    metric: Literal["value", "source", "refusal", "format", "correct", "reference", "likelihood", "preference"]
    minimum: Share | None = None  # the lower end of the interval must reach it
    margin: Share | None = None  # non-inferiority: the paired difference to the champion may not fall below −margin


class Approval(_Model):
    """When a person answers for a release."""

    required: bool | None = None  # null: the risk tier decides
    timeout_hours: float = Field(24, gt=0, le=8_760)


class Release(_Model):
    """The release policy. It is sealed before training begins."""

    thresholds: tuple[Threshold, ...] = ()
    min_cases: int = Field(30, ge=1, le=1_000_000)
    approval: Approval = Approval()


class Freshness(_Model):
    """Ages in hours at which `nightshift status --strict` says no."""

    night: float = Field(36, gt=0, le=87_600)
    index: float = Field(36, gt=0, le=87_600)
    anchor: float = Field(36, gt=0, le=87_600)


class UseCase(_Model):
    """One assistant."""

    name: Name
    title: Line
    owner: Line
    risk_tier: Literal["minimal", "limited", "high"]
    documents: tuple[DocumentSource, ...] = Field(min_length=1)
    examples: tuple[ExampleSource, ...] = Field(min_length=1)
    schedule: Schedule = Schedule()
    splits: Splits = Splits()
    checks: Checks = Checks()
    base_model: BaseModelSource = BaseModelSource()
    training: Training = Training()
    retrieval: Retrieval = Retrieval()
    principals: dict[Login, Principal] = Field(default_factory=dict)
    evaluation: Evaluation = Evaluation()
    release: Release = Release()
    freshness: Freshness = Freshness()

    @property
    def asks_a_person(self) -> bool:
        """Returns whether every release needs a person's approval, whatever the gate says."""
        required = self.release.approval.required
        return self.risk_tier == "high" if required is None else required


def load(path: Path) -> UseCase:
    """Returns the use case of a YAML file, its paths made absolute (relative ones count from the file's folder).

    Raises BadInput that names the file, the key's path, the value found and what is allowed.
    """
    try:
        data = parsing.parse_yaml(path.read_bytes())
    except FileNotFoundError:
        raise BadInput("there is no such use case", where=path, next_step="`nightshift new usecase NAME`") from None
    except OSError as error:
        raise BadInput("the file cannot be read", where=path, found=error.strerror) from None
    except parsing.ParseError as error:
        place = f"{path}:{error.line}:{error.column or 1}" if error.line else path
        what = "this is not YAML" if "not YAML" in error.problem else "this YAML is not read"
        raise BadInput(what, where=place, found=error.problem) from None
    if not isinstance(data, dict):
        raise BadInput("a use case is a mapping of keys", where=path, found=type(data).__name__)
    try:
        usecase = UseCase.model_validate(_absolute(data, path.parent))
    except ValidationError as error:
        raise validation.told(error, UseCase, path) from None
    if usecase.name != path.parent.name:
        raise BadInput(
            "the name differs from the folder's", where=f"{path}: name", found=usecase.name, allowed=path.parent.name
        )
    for key, file in _paths(usecase):
        if not file.exists():
            raise BadInput("there is no such file or folder", where=f"{path}: {key}", found=file)
    return usecase


def find(settings: Settings, name: str) -> UseCase:
    """Returns the use case of this name. Raises BadInput, naming the nearest, where there is none."""
    path = settings.usecases / name / "usecase.yaml"
    if not path.exists():
        names = [file.parent.name for file in files(settings)]
        raise BadInput(
            "unknown use case", where=settings.usecases, found=name, allowed=nearest(name, names) or "none yet"
        )
    return load(path)


def read_all(settings: Settings) -> tuple[list[UseCase], dict[str, BadInput]]:
    """Returns the use cases that can be read, and by the name of its folder what is wrong with each of the others,
    whatever it is."""
    sound, broken = [], {}
    for path in files(settings):
        try:
            sound.append(load(path))
        except BadInput as error:
            broken[path.parent.name] = error
        except Exception as error:
            broken[path.parent.name] = BadInput("the use case cannot be read", where=path, found=type(error).__name__)
    return sound, broken


def files(settings: Settings) -> list[Path]:
    """Returns the YAML files of all use cases, in the order of their names."""
    return sorted(settings.usecases.glob("*/usecase.yaml"))


def _absolute(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Makes the paths of sources and suites absolute, where they are strings; other mistakes are pydantic's to find."""

    def resolve(entries: Any) -> Any:
        if not isinstance(entries, list):
            return entries
        return [
            {**entry, "path": str((folder / entry["path"]).resolve())}
            if isinstance(entry, dict) and isinstance(entry.get("path"), str)
            else entry
            for entry in entries
        ]

    data = dict(data)
    for key in ("documents", "examples"):
        if key in data:
            data[key] = resolve(data[key])
    if isinstance(data.get("evaluation"), dict) and "suites" in data["evaluation"]:
        data["evaluation"] = {**data["evaluation"], "suites": resolve(data["evaluation"]["suites"])}
    return data


def _paths(usecase: UseCase) -> list[tuple[str, Path]]:
    groups: list[tuple[str, Sequence[DocumentSource | ExampleSource | Suite]]] = [
        ("documents", usecase.documents),
        ("examples", usecase.examples),
        ("evaluation.suites", usecase.evaluation.suites),
    ]
    return [(f"{key}.{place}.path", entry.path) for key, entries in groups for place, entry in enumerate(entries)]
