"""The keys about training: a recipe a method, and what they share."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.usecase.types import Dtype, Line, LrSchedule, PreferenceLoss, Quantize, Section


class Recipe(Section):
    """What both methods of training have."""

    learning_rate: float = Field(2e-4, gt=0, le=1)
    """Higher learns faster, and forgets faster."""
    epochs: float = Field(3, gt=0, le=1_000)
    """How often each row is seen."""
    max_steps: int = Field(-1, ge=-1, le=10_000_000)
    """-1: as many as the epochs need."""
    max_minutes: float | None = Field(None, gt=0, le=20_160)
    """After which the best checkpoint so far counts; null: no such end. How far that is depends on the machine."""
    batch_size: int = Field(8, ge=1, le=4_096)
    """Rows in one forward pass; of pairs, or of packs, where there are such."""
    gradient_accumulation: int = Field(1, ge=1, le=4_096)
    """Passes to one step."""
    max_length: int = Field(1024, ge=16, le=1_000_000)
    """Tokens; longer rows are cut."""
    max_tokens: int | None = Field(None, ge=1_000, le=1_000_000_000_000)
    """Of the rows of an epoch: a random sample of them; of validation rows, a tenth as many. null: all rows. Of pairs,
    both sides count."""
    lr_schedule: LrSchedule = "cosine"
    """How the learning rate goes down after its warm-up."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises to its height."""
    weight_decay: float = Field(0.0, ge=0, le=1)
    """Of AdamW: how fast weights shrink by themselves."""
    max_grad_norm: float = Field(1.0, gt=0, le=1_000)
    """Longer gradients are cut to this."""
    patience: int = Field(3, ge=1, le=10_000)
    """Evaluations without improvement before it stops early."""
    eval_steps: int = Field(20, ge=1, le=1_000_000)
    """Steps between two evaluations on the validation split."""
    checkpoint_minutes: float = Field(5, ge=0, le=1_440)
    """A killed training loses so much at most; 0: a checkpoint after each step."""
    seed: int = Field(7, ge=0, le=2**32 - 1)
    """Of every random choice."""


class PretrainRecipe(Recipe):
    """Continued pretraining on plain texts, before anything else: the adapter that SFT goes on from."""

    enabled: bool = True
    """`false`: rows of the kind `text` are not trained on. `true` does nothing where there are none."""
    learning_rate: float = Field(1e-4, gt=0, le=1)
    """Lower than SFT's: it teaches words and facts, and should leave the rest."""
    epochs: float = Field(1, gt=0, le=1_000)
    """How often each text is seen."""
    batch_size: int = Field(1, ge=1, le=4_096)
    """Packs of max_length tokens in one forward pass: texts are laid end to end, none of which attends to another."""
    gradient_accumulation: int = Field(8, ge=1, le=4_096)
    """Passes to one step."""


class SftRecipe(Recipe):
    """Supervised fine-tuning with LoRA, by TRL."""

    packing: bool = False
    """Whether rows are laid end to end in packs of max_length, none of which attends to another: no padding, which pays
    on a GPU, and fewer, larger steps."""
    lora_rank: int = Field(16, ge=1, le=1_024)
    """The adapter's rank: more can learn more, and takes more memory."""
    lora_alpha: int = Field(32, ge=1, le=4_096)
    """The scale of the adapter, over its rank (with rslora: over the rank's root)."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the adapter's inputs that a step leaves out."""
    rslora: bool = False
    """Scale by the rank's root (https://arxiv.org/abs/2312.03732): for high ranks."""
    dora: bool = False
    """Train the weights' length and direction apart (https://arxiv.org/abs/2402.09353): more is learned at low ranks,
    in more time."""
    target_modules: Literal["all-linear"] | Annotated[tuple[Line, ...], Field(min_length=1)] = "all-linear"
    """Which layers the adapter goes on: all that are linear but the output, or names such as q_proj."""


class DpoRecipe(Recipe):
    """Preference tuning of the SFT adapter, by TRL."""

    enabled: bool = True
    """`false`: the candidate is the SFT adapter. `true` needs preference rows."""
    loss: PreferenceLoss = "dpo"
    """`dpo`: against the SFT adapter as reference; `orpo` (https://arxiv.org/abs/2403.07691): without a reference."""
    learning_rate: float = Field(5e-6, gt=0, le=1)
    """A tenth or less of what SFT takes."""
    epochs: float = Field(1, gt=0, le=1_000)
    """How often each pair is seen."""
    beta: float = Field(0.1, gt=0, le=100)
    """How near it stays to the SFT adapter: higher is nearer. Of `orpo`: how much the odds weigh beside likelihood."""


class Price(Section):
    """What a machine costs that trains."""

    hour: float = Field(gt=0, le=1_000_000)
    """An hour of it."""
    currency: str = Field("EUR", pattern=r"^[A-Z]{3}$")
    """By ISO 4217."""


class Training(Section):
    """How the night trains."""

    pretrain: PretrainRecipe = PretrainRecipe()
    """Continued pretraining, where there are rows of the kind `text`."""
    sft: SftRecipe = SftRecipe()
    """Supervised fine-tuning."""
    dpo: DpoRecipe = DpoRecipe()
    """Preference tuning."""
    quantize: Quantize = "none"
    """`nf4`: QLoRA, the base model in four bits."""
    dtype: Dtype | Literal["auto"] = "auto"
    """What is computed in. `auto`: bfloat16 where preflight measures that this machine is faster with it."""
    memory_gib: float | None = Field(None, gt=0, le=100_000)
    """What a training may take of the machine's memory, or the GPU's: passes are made smaller until they fit, and what
    cannot is refused. null: nine tenths of the machine's, or all of the GPU's."""
    price: Price | None = None
    """What training costs: reports state it. null: they do not."""
    timeout_minutes: int = Field(240, ge=1, le=20_160)
    """A training that takes longer is stopped, and has failed."""
