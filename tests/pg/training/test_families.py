"""The whole chain on random weights in other families' shapes: texts, SFT, DPO, an export that scores the same."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline import training
from pipeline.context import Context
from pipeline.settings import Settings
from pipeline.steps import Origin, Version
from pipeline.training.records import Tuned
from pipeline.usecase import UseCase
from tests.pg.training.conftest import VOCABULARY, write_tokenizer

pytestmark = pytest.mark.pg

_SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "vocab_size": VOCABULARY}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
# Qwen: keys that are normed, fewer of them than queries. Gemma: a window, layers of two kinds, wide heads.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "qwen3": {"num_hidden_layers": 2, "num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True},
    "gemma3_text": {
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


def model(family: str, folder: Path) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(11)
    config = AutoConfig.for_model(family, **_SMALL, **SHAPES[family], **_TOKENS)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    write_tokenizer(folder)
    return folder


def improved(tuned: Tuned | None) -> bool:
    assert tuned is not None
    measured = tuned.facts.training
    assert measured is not None
    assert measured.eval_loss is not None
    return measured.eval_loss < (measured.eval_loss_before or 0.6931)


@pytest.mark.parametrize("family", ["qwen3", pytest.param("gemma3_text", marks=pytest.mark.slow)])
def test_a_family_is_trained_by_every_method_and_exported(
    family: str,
    settings: Settings,
    origin: Origin,
    usecase: Callable[..., UseCase],
    commit: Callable[..., Version],
    tmp_path: Path,
) -> None:
    commit(40, 20, 30)
    context = Context(settings, usecase(model(family, tmp_path / "model")), origin)
    prepared = training.preflight(context)
    pretrained = training.pretrain(context, prepared)
    tuned = training.sft(context, prepared, pretrained)
    candidate = training.dpo(context, prepared, tuned)
    assert improved(pretrained)
    assert improved(tuned)
    assert improved(candidate)
    again = training.sft(Context(settings, context.usecase, origin, "never"), prepared, pretrained)
    assert again.adapter == tuned.adapter
    exported = training.export(context, candidate.adapter, "merged", tmp_path / "merged")
    assert exported.drift is not None
    assert exported.drift.same_token > 0.9
