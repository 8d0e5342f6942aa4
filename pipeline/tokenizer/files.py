"""The files that a base model's tokenizer and template are made of."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline import canonical, models
from pipeline.settings import Settings
from pipeline.usecase import BaseModelSource

# What transformers reads to decide on a tokenizer, and its templates.
_NAMES = (
    "config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tekken.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
MORE_TEMPLATES = "additional_chat_templates"


@dataclass(frozen=True)
class TokenizerFiles:
    """Where a base model stands, and its tokenizer and template by content."""

    source: str  # as the use case names the model
    folder: Path
    digest: str


def locate(settings: Settings, source: BaseModelSource) -> TokenizerFiles:
    """Returns the files of a base model's tokenizer. The weights need not be there.

    Raises NotAvailable where the model is not on this machine.
    """
    folder = models.locate(settings, source)
    paths = [folder / name for name in _NAMES if (folder / name).is_file()]
    paths += sorted((folder / MORE_TEMPLATES).glob("*.jinja"))
    files = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return TokenizerFiles(source.label, folder, canonical.digest({"kind": "tokenizer", "files": files}))
