"""GGUF: the layout of rotary weights, the tokenizers that llama.cpp has a name for, and models read back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import NightshiftError, Refused
from pipeline.training import gguf_file
from pipeline.training.records import Drift
from tests.pg.training.conftest import VOCABULARY, write_tokenizer

pytestmark = pytest.mark.unit
SHAPES = ("llama", "qwen2", "qwen3")


def model(family: str, folder: Path, **changes: Any) -> Any:
    """Writes a model of random weights, of a family's shape, with grouped queries, and returns it."""
    import torch
    import transformers

    torch.manual_seed(11)
    write_tokenizer(folder)
    config = transformers.AutoConfig.for_model(
        family,
        hidden_size=64,
        intermediate_size=96,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128 if family == "qwen3" else 16,  # transformers reads Qwen 3 so, whatever the file says
        num_hidden_layers=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **{"tie_word_embeddings": False, **changes},
    )
    auto: Any = transformers.AutoModelForCausalLM
    random_model = auto.from_config(config, dtype=torch.float32).eval()
    for name, weight in random_model.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(weight, mean=1.0 if "norm" in name else 0.0, std=0.3)
    generation: Any = transformers.GenerationConfig
    random_model.generation_config = generation(do_sample=False, bos_token_id=1, eos_token_id=[2], pad_token_id=0)
    random_model.save_pretrained(str(folder))
    return random_model


def scores(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(5, 45)[None]).logits[0].float()


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize(("quantization", "tolerance"), [("f16", 0.01), ("q8_0", 0.1), ("q4_1", 0.9)])
def test_what_is_read_back_scores_as_the_model_does(
    tmp_path: Path, family: str, quantization: gguf_file.Quantization, tolerance: float
) -> None:
    random_model = model(family, tmp_path)
    gguf_file.write(tmp_path, tmp_path / gguf_file.FILE, quantization)
    own, read = scores(random_model), scores(gguf_file.opened(tmp_path / gguf_file.FILE))
    assert float((own - read).abs().max() / own.std()) < tolerance


def test_tied_embeddings_and_the_tokenizer_are_read_back(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    random_model = model("llama", tmp_path, tie_word_embeddings=True)
    before = AutoTokenizer.from_pretrained(str(tmp_path))
    gguf_file.write(tmp_path, tmp_path / gguf_file.FILE, "f16")
    gguf_file.only_file(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [gguf_file.FILE]
    read = gguf_file.opened(tmp_path / gguf_file.FILE)
    assert float((scores(random_model) - scores(read)).abs().max()) < 0.01
    after = AutoTokenizer.from_pretrained(str(tmp_path), gguf_file=gguf_file.FILE)
    text = "Question: how long is pipe 17? 48 metres, über 3 €.<|im_end|>"
    assert after(text)["input_ids"] == before(text)["input_ids"]
    assert after.chat_template == before.chat_template


@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 5))
def test_halves_become_neighbours(heads: int, half: int, width: int) -> None:
    weights = np.arange(heads * 2 * half * width, dtype=np.float32).reshape(heads * 2 * half, width)
    laid = gguf_file.neighbours(weights, heads)
    for head in range(heads):
        own, other = (matrix[head * 2 * half : (head + 1) * 2 * half] for matrix in (weights, laid))
        assert (other[0::2] == own[:half]).all()
        assert (other[1::2] == own[half:]).all()


@pytest.mark.parametrize(
    ("splitter", "name"),
    [
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}, "gpt-2"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}],
            },
            "smollm",
        ),
        (
            {
                "type": "Sequence",
                "pretokenizers": [{"type": "Split", "pattern": {"Regex": gguf_file._LLAMA3}}, {"type": "ByteLevel"}],
            },
            "llama-bpe",
        ),
        ({"type": "ByteLevel", "add_prefix_space": True}, None),
        ({"type": "Metaspace"}, None),
        (
            {
                "type": "Sequence",
                "pretokenizers": [{"type": "Split", "pattern": {"Regex": "."}}, {"type": "ByteLevel"}],
            },
            None,
        ),
        (None, None),
    ],
)
def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(
    tmp_path: Path, splitter: dict[str, Any] | None, name: str | None
) -> None:
    tokenizer = {"pre_tokenizer": splitter, "normalizer": None, "model": {"type": "BPE"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    if name is None:
        with pytest.raises(Refused, match="no name for how this tokenizer splits"):
            gguf_file.require_writable(tmp_path)
    else:
        assert gguf_file._split(tmp_path) == name


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "family of models"),
        ({"architectures": None}, "family of models"),
        ({"architectures": ["LlamaForCausalLM"], "rope_parameters": {"rope_type": "llama3"}}, "scaled rotary"),
    ],
)
def test_a_model_that_is_not_written_is_refused_by_name(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refused, match=message):
        gguf_file.require_writable(tmp_path)


def test_a_file_that_answers_otherwise_is_our_fault() -> None:
    gguf_file.require_same(Drift(100, 0.1, 0.01, 1.0), "f16")
    with pytest.raises(NightshiftError, match="not the model"):
        gguf_file.require_same(Drift(100, 9.0, 3.0, 0.4), "q4_1")
