"""What a processor computes faster in: measured on the base model's own shapes, and never assumed.

With AVX512-BF16 or AMX a CPU trains some three times as fast in bfloat16 as in float32; without, several times slower.
"""

import time
from collections.abc import Callable
from typing import Any

from pipeline.models import Device
from pipeline.training.records import Precision
from pipeline.usecase import Dtype

_TOKENS = 256  # in one product
_TIMES = 7  # of which the quickest counts: what else the machine does only adds
_MARGIN = 1.2  # bfloat16 has to be so much faster: it rounds to three digits


def choose(config: Any, device: Device) -> Precision:
    """Returns what a model of this transformers configuration is computed in on a device, with what was measured."""
    width, inner = _shape(config)
    seconds: dict[Dtype, float] = {dtype: _seconds(width, inner, dtype, device) for dtype in ("float32", "bfloat16")}
    dtype: Dtype = "bfloat16" if seconds["float32"] > _MARGIN * seconds["bfloat16"] else "float32"
    return Precision(dtype, round(seconds["float32"] * 1e6), round(seconds["bfloat16"] * 1e6))


def product_rate(config: Any, dtype: Dtype, device: Device) -> float:
    """Returns how many floating-point operations a second the device makes in a layer's largest products."""
    width, inner = _shape(config)
    return 4 * _TOKENS * width * inner / _seconds(width, inner, dtype, device)


def _shape(config: Any) -> tuple[int, int]:
    """Returns the width of the model, and that of a layer within."""
    text = config.get_text_config()
    width = int(text.hidden_size)
    return width, int(getattr(text, "intermediate_size", None) or 4 * width)


def _seconds(width: int, inner: int, dtype: Dtype, device: Device) -> float:
    """Returns how long one layer's largest product takes, forward and backward."""
    import torch

    kind = getattr(torch, dtype)
    rows = torch.ones(_TOKENS, width, dtype=kind, device=device)
    weight = torch.ones(inner, width, dtype=kind, device=device)
    gradient = torch.ones(_TOKENS, inner, dtype=kind, device=device)

    def work() -> None:
        torch.nn.functional.linear(rows, weight)
        gradient @ weight
        if device == "cuda":
            torch.cuda.synchronize()

    return quickest(work)


def quickest(work: Callable[[], None]) -> float:
    """Returns how long a piece of work takes in seconds: the quickest of several times, after one that warms up."""
    work()
    return min(_timed(work) for _ in range(_TIMES))


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
