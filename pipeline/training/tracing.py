"""What a training step takes, before anything is trained: one step of the model's own code with tensors that have a
shape and no content (torch's FakeTensorMode), so that every architecture is counted as it computes.

What is counted: the bytes alive at once, the floating-point operations, and the bytes that operations write.
"""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

from pipeline.models import Device
from pipeline.training import head, recipe
from pipeline.training.counter import counter
from pipeline.training.recipe import Method
from pipeline.usecase import Quantize, Training

# NF4 with double quantisation: four bits, and per 64 weights a scale of eight bits and 1/256 of one of 32.
_NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
_TRACED = (4, 8)  # layers
# Measured: what a first step leaves behind is twice the largest matrix, which MKL lays out anew for the forward and the
# backward product.
_BUFFERS = 2
# The name of torch's attention in a trace. Under its own, transformers makes a mask for tensors without content even
# where there is nothing to mask, since it could not look; real ones it spares.
_ATTENTION = "traced_sdpa"


class Untraceable(Exception):
    """A model whose step cannot be followed without contents: which way it goes depends on them, as in mixtures of
    experts, or torch does not know the shapes of what an operation of it gives."""


@dataclass(frozen=True)
class Shape:
    """One pass through the model."""

    rows: int  # pairs, in preference tuning
    length: int  # tokens of each
    supervised: int  # of them scored
    masked: bool  # whether attention needs a mask: of rows of unlike length, or of rows in a pack


@dataclass(frozen=True)
class StepCost:
    """What one pass, forward and backward, takes."""

    weights: float  # bytes of the base model and its adapter
    passing: float  # bytes of all else alive at once: activations, gradients, the optimizer's state
    buffers: float  # bytes that a CPU's library of products keeps for itself
    operations: float  # floating-point operations
    forward: float  # those of them that the forward pass makes
    written: float  # bytes, by all operations together
    calls: float  # of operations


class Tracer:
    """A base model of this configuration with a new adapter, without weights."""

    def __init__(self, config: Any, training: Training, device: Device) -> None:
        """Builds it on no device: it takes no memory. Raises Refused where the recipe's layers are not in it."""
        self._training, self._device = training, device
        self._whole = whole = _built(config, training)
        self.parameters: int = sum(weight.numel() for weight in whole.get_base_model().parameters())
        self.trainable: int = sum(weight.numel() for weight in whole.parameters() if weight.requires_grad)
        self.parameters -= self.trainable
        text = config.get_text_config()
        self.layers: int = text.num_hidden_layers
        windowed = getattr(text, "use_sliding_window", True)
        self._window: int | None = getattr(text, "sliding_window", None) if windowed else None
        self._known: dict[tuple[Method, Shape, bool], StepCost] = {}
        # Layers are alike: of many, a few are traced, and what each of the others adds.
        counts = (self.layers,) if self.layers <= max(_TRACED) else _TRACED
        self._models = {n: whole if n == self.layers else _built(_shortened(config, n), training) for n in counts}

    def cost(self, method: Method, shape: Shape, checkpointing: bool) -> StepCost:
        """Returns what a pass of this shape takes, with gradient checkpointing or without. Raises Untraceable."""
        if self._window is not None and self._window < shape.length:
            shape = replace(shape, masked=True)
        key = (method, shape, checkpointing)
        if key not in self._known:
            self._known[key] = self._extended(*key)
        return self._known[key]

    def _extended(self, method: Method, shape: Shape, checkpointing: bool) -> StepCost:
        """Returns what a pass takes, from what it takes with a few layers and with more."""
        costs = {count: self._followed(model, method, shape, checkpointing) for count, model in self._models.items()}
        if len(costs) == 1:
            return costs[self.layers]
        (few, small), (more, large) = costs.items()
        times = (self.layers - few) / (more - few)

        def extended(name: str) -> float:
            low, high = getattr(small, name), getattr(large, name)
            return float(low + times * (high - low))

        return StepCost(**{field.name: extended(field.name) for field in fields(StepCost)})

    def saved_by_nf4(self) -> float:
        """Returns the bytes that the base model's weights would take less in four bits."""
        return _resident(self._whole, "none") - _resident(self._whole, "nf4")

    def _followed(self, model: Any, method: Method, shape: Shape, checkpointing: bool) -> StepCost:
        """Returns what a pass of a model takes. One that makes its masks itself is followed without any."""
        failed = None
        with _silent("torch._subclasses.fake_tensor"):
            for tried in dict.fromkeys((shape, replace(shape, masked=False))):
                try:
                    return self._traced(model, method, tried, checkpointing)
                except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
                    failed = failed or f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise Untraceable(failed)

    def _traced(self, model: Any, method: Method, shape: Shape, checkpointing: bool) -> StepCost:
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode

        count = counter()
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with _checkpointing(model, checkpointing), fake, _on_device(model, self._device), count:
            for weight in model.parameters():
                count.add(weight)
            resident = count.alive
            optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])
            with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._training.dtype == "bfloat16"):
                loss = _LOSSES[method](model, shape, self._device)
            forward = count.operations
            loss.backward()
            optimizer.step()
            del loss, optimizer
        return StepCost(
            weights=_resident(model, self._training.quantize),
            passing=count.peak - resident,
            buffers=_BUFFERS * 4 * max(weight.numel() for weight in model.parameters()) * (self._device == "cpu"),
            operations=count.operations,
            forward=forward,
            written=count.written - resident,
            calls=count.calls,
        )


