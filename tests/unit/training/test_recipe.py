"""Settings in force, and the arguments that they become."""

from pathlib import Path

import pytest

from pipeline.training import recipe
from pipeline.usecase import DpoRecipe, SftRecipe, Training

pytestmark = pytest.mark.unit


def test_settings_in_force_hold_the_yaml_and_what_is_fixed() -> None:
    told = recipe.in_force(Training(sft=SftRecipe(learning_rate=1e-3), quantize="nf4"), "sft")
    assert told["learning_rate"] == 1e-3
    assert told["quantize"] == "nf4"
    assert told["target_modules"] == "all-linear"
    assert told["lr_schedule"] == "cosine"
    assert "target_modules" not in recipe.in_force(Training(), "dpo")  # the adapter's shape is SFT's
    assert told["optim"] == "adamw_torch"
    on_gpu = recipe.in_force(Training(quantize="nf4"), "sft", "cuda")
    assert on_gpu["optim"] == "paged_adamw_8bit"


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_every_setting_of_a_recipe_counts(method: recipe.Method) -> None:
    fields = (SftRecipe if method == "sft" else DpoRecipe).model_fields
    # When a checkpoint is written changes nothing of what is learned.
    assert fields.keys() - {"checkpoint_minutes"} <= recipe.in_force(Training(), method).keys()


@pytest.mark.parametrize(
    ("told", "rows", "steps"),
    [
        ({"max_steps": 5}, 1000, 5),
        ({"epochs": 3, "batch_size": 8}, 16, 6),
        ({"epochs": 3, "batch_size": 8}, 17, 9),
        ({"epochs": 1, "batch_size": 8, "gradient_accumulation": 4}, 17, 1),
        ({"epochs": 0.5, "batch_size": 8}, 80, 5),
    ],
)
def test_steps(told: dict[str, float], rows: int, steps: int) -> None:
    assert recipe.steps(SftRecipe.model_validate(told), rows) == steps


def test_a_short_training_is_validated_within_its_steps() -> None:
    training = Training(sft=SftRecipe(eval_steps=20, epochs=1, batch_size=8))
    given = recipe.arguments(
        training.sft, training, folder=Path("x"), device="cpu", rows=24, validated=True, checkpointing=False
    )
    assert given["eval_steps"] == given["save_steps"] == 3
    assert given["logging_steps"] == 1
    assert not given["logging_nan_inf_filter"]
    assert given["load_best_model_at_end"]
    assert given["use_cpu"]
    assert not given["gradient_checkpointing"]
    assert not given["bf16"]


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (19, 0), (20, 1), (30, 1), (400, 20)])
def test_a_short_training_has_no_warm_up(steps: int, warmup: int) -> None:
    training = Training(sft=SftRecipe(max_steps=steps, warmup=0.05))
    given = recipe.arguments(
        training.sft, training, folder=Path("x"), device="cpu", rows=24, validated=False, checkpointing=False
    )
    assert given["warmup_steps"] == warmup


def test_without_validation_rows_nothing_is_saved_on_the_way() -> None:
    training = Training(dtype="bfloat16")
    given = recipe.arguments(
        training.dpo, training, folder=Path("x"), device="cuda", rows=24, validated=False, checkpointing=True
    )
    assert given["eval_strategy"] == given["save_strategy"] == "no"
    assert "load_best_model_at_end" not in given
    assert given["gradient_checkpointing"]
    assert given["bf16"]
