"""The settings in force: what the use case's YAML says of training, and what stands fixed beside it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.models import Device
from pipeline.training.records import Precision
from pipeline.usecase import DpoRecipe, SftRecipe, Training

Method = Literal["sft", "dpo"]

# What no use case has needed to turn. They are part of the cache key and of recipe.json, as the YAML's settings are.
SCHEDULE: Mapping[str, Any] = {
    "optim": "adamw_torch",
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.05,  # below 1, transformers takes it as a share of all steps
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
}
LORA: Mapping[str, Any] = {
    "task_type": "CAUSAL_LM",
    "target_modules": "all-linear",  # every linear layer but the output: what QLoRA found to matter most
    "lora_dropout": 0.0,
    "bias": "none",
}


def measured(training: Training, precision: Precision) -> Training:
    """Returns the settings with what preflight chose in the place of `auto`."""
    return training.model_copy(update={"dtype": precision.dtype})


def in_force(training: Training, method: Method) -> dict[str, Any]:
    """Returns every setting that the result of a method depends on, as plain values."""
    recipe = training.sft if method == "sft" else training.dpo
    fixed = {**SCHEDULE, **(LORA if method == "sft" else {})}
    return {"method": method, **recipe.model_dump(), "quantize": training.quantize, "dtype": training.dtype, **fixed}


def arguments(
    recipe: SftRecipe | DpoRecipe, training: Training, *, folder: Path, device: Device, rows: int, validated: bool
) -> dict[str, Any]:
    """Returns the arguments that SFTConfig and DPOConfig share, for so many rows to train on.

    With `validated`, the loss on the validation rows is taken every `eval_steps` and at the end, and the checkpoint
    with the lowest is the one that counts. Checkpoints go to `folder`, which is scratch.
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
        # It buys memory with time. On a CPU there is memory enough for what a CPU can train.
        "gradient_checkpointing": device == "cuda",
        "logging_steps": every,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "eval_strategy": "no",
        **SCHEDULE,
    }
    if validated:
        common |= {
            "eval_strategy": "steps",
            "eval_steps": every,
            "save_strategy": "steps",
            "save_steps": every,
            "save_total_limit": 1,  # the best is kept beside the last
            "save_only_model": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return common


def steps(recipe: SftRecipe | DpoRecipe, rows: int) -> int:
    """Returns how many optimizer steps a recipe takes over so many rows, if it does not stop early."""
    if recipe.max_steps > 0:
        return recipe.max_steps
    batches = math.ceil(rows / recipe.batch_size)
    return math.ceil(max(math.ceil(batches / recipe.gradient_accumulation), 1) * recipe.epochs)
