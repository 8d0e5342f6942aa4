"""What the training stage hands on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from pipeline.chat import Form
from pipeline.steps import Version
from pipeline.usecase import Dtype

Split = Literal["train", "validation"]
Format = Literal["merged", "peft", "gguf-f16", "gguf-q8_0", "gguf-q4_1"]


@dataclass(frozen=True)
class RowCounts:
    """The rows of a split that a method can learn from, and the others by reason."""

    rows: int
    tokens: int  # of the rows kept, as they are trained: cut to the recipe's max_length
    supervised_tokens: int  # tokens among them that the loss is taken on
    cut: int  # rows longer than max_length, trained on their beginning
    last_only: (
        int  # conversations of which the last answer alone is supervised, as the template writes earlier ones anew
    )
    rejected: Mapping[str, int]
    left_out: int = 0  # that the recipe's max_tokens had no room for


@dataclass(frozen=True)
class Precision:
    """What models are computed in, and what that was measured by: a layer's largest product in microseconds. Nothing
    was measured where the use case says what it wants."""

    dtype: Dtype
    float32: int | None = None
    bfloat16: int | None = None


@dataclass(frozen=True)
class Plan:
    """How a method is trained on this machine, and what preflight expects it to take."""

    batch_size: int  # rows in a pass: the recipe's, or fewer
    gradient_accumulation: int  # passes to a step
    gradient_checkpointing: bool  # whether activations are computed twice instead of kept
    memory_mib: int  # at the peak: of the process, or of the GPU
    budget_mib: int  # that it may take
    seconds: int  # without an early end, with nothing else at work
    parameters: int  # of the base model
    trainable: int  # of the adapter


@dataclass(frozen=True)
class Cost:
    """What a training cost, by the use case's price of an hour."""

    amount: float
    currency: str


@dataclass(frozen=True)
class PreflightFacts:
    """What preflight measured."""

    template: Form
    precision: Precision
    sft: Mapping[Split, RowCounts]
    preference: Mapping[Split, RowCounts] | None  # None where preference tuning is switched off
    text: Mapping[Split, RowCounts] | None = None  # None where texts are not trained on
    plans: Mapping[str, Plan] = field(default_factory=dict)  # by method


@dataclass(frozen=True)
class Prepared:
    """What the night trains on, pinned by preflight."""

    run: UUID
    reused: bool
    base: Version
    dataset: Version
    dataset_version: int
    facts: PreflightFacts
    waiting: int | None = None  # a newer version that persons have not signed
    weights: Mapping[str, float] = field(default_factory=dict)  # how often rows of sources are trained on, if not once


@dataclass(frozen=True)
class Measures:
    """What a training measured and took. Losses are means per supervised token, in nats."""

    steps: int
    steps_planned: int
    best_step: int | None  # whose checkpoint counts; None without validation rows
    train_loss: float | None  # the last that was logged
    eval_loss: float | None  # the best on the validation rows; None without any
    eval_loss_before: float | None  # of the model that the training began with; SFT alone takes it
    stopped_early: bool
    seconds: float
    threads: int
    device: str
    peak_memory_mib: int  # of the GPU, or of the process
    rows: Mapping[Split, RowCounts]
    overfitted: bool = False  # the validation loss rose after its best while the training loss fell on
    resumed_from: int | None = None  # the step that an earlier try was killed after
    seconds_before: float = 0.0  # that tries before this one took
    batch_size: int | None = None  # rows in a pass, in the end: fewer than the recipe's where memory ran out
    gradient_accumulation: int | None = None
    eval_accuracy: float | None = None  # of pairs, where the loss was best: share whose chosen side became likelier
    plan: Plan | None = None  # what preflight expected
    cost: Cost | None = None  # of this try and those before; None where the use case names no price


@dataclass(frozen=True)
class TuningFacts:
    """How a method ended."""

    tuned: bool
    why: str | None  # why not, where the adapter is the one before it, unchanged
    training: Measures | None


@dataclass(frozen=True)
class Tuned:
    """An adapter that SFT or DPO gave."""

    run: UUID
    reused: bool
    adapter: Version
    facts: TuningFacts


@dataclass(frozen=True)
class Drift:
    """How far the scores of two models are apart, over the same prompts; scores are logits."""

    positions: int  # compared
    largest: float
    mean: float
    same_token: float  # share of the positions at which the likeliest token is the same, in [0, 1]


@dataclass(frozen=True)
class Moved:
    """How far an adapter moves its base model."""

    norms: Mapping[str, float]  # of what it adds to the weights: by kind of layer, the largest
    largest: float  # of the differences of the scores
    mean: float
    same_token: float
    trainable: int  # parameters
    total: int  # of the base model


@dataclass(frozen=True)
class Wanted:
    """What an export is to be."""

    form: Format


@dataclass(frozen=True)
class ExportFacts:
    """What an export measured."""

    drift: Drift | None  # of the merged model to base and adapter; None where they stay apart
    moved: Moved


@dataclass(frozen=True)
class ExportRun:
    """What the training process hands back of an export."""

    facts: ExportFacts
    merged: Version | None
    reused: bool
    run: UUID


@dataclass(frozen=True)
class Exported:
    """A folder that others open."""

    folder: str
    format: Format
    adapter: str  # digest
    merged: str | None  # digest of the merged model's artifact
    files: Mapping[str, int]  # sizes in bytes
    drift: Drift | None
    reused: bool
    run: UUID
