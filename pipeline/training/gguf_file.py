"""A merged model as one GGUF file, which llama.cpp and what is built on it open.

The `gguf` package writes the format and quantises; which tensor is called what, how llama.cpp lays out the rotary
halves of queries and keys, and which of its tokenizers a model has, is said here. What was written is read back by
transformers, a reader of its own, and held against the model.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import NightshiftError, Refused
from pipeline.training.records import Drift

FILE = "model.gguf"
Quantization = Literal["f16", "q8_0", "q4_1"]
# How far the likeliest tokens may be from the model's, as a share of the positions: less is a fault of the writing.
_SAME: Mapping[Quantization, float] = {"f16": 0.98, "q8_0": 0.9, "q4_1": 0.5}
_BLOCK = 32  # weights that share a scale


@dataclass(frozen=True)
class _Family:
    """How llama.cpp takes an architecture."""

    name: str
    rotary_halves: bool  # whether it pairs neighbours where transformers pairs halves


_FAMILIES: Mapping[str, _Family] = {
    "LlamaForCausalLM": _Family("llama", True),
    "MistralForCausalLM": _Family("llama", True),
    "Qwen2ForCausalLM": _Family("qwen2", False),
    "Qwen3ForCausalLM": _Family("qwen3", False),
}
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# llama.cpp knows how a tokenizer splits text by name alone; by another it would read other tokens, and say nothing.
_SPLITS: Mapping[str, str] = {_LLAMA3: "llama-bpe", _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2"}


def require_writable(folder: Path) -> None:
    """Raises Refused where the model in a folder is of a family, or has a tokenizer, that is not written as GGUF."""
    _family(folder)
    _split(folder)


def write(folder: Path, target: Path, quantization: Quantization) -> None:
    """Writes the model in a folder, as `merging.merge` leaves it, to `target`. Norms and biases stay in float32, rows
    that are no multiple of 32 in 16 bits; with q4_1, embedding and output are in eight bits, as what is said hangs on
    them most. Raises Refused as `require_writable` does."""
    import gguf

    config = json.loads((folder / "config.json").read_text())
    family = _family(folder)
    writer = gguf.GGUFWriter(target, family.name)
    _describe(writer, folder, config)
    _tokenizer(writer, folder, int(config["vocab_size"]))
    names = gguf.get_tensor_name_map(_architecture(family.name), int(config["num_hidden_layers"]))
    file_type = {"f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_1": "MOSTLY_Q4_1"}[quantization]
    writer.add_file_type(gguf.LlamaFileType[file_type])

    def add(name: str, weights: Any) -> None:
        kind = _kind(name, weights.shape, quantization)
        writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)

    for name, weights in _tensors(folder):
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if own is None:
            raise Refused("a tensor of the model has no name in GGUF", where=folder, found=name)
        if family.rotary_halves and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads"] if "q_proj" in name else config["num_key_value_heads"]
            add(own, neighbours(weights, int(heads)))
        else:
            add(own, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def neighbours(weights: Any, heads: int) -> Any:
    """Returns a query's or key's weights, of shape (heads x size, width), with the two halves of each head, which
    transformers rotates together, side by side, where llama.cpp expects them."""
    size = weights.shape[0] // heads
    return weights.reshape(heads, 2, size // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def require_same(drift: Drift, quantization: Quantization) -> None:
    """Raises NightshiftError where a file that was read back gives other answers than the model that it was written
    from: a fault of ours."""
    if drift.same_token < _SAME[quantization]:
        raise NightshiftError(
            "the GGUF file is not the model that it was written from",
            found=f"the likeliest token is the same at {drift.same_token:.0%} of the positions",
            allowed=f"{_SAME[quantization]:.0%} or more",
            next_step="please report it with the base model's name; the formats merged and peft are not affected",
        )


def opened(target: Path) -> Any:
    """Returns the model of a GGUF file, as transformers reads it, in float32."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as library

    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(target.parent), gguf_file=target.name, dtype=torch.float32, local_files_only=True
    )
    return model.eval()


