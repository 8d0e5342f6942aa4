"""Which tokenizer a model's files make: as they stand where nothing is left to decide, else as transformers decides."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from pipeline import canonical
from pipeline.errors import BadInput, NightshiftError, NotAvailable
from pipeline.settings import ROOT, Settings
from pipeline.tokenizer.files import MORE_TEMPLATES, TokenizerFiles
from pipeline.tokenizer.reading import TOKENIZER, Parts, Tokenizer, read

log = logging.getLogger(__name__)

_FORMAT = 1  # of what is kept under the home folder
_SECONDS = 300.0  # to import transformers from a slow disk, and to read a large vocabulary
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
# Classes that take tokenizer.json as it is, for a model type that transformers has no other tokenizer for.
_PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
_PLAIN_MODELS = ("llama",)
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Files that add tokens or templates, or hold another tokenizer.
_FURTHER = ("special_tokens_map.json", "added_tokens.json", "tekken.json", MORE_TEMPLATES)
# What in tokenizer_config.json changes neither a token nor what a template sees.
_WITHOUT_EFFECT = {
    "added_tokens_decoder",  # compared with tokenizer.json
    "backend",
    "chat_template",
    "clean_up_tokenization_spaces",
    "is_local",
    "local_files_only",
    "model_input_names",
    "model_max_length",
    "padding_side",
    "tokenizer_class",
    "truncation_side",
    *_SPECIAL,
}


def load(settings: Settings, files: TokenizerFiles) -> Tokenizer:
    """Returns the tokenizer that transformers would load from these files.

    The first time that it has to be asked takes some seconds. Raises BadInput where transformers cannot read the files,
    or makes no tokenizer of the tokenizers library of them; NotAvailable where it did not come to an answer.
    """
    if (plain := as_it_stands(files)) is not None:
        return plain
    folder = kept_at(settings, files)
    if not folder.exists():
        _resolve(files, folder)
    return read(folder, str(files.folder))


def kept_at(settings: Settings, files: TokenizerFiles) -> Path:
    """Returns the folder of what transformers made, or will have made, of these files; another release may make another
    of them."""
    made_by = {name: version(name) for name in ("transformers", "tokenizers")}
    name = canonical.digest({"format": _FORMAT, "files": files.digest, "by": made_by})
    return settings.home / "cache" / "tokenizers" / name


def as_it_stands(files: TokenizerFiles) -> Tokenizer | None:
    """Returns the tokenizer of tokenizer.json where no class, no configuration and no other file changes it; else
    None."""
    folder = files.folder
    config, stated, backend = (_json(folder / name) for name in ("config.json", "tokenizer_config.json", TOKENIZER))
    if (
        config.get("model_type") not in _PLAIN_MODELS
        or stated.get("tokenizer_class") not in _PLAIN_CLASSES
        or stated.keys() - _WITHOUT_EFFECT
        or any((folder / name).exists() for name in _FURTHER)
    ):
        return None
    try:
        special = _special_tokens(stated, backend)
        if special is None:
            return None
        return Tokenizer(
            Backend.from_file(str(folder / TOKENIZER)), Parts(_chat_template(folder, stated), special), str(folder)
        )
    except Exception:  # what the tokenizers library raises is no narrower
        return None  # whatever is wrong, transformers says it better


def _special_tokens(stated: Mapping[str, Any], backend: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns the special tokens by the names that templates know; None where the configuration adds one to those of
    tokenizer.json, or changes one."""
    added = {token["content"]: token for token in backend.get("added_tokens", ())}
    given = dict(stated)
    if backend.get("padding"):
        given.setdefault("pad_token", backend["padding"]["pad_token"])
    special = {name: given[name] for name in _SPECIAL if given.get(name) is not None}
    named = [{"id": int(place), **token} for place, token in stated.get("added_tokens_decoder", {}).items()]
    known = all(isinstance(token, str) and token in added for token in special.values())
    return special if known and all(added.get(token["content"]) == token for token in named) else None


def _chat_template(folder: Path, stated: Mapping[str, Any]) -> str | dict[str, str] | None:
    """Returns the template, or several by name; a file of its own comes before the configuration."""
    file = folder / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.exists() else stated.get("chat_template")
    return {each["name"]: each["template"] for each in template} if isinstance(template, list) else template


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _resolve(files: TokenizerFiles, folder: Path) -> None:
    """Has another process write what transformers makes of the files. Raises as `load` does."""
    log.info("reading the tokenizer of %s: some seconds, once", files.source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as home:
        result = Path(home) / "result"
        # It needs no network, and is given none of this process's logins.
        inherited = {name: os.environ[name] for name in _PASSED if name in os.environ}
        environment = {**inherited, "HF_HUB_OFFLINE": "1", "HOME": home, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pipeline.tokenizer.conversion", str(files.folder), str(result)]
        try:
            process = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise _unread(NotAvailable, files, f"no answer within {_SECONDS:.0f} seconds") from None
        if process.returncode:
            last = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            # Any other code than this one is an accident: another attempt may do better.
            raise _unread(BadInput if process.returncode == BadInput.exit_code else NotAvailable, files, last)
        # Another process may have come first: what it wrote is the same.
        if not folder.exists():
            shutil.move(result, folder)


def _unread(kind: type[NightshiftError], files: TokenizerFiles, problem: str) -> NightshiftError:
    return kind(
        f"the tokenizer of the base model {files.source} cannot be read",
        where=files.folder,
        found=problem,
        next_step=f"`nightshift model check {files.folder}` says what training would say of it",
    )
