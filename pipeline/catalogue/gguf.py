"""A GGUF file made into a folder that can be trained: bfloat16 safetensors, tokenizer and chat template.

GGUF holds weights in few bits; they are read back into floats once. What was rounded stays rounded: this is the model
as it was published, not as it was before that.
"""

import json
import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput, Refused

log = logging.getLogger(__name__)

_MAGIC = b"GGUF"
# Of the machine that wrote the files, and not of the model.
_PASSING = ("is_local", "local_files_only", "name_or_path", "_name_or_path", "_model_name_or_path")


def require_whole(path: Path) -> None:
    """Raises BadInput for what is no GGUF, or one that is cut off; Refused for an architecture that cannot be read."""
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        raise BadInput("this is no GGUF file", where=path, found=magic, allowed="a file that begins with GGUF")
    from gguf import GGUFReader
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    try:
        reader = GGUFReader(path)
        ends = [int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors]
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise _cut_off(path, f"{type(error).__name__}: {error}") from None
    if not ends or max(ends) > path.stat().st_size:
        raise _cut_off(path, f"{path.stat().st_size} bytes, for tensors that end at {max(ends, default=0)}")
    field = reader.get_field("general.architecture")
    architecture = str(field.contents()) if field is not None else "none"
    known = sorted({*GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer"})  # keys beside the architectures
    if architecture not in known:
        raise Refused(
            "the GGUF's architecture cannot be read",
            where=path,
            found=architecture,
            allowed=", ".join(known),
            next_step="take the model's safetensors from where it was published",
        )


def _cut_off(path: Path, found: str) -> BadInput:
    return BadInput(
        "the GGUF file is cut off or damaged", where=path, found=found, next_step="copy or download it again"
    )


def licence(path: Path) -> str | None:
    """Returns the licence that a GGUF names; None where it names none."""
    from gguf import GGUFReader

    field = GGUFReader(path).get_field("general.license")
    return str(field.contents()) if field is not None else None


def convert(path: Path, folder: Path) -> dict[str, str]:
    """Writes the model of a GGUF to `folder`, which is empty, and returns the versions of the libraries that did it.

    The same file and versions write the same bytes. Raises BadInput where the GGUF has no tokenizer or template.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as library

    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    library.set_verbosity_error()  # type: ignore[no-untyped-call]  # it warns that weights stay packed, which they do not: they are saved as floats
    given: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    log.info("reading %s, %d MiB: half a minute for every 250 MiB of result", path.name, path.stat().st_size >> 20)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(path.parent), **given)
    except Exception as error:  # what the tokenizers library raises is no narrower
        raise BadInput(
            "the GGUF has no tokenizer that can be read",
            where=path,
            found=f"{type(error).__name__}: {error}",
            next_step="take the model's safetensors from where it was published",
        ) from None
    if not tokenizer.chat_template:
        raise BadInput(
            "the GGUF has no chat template",
            where=path,
            next_step="take the family's instruction-tuned model",
        )
    model: Any = AutoModelForCausalLM.from_pretrained(str(path.parent), dtype=torch.bfloat16, **given)
    # It is in floats now. Both still say that it is not, and saving would be refused.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        _settle(folder / name)
    return {name: version(name) for name in ("gguf", "torch", "transformers")}


def _settle(path: Path) -> None:
    """Takes out of a JSON file what says where it was written."""
    if not path.exists():
        return
    value = json.loads(path.read_text())
    kept = {key: entry for key, entry in value.items() if key not in _PASSING}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