def _resident(model: Any, quantize: Quantize) -> float:
    """Returns the bytes of the weights and the adapter."""
    import torch

    four_bits = set()
    if quantize == "nf4":
        output = model.get_output_embeddings()
        linear = [module for module in model.get_base_model().modules() if isinstance(module, torch.nn.Linear)]
        four_bits = {id(module.weight) for module in linear if module is not output and not module.weight.requires_grad}
    sizes = [
        weight.numel() * (_NF4_BYTES if id(weight) in four_bits else weight.element_size())
        for weight in model.parameters()
    ]
    return float(sum(sizes))


def _built(config: Any, training: Training) -> Any:
    """Returns a model of this configuration with a new adapter, on no device."""
    import torch
    from transformers import AttentionInterface, AutoModelForCausalLM
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, training.dtype))  # type: ignore[no-untyped-call]
        model = recipe.with_adapter(model, training.sft)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()  # adapters are trained in float32
    text = model.get_base_model().config.get_text_config()
    if text._attn_implementation == "sdpa":
        text._attn_implementation = _ATTENTION
        AttentionInterface.register(_ATTENTION, sdpa_attention_forward)
    return model.train()


def _shortened(config: Any, layers: int) -> Any:
    """Returns the configuration of the same model with fewer layers."""
    short = copy.deepcopy(config)
    text = short.get_text_config()
    whole = text.num_hidden_layers
    for name, value in vars(text).items():
        if isinstance(value, list) and len(value) == whole:  # one entry a layer, such as `layer_types`
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return short


def _supervised(model: Any, shape: Shape, device: Device) -> Any:
    import torch

    ids = torch.zeros(shape.rows, shape.length, dtype=torch.long, device=device)
    inputs = {"input_ids": ids, "labels": torch.zeros_like(ids), "attention_mask": _mask(shape, shape.rows, device)}
    return head.loss_at(torch.arange(shape.supervised, device=device), model, inputs)


def _preferred(model: Any, shape: Shape, device: Device) -> Any:
    import torch

    ids = torch.zeros(2 * shape.rows, shape.length, dtype=torch.long, device=device)
    mask = _mask(shape, 2 * shape.rows, device)
    places = torch.arange(shape.supervised, device=device)
    chosen, rejected = head.log_probs_at(places, model, ids, mask, torch.ones_like(ids)).chunk(2)
    return -torch.nn.functional.logsigmoid(chosen - rejected).mean()


def _mask(shape: Shape, rows: int, device: Device) -> Any:
    """Returns the mask as attention takes it, or none: looking at what a mask holds is what a trace cannot do."""
    import torch

    if not shape.masked:
        return None
    return torch.ones(rows, 1, shape.length, shape.length, dtype=torch.bool, device=device)


_LOSSES: dict[Method, Callable[[Any, Shape, Device], Any]] = {
    "pretrain": _supervised,
    "sft": _supervised,
    "dpo": _preferred,
}


@contextmanager
def _checkpointing(model: Any, wanted: bool) -> Iterator[None]:
    """Has activations computed twice inside the block, where that is wanted."""
    if not wanted:
        yield
        return
    model.activation_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
        model.disable_input_require_grads()  # which that leaves on


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keeps a logger's errors to itself inside the block: each is raised as well."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _on_device(model: Any, device: Device) -> Iterator[None]:
    """Makes the model's tensors stand on a device inside the block, in the tracing mode around it."""
    import torch

    kept: list[tuple[dict[str, Any], str, Any]] = []
    moved: dict[int, Any] = {}  # tied weights stay one
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                kept.append((tensors, name, tensor))
                if id(tensor) not in moved:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                    is_weight = isinstance(tensor, torch.nn.Parameter)
                    moved[id(tensor)] = torch.nn.Parameter(empty, tensor.requires_grad) if is_weight else empty
    for tensors, name, tensor in kept:
        tensors[name] = moved[id(tensor)]
    try:
        yield
    finally:
        for tensors, name, tensor in kept:
            tensors[name] = tensor
