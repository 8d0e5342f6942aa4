"""What both methods give a TRL trainer: the model, the rows that can be learned from, and the shared arguments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import models
from pipeline.chat import Chat
from pipeline.encoding import Content
from pipeline.models import BaseModel, Device
from pipeline.settings import Settings
from pipeline.training import allocator, loop, packing, recipe, rows
from pipeline.training.head import IGNORED
from pipeline.training.job import Job, Passes
from pipeline.training.order import Order
from pipeline.training.recipe import Method
from pipeline.training.records import Plan, Split
from pipeline.training.rows import Kept
from pipeline.usecase import Training

Rows = Mapping[Split, Kept]


@dataclass(frozen=True)
class Ready:
    """What a trainer is made of."""

    device: Device
    training: Training
    method: Method
    model: Any  # with the adapter that is trained, under the name "default"
    tokenizer: Any
    rows: Rows  # as they are trained: tokens, packed where the recipe says so
    root: Path  # of the checkpoints
    plan: Plan | None  # as preflight made it


def ready(
    settings: Settings,
    training: Training,
    method: Method,
    base: BaseModel,
    contents: Mapping[Split, Sequence[Content]],
    root: Path,
    adapter: Path | None = None,
    plan: Plan | None = None,
) -> Ready:
    """Returns what a trainer of this method is made of: the base model, with the adapter that is given or a new one of
    the recipe's shape, and the rows by split, as tokens: a trainer prepares them no further.

    Raises Refused where no train row can be learned from, or where rows of a pack would attend to each other.
    """
    from transformers import set_seed

    if allocator.is_tight(plan):
        allocator.give_back()
    chosen = recipe.recipe_of(training, method)
    device = models.device(settings.device)
    assert training.dtype != "auto"  # recipe.measured
    model, tokenizer = models.load(
        base.folder,
        adapter=adapter,
        digest=base.digest,
        device=device,
        dtype=training.dtype,
        quantize=training.quantize,
        trainable=True,
    )
    chat = Chat(tokenizer)
    kept: dict[Split, Kept] = {
        split: rows.kept(method, content, chat, chosen.max_length, rows.budget(chosen, split))
        for split, content in contents.items()
    }
    rows.require(kept["train"], rows.KINDS[method], chosen.max_length)
    if recipe.packs(training, method):
        packing.require_apart(model, kept["train"].rows)
        kept["train"] = packing.packed(kept["train"], chosen.max_length)
    if adapter is None:
        set_seed(training.sft.seed)  # the adapter's first weights are drawn
        model = recipe.with_adapter(model, training.sft)
    return Ready(device, training, method, model, tokenizer, kept, root, plan)


def job(parts: Ready, build: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Job:
    """Returns the training of these parts. `build` makes the method's trainer of the arguments that every trainer takes
    and of those that every configuration takes."""
    from datasets import Dataset

    chosen = recipe.recipe_of(parts.training, parts.method)
    count, validated = len(parts.rows["train"].rows), bool(parts.rows["validation"].rows)
    lengths = [recipe.length(row) for row in parts.rows["train"].rows]
    untouched = _weights(parts.model)
    datasets = {split: Dataset.from_list(kept.rows) if kept.rows else None for split, kept in parts.rows.items()}

    def make(passes: Passes) -> Any:
        _restore(parts.model, untouched)
        own = chosen.model_copy(update={"batch_size": passes.rows, "gradient_accumulation": passes.accumulation})
        config = recipe.arguments(
            own,
            parts.training,
            folder=parts.root,
            device=parts.device,
            rows=count,
            validated=validated,
            checkpointing=recipe.checkpointing(parts.plan, parts.device),
        )
        trainer = build(
            {
                "model": parts.model,
                "train_dataset": datasets["train"],
                "eval_dataset": datasets["validation"],
                "processing_class": parts.tokenizer,
                "callbacks": loop.callbacks(chosen.patience, validated),
            },
            config,
        )
        step = passes.rows * passes.accumulation
        updates = recipe.updates(own, count)
        trainer.order = Order(
            lengths,
            step,
            grouped=chosen.batch_size > 1,
            seed=chosen.seed,
            epoch=lambda: trainer.state.global_step // updates,
        )
        return loop.only_logs(trainer)

    return Job(
        what=parts.method.upper(),
        recipe=chosen,
        device=parts.device,
        rows={split: kept.counts() for split, kept in parts.rows.items()},
        root=parts.root,
        every=min(chosen.eval_steps, recipe.steps(chosen, count)),
        build=make,
        validated=validated,
        plan=parts.plan,
        price=parts.training.price,
    )


def counting(base: Any) -> Any:
    """Returns a TRL trainer's class that takes rows in our order and counts the tokens that it passes through."""

    class Counting(base):  # type: ignore[misc]
        order: Order
        tokens = 0
        supervised = 0

        def _get_train_sampler(self, *_: Any) -> Order:
            return self.order

        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            mask = inputs.get("attention_mask")
            self.tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
            learned = inputs["labels"] != IGNORED if "labels" in inputs else inputs["completion_mask"]
            self.supervised += int(learned.sum())
            return super().training_step(model, inputs, *rest)

    return Counting


def _weights(model: Any) -> dict[str, Any]:
    """Returns a copy of the adapter's weights, as they are before the first step."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def _restore(model: Any, weights: Mapping[str, Any]) -> None:
    """Makes the adapter what it was before the first step, without what a trainer that gave up added."""
    import torch

    if "ref" in model.peft_config:
        model.delete_adapter("ref")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in weights:
                weight.copy_(weights[name])
                weight.grad = None
