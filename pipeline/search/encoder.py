"""BERT's encoder on numpy, for a question: importing torch and the model's class from transformers takes several times
the processor time of the whole search. Many texts go through transformers; both give the same vectors, which the tests
hold.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", https://arxiv.org/abs/1810.04805.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadInput

Array = NDArray[np.float32]

# What the arithmetic below assumes; a model that says otherwise is refused.
_ASSUMED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
_erf = np.vectorize(math.erf, otypes=[np.float32])


class Bert:
    """The encoder of one model folder: `config.json` and `model.safetensors`, computed in float32."""

    def __init__(self, folder: Path) -> None:
        """Raises BadInput for a model of another architecture."""
        from safetensors.numpy import load_file

        config = json.loads((folder / "config.json").read_text())
        for key, value in _ASSUMED.items():
            if config.get(key, value) != value:
                raise BadInput(
                    "the embedding model is of another architecture",
                    where=f"{folder / 'config.json'}: {key}",
                    found=config[key],
                    allowed=value,
                )
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._epsilon: float = config["layer_norm_eps"]
        self._weights = load_file(folder / "model.safetensors")

    def __call__(self, ids: Sequence[int]) -> Array:
        """Returns the last hidden states, float32 of shape (tokens, width), of one text's token ids."""
        hidden = self._embedded(ids)
        for layer in range(self._layers):
            hidden = self._layer(f"encoder.layer.{layer}", hidden)
        return hidden

    def _embedded(self, ids: Sequence[int]) -> Array:
        words = self._weights["embeddings.word_embeddings.weight"][list(ids)]
        places = self._weights["embeddings.position_embeddings.weight"][: len(ids)]
        segment = self._weights["embeddings.token_type_embeddings.weight"][0]
        return self._norm("embeddings.LayerNorm", words + places + segment)

    def _layer(self, name: str, hidden: Array) -> Array:
        attended = self._dense(f"{name}.attention.output.dense", self._attended(f"{name}.attention.self", hidden))
        hidden = self._norm(f"{name}.attention.output.LayerNorm", attended + hidden)
        inner = _gelu(self._dense(f"{name}.intermediate.dense", hidden))
        return self._norm(f"{name}.output.LayerNorm", self._dense(f"{name}.output.dense", inner) + hidden)

    def _attended(self, name: str, hidden: Array) -> Array:
        tokens, width = hidden.shape
        query, key, value = (
            self._dense(f"{name}.{part}", hidden).reshape(tokens, self._heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(width // self._heads))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        joined: Array = (shares @ value).transpose(1, 0, 2).reshape(tokens, width)
        return joined

    def _dense(self, name: str, hidden: Array) -> Array:
        projected: Array = hidden @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return projected

    def _norm(self, name: str, hidden: Array) -> Array:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        scaled: Array = centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return scaled


def _gelu(values: Array) -> Array:
    half: Array = np.float32(0.5) * values * (1 + _erf(values / np.float32(math.sqrt(2))))
    return half
