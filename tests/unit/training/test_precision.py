"""The choice of what is computed in: by what was measured, and bfloat16 only where it pays."""

from typing import Any

import pytest
from transformers import AutoConfig

from pipeline.settings import ROOT
from pipeline.training import precision
from pipeline.usecase import Dtype

pytestmark = pytest.mark.unit


def test_a_models_shapes_are_measured() -> None:
    config = AutoConfig.from_pretrained(ROOT / "models" / "tiny", local_files_only=True)
    chosen = precision.choose(config, "cpu")
    assert chosen.dtype in ("float32", "bfloat16")
    assert chosen.float32 is not None
    assert chosen.bfloat16 is not None
    assert min(chosen.float32, chosen.bfloat16) > 0
    assert (chosen.dtype == "bfloat16") is (chosen.float32 > 1.2 * chosen.bfloat16)


@pytest.mark.parametrize(
    ("bfloat16", "expected"), [(10e-6, "bfloat16"), (32e-6, "bfloat16"), (34e-6, "float32"), (400e-6, "float32")]
)
def test_bfloat16_has_to_be_a_fifth_faster(monkeypatch: pytest.MonkeyPatch, bfloat16: float, expected: Dtype) -> None:
    shapes: list[tuple[int, int]] = []

    def seconds(width: int, inner: int, dtype: Dtype, _device: str) -> float:
        shapes.append((width, inner))
        return 40e-6 if dtype == "float32" else bfloat16

    monkeypatch.setattr(precision, "_seconds", seconds)
    config: Any = AutoConfig.for_model("llama", hidden_size=96, intermediate_size=256)
    chosen = precision.choose(config, "cpu")
    assert (chosen.dtype, chosen.float32, chosen.bfloat16) == (expected, 40, round(bfloat16 * 1e6))
    assert set(shapes) == {(96, 256)}
