"""check: what preflight would say of a base model, and what it takes to answer and to train with it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from pipeline import models, parsing
from pipeline.catalogue.manifest import recorded
from pipeline.chat import Chat, Form
from pipeline.settings import Settings
from pipeline.usecase import BaseModelSource

_MIB = 1 << 20
# Bytes of activations that a layer keeps for the backward pass, for each token and unit of width, in 16 bits and with
# attention that keeps no matrix of scores (Korthikanti et al., https://arxiv.org/abs/2205.05198, equation 1).
_ACTIVATIONS = 34
_LOGITS = 10  # bytes for each word of the vocabulary and token: scores in 16 bits, and twice in 32


@dataclass(frozen=True)
class Memory:
    """Estimates in MiB, beside what Python, torch and the libraries take (1,330 in a training of SmolLM2 on a CPU)."""

    answer_bfloat16: int
    answer_float32: int
    train_bfloat16: int  # a LoRA adapter, with rows of 1,024 tokens in all in a step


@dataclass(frozen=True)
class Checked:
    """A base model that can be trained and asked."""

    folder: str
    digest: str
    source: str
    licence: str
    size_mib: int
    architecture: str
    parameters: int
    context_tokens: int | None  # None where the configuration does not say
    vocabulary: int
    template: Form
    memory_mib: Memory


def check(settings: Settings, what: str) -> Checked:
    """Returns what is known of the model of this name, or in this folder. Loads no weights.

    Raises what preflight would raise: NotAvailable for a model that is not there or not whole, Refused for pickles and
    for more words than the embedding has, BadInput for a configuration, tokenizer or template that cannot be read.
    """
    folder = models.locate(settings, source_of(what))
    base = models.resolve(settings, BaseModelSource(path=str(folder)))
    config, tokenizer = models.require_usable(folder)
    chat = Chat(tokenizer)
    parameters = _parameters(folder)
    width, layers = int(config.hidden_size), int(config.num_hidden_layers)
    kept = 1024 * (_ACTIVATIONS * width * layers + _LOGITS * int(config.vocab_size))
    source, licence = _origin(folder, what)
    return Checked(
        folder=str(folder),
        digest=base.digest,
        source=source,
        licence=licence,
        size_mib=base.size_bytes >> 20,
        architecture=(config.architectures or ["not stated"])[0],
        parameters=parameters,
        context_tokens=getattr(config, "max_position_embeddings", None),
        vocabulary=len(tokenizer),
        template=chat.form,
        memory_mib=Memory(2 * parameters // _MIB, 4 * parameters // _MIB, (2 * parameters + kept) // _MIB),
    )


def source_of(what: str) -> BaseModelSource:
    """Returns a folder's path as such, and anything else as a name."""
    if "/" in what or Path(what).is_dir():
        return BaseModelSource(path=str(Path(what).expanduser().resolve()))
    return BaseModelSource(name=what)


def _parameters(folder: Path) -> int:
    """Returns how many numbers the weights are, from the headers of their files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                count = 1
                for length in file.get_slice(name).get_shape():
                    count *= length
                total += count
    return total


def _origin(folder: Path, what: str) -> tuple[str, str]:
    """Returns (source, licence) as recorded, as the model's card says, or as not stated."""
    if (record := recorded(folder)) is not None:
        return record.source, record.licence
    card: Any = {}
    text = (folder / "README.md").read_text(encoding="utf-8") if (folder / "README.md").exists() else ""
    if text.startswith("---\n") and "\n---\n" in text[4:]:
        try:
            card = parsing.parse_yaml(text[4:].partition("\n---\n")[0].encode())
        except parsing.ParseError:
            card = {}  # a card is prose for people: one that cannot be read says nothing of a licence
    stated = card.get("license") or card.get("licence") if isinstance(card, dict) else None
    return what, stated if isinstance(stated, str) else json.dumps(stated) if stated else "not stated"