def only_file(folder: Path) -> None:
    """Removes what stands beside the GGUF file: everything is in it."""
    for path in folder.iterdir():
        if path.name != FILE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _family(folder: Path) -> _Family:
    config = json.loads((folder / "config.json").read_text())
    architecture = (config.get("architectures") or ["none"])[0]
    scaling = (config.get("rope_parameters") or {}).get("rope_type", "default")
    if architecture not in _FAMILIES:
        raise Refused(
            "this family of models is not written as GGUF",
            where=folder / "config.json",
            found=architecture,
            allowed=", ".join(_FAMILIES),
            next_step="export it merged, and convert that folder with llama.cpp's own script",
        )
    if scaling != "default":
        raise Refused(
            "a model with scaled rotary positions is not written as GGUF",
            where=folder / "config.json",
            found=scaling,
            allowed="default",
            next_step="export it merged, and convert that folder with llama.cpp's own script",
        )
    return _FAMILIES[architecture]


def _split(folder: Path) -> str:
    """Returns what llama.cpp calls the way in which a tokenizer splits text."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    splitter = tokenizer.get("pre_tokenizer") or {}
    parts = splitter["pretokenizers"] if splitter.get("type") == "Sequence" else [splitter]
    kinds = [part.get("type") for part in parts]
    regex = parts[0].get("pattern", {}).get("Regex") if kinds == ["Split", "ByteLevel"] else None
    if (
        tokenizer["model"]["type"] == "BPE"
        and not tokenizer.get("normalizer")
        and not parts[-1].get("add_prefix_space")
    ):
        if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
            return "smollm"
        if regex is not None and regex in _SPLITS:
            return _SPLITS[regex]
    raise Refused(
        "llama.cpp has no name for how this tokenizer splits text",
        where=folder / "tokenizer.json",
        found=regex or ", ".join(str(kind) for kind in kinds),
        allowed="byte-level BPE as in GPT-2, SmolLM, Llama 3 or Qwen 2",
        next_step="export it merged",
    )


def _architecture(name: str) -> Any:
    import gguf

    return next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name)


def _describe(writer: Any, folder: Path, config: Mapping[str, Any]) -> None:
    heads = int(config["num_attention_heads"])
    size = int(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_name(folder.name)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float((config.get("rope_parameters") or config).get("rope_theta", 10_000.0)))
    writer.add_vocab_size(int(config["vocab_size"]))


def _tokenizer(writer: Any, folder: Path, places: int) -> None:
    """Writes the tokenizer: a token for each place of the embedding, those that no text has as unused."""
    import gguf
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    raw = json.loads((folder / "tokenizer.json").read_text())
    tokens = [f"[PAD{place}]" for place in range(places)]
    types = [gguf.TokenType.UNUSED] * places
    for token, place in raw["model"]["vocab"].items():
        tokens[place], types[place] = token, gguf.TokenType.NORMAL
    for added in raw["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in raw["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_split(folder))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    # Where a model stops: the end of the assistant's turn.
    writer.add_eos_token_id(ends[0] if isinstance(ends, list) else ends)
    for add, place in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
    ):
        if place is not None:
            add(place)
    writer.add_add_bos_token(False)  # the chat template writes it where the model wants one
    writer.add_chat_template(tokenizer.chat_template)


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yields the tensors of a folder's safetensors in float32, by name."""
    import torch
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                yield name, file.get_tensor(name).to(torch.float32).numpy()


def _kind(name: str, shape: tuple[int, ...], quantization: Quantization) -> Any:
    import gguf

    kinds = gguf.GGMLQuantizationType
    if len(shape) == 1:
        return kinds.F32
    if quantization == "f16" or shape[-1] % _BLOCK:
        return kinds.F16
    if quantization == "q8_0" or name in ("token_embd.weight", "output.weight"):
        return kinds.Q8_0
    return kinds.Q4_1
