"""The settings in force: what the use case's YAML says of training, and what stands fixed beside it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.errors import Refused, nearest
from pipeline.models import Device
from pipeline.training.records import Plan, Precision, PreflightFacts
from pipeline.usecase import Recipe, SftRecipe, Training

Method = Literal["pretrain", "sft", "dpo"]
METHODS: tuple[Method, ...] = get_args(Method)  # in the order in which they are trained

_ADAMW = "adamw_torch"
# On a GPU in four bits the optimizer's state takes eight, and moves to the machine's memory where the GPU's is full.
_PAGED = "paged_adamw_8bit"
# What of SFT's recipe an adapter is made by.
_SHAPE = ("lora_rank", "lora_alpha", "lora_dropout", "rslora", "dora", "target_modules")
# What changes when a training ends or goes on, and not what comes of it.
_WITHOUT_EFFECT = ("checkpoint_minutes",)


def measured(training: Training, precision: Precision) -> Training:
    """Returns the settings with what preflight chose in the place of `auto`."""
    return training.model_copy(update={"dtype": precision.dtype})


def planned(training: Training, facts: PreflightFacts, method: Method) -> Training:
    """Returns the settings with what preflight chose for a method: the precision, and passes that fit into memory."""
    chosen, plan = measured(training, facts.precision), facts.plans.get(method)
    if plan is None:
        return chosen
    passes = {"batch_size": plan.batch_size, "gradient_accumulation": plan.gradient_accumulation}
    return chosen.model_copy(update={method: getattr(chosen, method).model_copy(update=passes)})


def optimizer(training: Training, device: Device) -> str:
    """Returns the optimizer that a device trains with."""
    return _PAGED if training.quantize == "nf4" and device == "cuda" else _ADAMW


def recipe_of(training: Training, method: Method) -> Recipe:
    """Returns the recipe of a method."""
    recipes: dict[Method, Recipe] = {"pretrain": training.pretrain, "sft": training.sft, "dpo": training.dpo}
    return recipes[method]


def checkpointing(plan: Plan | None, device: Device) -> bool:
    """Returns whether activations are computed twice instead of kept; on a GPU, also where nothing was planned."""
    return device == "cuda" if plan is None else plan.gradient_checkpointing


def packs(training: Training, method: Method) -> bool:
    """Returns whether rows are laid end to end."""
    return method == "pretrain" or (method == "sft" and training.sft.packing)


def in_force(training: Training, method: Method, device: Device = "cpu", plan: Plan | None = None) -> dict[str, Any]:
    """Returns every setting that the result of a method depends on, as plain values."""
    recipe = recipe_of(training, method)
    own = {name: value for name, value in recipe.model_dump().items() if name not in _WITHOUT_EFFECT}
    own |= {"quantize": training.quantize, "dtype": training.dtype, "optim": optimizer(training, device)}
    if method == "pretrain":
        own |= {name: getattr(training.sft, name) for name in _SHAPE}
    own["gradient_checkpointing"] = checkpointing(plan, device)
    return {"method": method, **own}


def with_adapter(model: Any, recipe: SftRecipe) -> Any:
    """Returns the model with a new adapter of the recipe's shape. Raises Refused where its layers are not in it."""
    from peft import LoraConfig, get_peft_model

    targets = recipe.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        use_rslora=recipe.rslora,
        use_dora=recipe.dora,
        # Every linear layer but the output is what QLoRA found to matter most.
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias="none",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        if "arget modules" not in str(error):
            raise Refused(
                "PEFT puts no adapter on this model",
                where="base_model",
                found=str(error).partition("\n")[0],
                next_step="another training.sft.target_modules, or another base model",
            ) from None
        names = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)})
        raise Refused(
            "no layer of the model is called so",
            where="training.sft.target_modules",
            found=", ".join(targets),
            allowed=nearest(targets[0], ["all-linear", *names]),
        ) from None


def _is_linear(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Linear)


def arguments(
    recipe: Recipe,
    training: Training,
    *,
    folder: Path,
    device: Device,
    rows: int,
    validated: bool,
    checkpointing: bool,
) -> dict[str, Any]:
    """Returns the arguments that SFTConfig and DPOConfig share, for so many rows to train on.

    With `validated`, the loss on the validation rows is taken every `eval_steps` and at the end, and the checkpoint
    with the lowest is the one that counts. Checkpoints go to `folder`, which is private scratch; when, apart from the
    evaluations, is loop.py's to say.
    """
    every = min(recipe.eval_steps, steps(recipe, rows))
    common: dict[str, Any] = {
        "output_dir": str(folder),
        "learning_rate": recipe.learning_rate,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation,
        "max_length": recipe.max_length,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": device == "cpu",
        "bf16": training.dtype == "bfloat16",
        "gradient_checkpointing": checkpointing,
        "optim": optimizer(training, device),
        "lr_scheduler_type": recipe.lr_schedule if recipe.lr_schedule != "constant" else "constant_with_warmup",
        # Rounded down: the first step of a warm-up learns nothing, and a training may have no other.
        "warmup_steps": int(recipe.warmup * steps(recipe, rows)),
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "logging_steps": 1,
        # By default transformers shows the mean of what came before in the place of a loss that is no number.
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "eval_strategy": "no",
        "restore_callback_states_from_checkpoint": True,
    }
    if validated:
        common |= {
            "eval_strategy": "steps",
            "eval_steps": every,
            "save_strategy": "steps",
            "save_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return common


def steps(recipe: Recipe, rows: int) -> int:
    """Returns how many optimizer steps a recipe takes over so many rows, if it does not stop early."""
    return recipe.max_steps if recipe.max_steps > 0 else math.ceil(updates(recipe, rows) * recipe.epochs)


def updates(recipe: Recipe, rows: int) -> int:
    """Returns how many optimizer steps an epoch of so many rows has."""
    return max(math.ceil(math.ceil(rows / recipe.batch_size) / recipe.gradient_accumulation), 1)


def length(row: Mapping[str, Sequence[int]]) -> int:
    """Returns how many tokens a row, or the longer side of a pair, has."""
    if "input_ids" in row:
        return len(row["input_ids"])
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))
