"""A GGUF file of thirty thousand parameters, made as a converter makes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.settings import Settings, from_environment

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WIDTH, LAYERS = 32, 2


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return from_environment({"NIGHTSHIFT_HOME": str(tmp_path / "home")})


@pytest.fixture
def write_gguf(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a GGUF; it is another model for another seed."""

    def make(
        name: str = "small-q8.gguf",
        *,
        architecture: str = "llama",
        template: str | None = TEMPLATE,
        tokenizer: bool = True,
        seed: int = 7,
    ) -> Path:
        from gguf import GGUFWriter
        from tokenizers.pre_tokenizers import ByteLevel

        path = tmp_path / name
        writer = GGUFWriter(path, architecture)
        words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "th", "the"]
        writer.add_context_length(256)
        writer.add_embedding_length(WIDTH)
        writer.add_block_count(LAYERS)
        writer.add_feed_forward_length(2 * WIDTH)
        writer.add_head_count(2)
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10_000.0)
        writer.add_vocab_size(len(words))
        writer.add_license("mit")
        if tokenizer:
            writer.add_tokenizer_model("gpt2")
            writer.add_token_list(words)
            writer.add_token_types([3, 3, 3] + [1] * (len(words) - 3))
            writer.add_token_merges(["t h", "th e"])
            writer.add_bos_token_id(1)
            writer.add_eos_token_id(2)
            writer.add_pad_token_id(2)
        if template is not None:
            writer.add_chat_template(template)
        random = np.random.default_rng(seed)
        shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(words), WIDTH), "output_norm": (WIDTH,)}
        for layer in range(LAYERS):
            for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
                shapes[f"blk.{layer}.{part}"] = (WIDTH, WIDTH)
            for part in ("ffn_gate", "ffn_up"):
                shapes[f"blk.{layer}.{part}"] = (2 * WIDTH, WIDTH)
            shapes[f"blk.{layer}.ffn_down"] = (WIDTH, 2 * WIDTH)
            for part in ("attn_norm", "ffn_norm"):
                shapes[f"blk.{layer}.{part}"] = (WIDTH,)
        for part, shape in shapes.items():
            values: Any = np.ones(shape) if len(shape) == 1 else random.normal(0, 0.02, shape)
            writer.add_tensor(f"{part}.weight", values.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make
