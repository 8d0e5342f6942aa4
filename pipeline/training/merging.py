"""A base model with an adapter added into its weights: 16 bits, as every server opens it, and how far that is from what
was trained and evaluated."""

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import models
from pipeline.chat import Chat
from pipeline.models import BaseModel
from pipeline.training import gguf_file
from pipeline.training.gguf_file import Quantization
from pipeline.training.records import Drift, Moved
from pipeline.usecase import Dtype, Quantize

# What two models are compared on: of no use case, so that no text of one leaves it.
_QUESTIONS = (
    "What is this assistant for?",
    "Which document says how long records are kept?",
    "Is a written approval needed, and who gives it?",
    "Summarise the rule in one sentence and name its source.",
    "How many days are there between the first of March and the tenth of May?",
    "What changed in the last version?",
    "List two exceptions and the amounts that they hold for.",
    "Who may read this?",
)
_SHARD = "4GB"


@dataclass(frozen=True)
class Measured:
    """A base model with an adapter beside it, computed as it was trained: what others are held against."""

    scores: Sequence[Any]  # of each prompt's positions
    moved: Moved


def measure(base: BaseModel, adapter: Path, *, dtype: Dtype, quantize: Quantize) -> Measured:
    """Returns how the base model scores with the adapter, and how far that moved it. Raises as `models.load` does."""
    own, tokenizer = models.load(
        base.folder, adapter=adapter, digest=base.digest, dtype=dtype, quantize=quantize, trainable=True
    )
    own.eval()
    prompts = _prompts(tokenizer)
    apart = _scores(own, prompts)
    with own.disable_adapter():
        return Measured(apart, _moved(own, apart, _scores(own, prompts)))


def merge(base: BaseModel, adapter: Path, folder: Path, beside: Measured, quantization: Quantization | None) -> Drift:
    """Writes the merged model into a folder: safetensors in bfloat16, configuration, tokenizer, chat template and how
    it generates; or, with `quantization`, one GGUF file. Returns how far its scores, read back from a GGUF, are from
    those of the base model with the adapter beside it.

    The sum is taken in float32 and rounded once. A model that was trained in four bits is merged from its base in 16.
    Raises as `models.load` does, and as `gguf_file.write` and `gguf_file.require_same`.
    """
    merged, tokenizer = models.load(base.folder, adapter=adapter, digest=base.digest, dtype="bfloat16")
    prompts = _prompts(tokenizer)
    rounded = _scores(merged, prompts)
    merged.generation_config = _generation(merged, tokenizer)
    merged.save_pretrained(str(folder), max_shard_size=_SHARD)
    tokenizer.save_pretrained(str(folder))
    del merged
    gc.collect()
    if quantization is None:
        return _drift(beside.scores, rounded)
    target = folder / gguf_file.FILE
    gguf_file.write(folder, target, quantization)
    read = _scores(gguf_file.opened(target), prompts)
    gguf_file.require_same(_drift(rounded, read), quantization)
    gguf_file.only_file(folder)
    return _drift(beside.scores, read)


def _prompts(tokenizer: Any) -> list[list[int]]:
    chat = Chat(tokenizer)
    return [chat.prompt([{"role": "user", "content": question}]) for question in _QUESTIONS]


def _scores(model: Any, prompts: Sequence[Sequence[int]]) -> list[Any]:
    """Returns the scores of each prompt's positions, tensors of shape (length, vocabulary) in float32."""
    import torch

    with torch.no_grad():
        return [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float() for ids in prompts]


def _drift(apart: Sequence[Any], merged: Sequence[Any]) -> Drift:
    import torch

    differences = torch.cat([(one - other).abs().flatten() for one, other in zip(apart, merged, strict=True)])
    same = torch.cat([one.argmax(-1) == other.argmax(-1) for one, other in zip(apart, merged, strict=True)])
    return Drift(
        positions=len(same),
        largest=round(float(differences.max()), 4),
        mean=round(float(differences.mean()), 5),
        same_token=round(float(same.float().mean()), 4),
    )


def _moved(model: Any, with_adapter: Sequence[Any], without: Sequence[Any]) -> Moved:
    """Returns how far an adapter moves the model that it is on."""
    drift = _drift(without, with_adapter)
    norms: dict[str, float] = {}
    trainable = sum(weight.numel() for name, weight in model.named_parameters() if "lora_" in name)
    for name, layer in _layers(model):
        norms[name] = max(norms.get(name, 0.0), float(layer.get_delta_weight("default").float().norm()))
    # A weight in four bits is stored two to a byte.
    total = int(model.get_base_model().num_parameters()) - trainable
    largest = {name: round(norm, 4) for name, norm in sorted(norms.items())}
    return Moved(largest, drift.largest, drift.mean, drift.same_token, trainable, total)


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name.rpartition(".")[2], module


def _generation(model: Any, tokenizer: Any) -> Any:
    """Returns how the model generates: greedily, as it was evaluated, without what a base model's authors set."""
    from transformers import GenerationConfig

    own = model.generation_config
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    known = {token for token in ends if token is not None} | {Chat(tokenizer).end}
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        bos_token_id=own.bos_token_id,
        eos_token_id=sorted(known),
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    )
