"""Base models: where one is, what it is by content, and how it is loaded. safetensors only, and no model's own code.

A base model is used where it stands, in a folder or in the Hugging Face cache, and is not copied into the artifact
store: gigabytes would be written twice, and its files are hashed (or known to be the same) before every use anyway.
Nothing is downloaded: what the night runs on was put there by a person, or by `nightshift model pull`.
"""

import importlib.metadata
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline import canonical
from pipeline.digests import content_digest
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.settings import ROOT, Settings
from pipeline.steps import Output
from pipeline.usecase import BaseModelSource, Dtype, Quantize

Device = Literal["cpu", "cuda"]

_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# What a tokenizer consists of. Those of the families lie in different files.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
# What a model's behaviour depends on, beside its weights.
_CONFIGS = ("config.json", "generation_config.json", *TOKENIZER_FILES, _INDEX)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


@dataclass(frozen=True)
class BaseModel:
    """A base model that stands on this machine, known by its content."""

    source: str  # as the use case names it
    revision: str | None
    folder: str  # where it stands
    digest: str  # of the contents of all files that count
    files: Mapping[str, str]  # name to content digest
    size_bytes: int


def resolve(settings: Settings, source: BaseModelSource) -> BaseModel:
    """Returns the base model that a use case names, with its digest.

    A file is hashed once and again when its size or time of change differs; the memory of it stands under the home
    folder. Raises NotAvailable where the model is not on this machine, Refused where its weights are pickles.
    """
    folder = locate(settings, source)
    paths = _files(folder, source.label)
    known = _Known(settings.home / "cache" / "model-digests.json")
    files = {path.name: known.digest(path) for path in paths}
    known.save()
    size = sum(path.stat().st_size for path in paths)
    digest = canonical.digest({"kind": "base_model", "files": files})
    return BaseModel(source.label, source.revision, str(folder), digest, files, size)


def register(base: BaseModel) -> Output:
    """Returns the base model as a step's output, made of no input. It has no address in the artifact store (see above).
    The digests of its files are in `meta`, so that a packet can name them and anyone can check a copy."""
    meta = {"source": base.source, "revision": base.revision, "files": dict(base.files)}
    return Output("base_model", "base", base.digest, None, base.size_bytes, private=False, meta=meta, made_of=())


def locate(settings: Settings, source: BaseModelSource) -> Path:
    """Returns the folder of a base model: of one that was pulled or ships, by name; an absolute path, or one relative
    to the repository; or the pinned revision's in the Hugging Face cache.

    Raises NotAvailable that says where it was looked for.
    """
    if source.name is not None:
        return _by_name(settings, source.name)
    path = Path(source.label).expanduser()
    folder = path if path.is_absolute() else ROOT / path
    if folder.is_dir():
        return folder
    if source.revision is None:
        raise NotAvailable(
            f"the base model {source.label} is not there",
            where=folder,
            next_step="put it there (config, tokenizer, safetensors), or name a Hugging Face id with its revision",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source.label, revision=source.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise NotAvailable(
            f"the base model {source.label} at revision {source.revision} is not on this machine",
            where=f"{folder}; the Hugging Face cache {HF_HUB_CACHE}",
            next_step=f"`hf download {source.label} --revision {source.revision}` where there is a network; a cache "
            "may be moved as a folder (HF_HOME says where it is); or set base_model.path to a local folder",
        ) from None


def stands(settings: Settings, name: str) -> bool:
    """Returns whether a base model of the catalogue is on this machine."""
    return _standing(settings, name) is not None


def _standing(settings: Settings, name: str) -> Path | None:
    folders = (settings.models / name, ROOT / "models" / name)
    return next((folder for folder in folders if (folder / "config.json").exists()), None)


def _by_name(settings: Settings, name: str) -> Path:
    folder = _standing(settings, name)
    if folder is not None:
        return folder
    raise NotAvailable(
        f"the base model {name} is not here",
        where=settings.models / name,
        next_step=f"`nightshift model pull {name}`; `nightshift model list` says what there is",
    )


def require_usable(folder: Path | str) -> tuple[Any, Any]:
    """Returns (configuration, tokenizer) of a base model. Loads no weights.

    Raises BadInput for one that cannot be read, Refused where it brings code of its own, or has words that its
    embedding has no place for: they would be read out of bounds.
    """
    from transformers import AutoConfig, AutoTokenizer

    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config: Any = AutoConfig.from_pretrained(str(folder), **safe)
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), **safe)
    except Exception as error:  # what the tokenizers library raises is no narrower
        if "trust_remote_code" in str(error):
            raise _own_code(folder) from None
        raise BadInput(
            "the base model's configuration or tokenizer cannot be read",
            where=folder,
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            next_step="copy or download config.json and the tokenizer's files again",
        ) from None
    places = getattr(config.get_text_config(), "vocab_size", 0)
    if len(tokenizer) > places:
        raise Refused(
            "the tokenizer has more words than the model's embedding",
            where=folder,
            found=f"{len(tokenizer)} words for {places} places",
            next_step="put the tokenizer there that belongs to the model",
        )
    return config, tokenizer


def _own_code(folder: Path | str) -> Refused:
    return Refused(
        "this base model brings code of its own, which is never run",
        where=folder,
        allowed="architectures that the transformers library has itself",
    )


def load(
    folder: Path | str,
    *,
    adapter: Path | None = None,
    digest: str | None = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    quantize: Quantize = "none",
    trainable: bool = False,
) -> tuple[Any, Any]:
    """Returns (model, tokenizer) from a base model's folder, with a LoRA adapter from a local folder on top if given.
    `digest` is the base model's: an adapter that names another's is refused.

    The model is in evaluation mode unless `trainable`, which leaves the adapter's weights open to training. In
    evaluation mode the adapter is added into the weights, where they are in full precision or, on a CPU, made so for
    the sum: the same function up to rounding, in two thirds of the time. Raises NotAvailable for an adapter without
    safetensors; Refused for one of another base, and for a model that brings code of its own.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar is no line of a log
    # transformers 5 would take the dtype from the checkpoint ("auto"): what is computed in is said here.
    options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    merged = adapter is not None and not trainable and quantize == "none" and (dtype == "float32" or device == "cpu")
    if merged:
        options["dtype"] = torch.float32  # in bfloat16 the sum would lose most of what the adapter adds
    if quantize == "nf4":
        options |= _four_bits(options["dtype"], device)
    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), **safe)
        model: Any = AutoModelForCausalLM.from_pretrained(str(folder), use_safetensors=True, **options, **safe)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise _own_code(folder) from None
    if quantize == "nf4" and device == "cpu":
        _keep_unpacked(model)
    if adapter is not None:
        with warnings.catch_warnings():
            # PEFT 0.21 still asks by the name that transformers 5.23 calls old.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            model = _with_adapter(model, adapter, folder, digest, trainable)
        if merged:
            model = model.merge_and_unload().to(getattr(torch, dtype))
    if quantize == "none":
        model = model.to(device)
    return (model if trainable else model.eval()), tokenizer


def _four_bits(dtype: Any, device: Device) -> dict[str, Any]:
    """Returns what loads a model in four bits, as QLoRA does (https://arxiv.org/abs/2305.14314)."""
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config, "device_map": {"": 0 if device == "cuda" else "cpu"}}


def _keep_unpacked(model: Any) -> None:
    """Keeps four-bit weights as they are, on whichever processor. On one with AVX512-BF16 bitsandbytes (0.50.2,
    `_convert_weight_packed_for_cpu`) rewrites them in place the first time that they are evaluated: with scales rounded
    to bfloat16, so that what is trained on afterwards is another model, and with an error where a row is no multiple of
    the block size."""
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def expected_device(wanted: str) -> Device:
    """Returns where models will run, without importing torch, for cache keys: what a GPU gave is not what a CPU
    gives. "auto" is the GPU where the driver shows one, this process may see it, and torch was built for it."""
    if wanted != "auto":
        return "cuda" if wanted == "cuda" else "cpu"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")
    built = "+cpu" not in importlib.metadata.version("torch")
    return "cuda" if visible and built and any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"


def device(wanted: str) -> Device:
    """Returns where models run: "auto" takes the GPU where there is one. Raises NotAvailable where "cuda" is absent."""
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise NotAvailable(
            "there is no CUDA device",
            where=f"torch {torch.__version__}, built for {torch.version.cuda or 'CPU only'}",
            next_step="NIGHTSHIFT_DEVICE=cpu or auto; or install torch with CUDA (NIGHTSHIFT_TORCH); try nvidia-smi",
        )
    return "cpu"


def _with_adapter(model: Any, adapter: Path, folder: Path | str, digest: str | None, trainable: bool) -> Any:
    from peft import PeftConfig, PeftModel

    weights = adapter / "adapter_model.safetensors"
    if not weights.exists():
        raise NotAvailable("the adapter has no safetensors", where=weights, allowed="safetensors only")
    config = PeftConfig.from_pretrained(str(adapter))
    named = str(config.base_model_name_or_path)
    if digest is not None and named.startswith("sha256:") and named != f"sha256:{digest}":
        raise _of_another_base(adapter, named, digest)
    # The adapter knows its base by digest; PEFT would look for that name on the network when it saves a checkpoint.
    config.base_model_name_or_path = str(folder)
    try:
        return PeftModel.from_pretrained(model, str(adapter), config=config, is_trainable=trainable)
    except (RuntimeError, ValueError) as error:
        if "size mismatch" not in str(error) and "not found in the base model" not in str(error):
            raise
        raise _of_another_base(adapter, named, digest or str(folder)) from None


def _of_another_base(adapter: Path, found: str, allowed: str) -> Refused:
    return Refused(
        "the adapter belongs to another base model",
        where=adapter,
        found=found,
        allowed=allowed,
        next_step="train on this base model, or name the adapter's in base_model",
    )


def _files(folder: Path, source: str) -> list[Path]:
    """Returns the files that a model consists of, in the order of their names."""
    weights = sorted(folder.glob("*.safetensors"))
    if (index := folder / _INDEX).exists():
        shards = set(json.loads(index.read_text())["weight_map"].values())
        _demand(folder, source, shards)
        weights = sorted(folder / name for name in shards)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if not weights and pickles:
        raise Refused(
            "the base model's weights are pickles, which run code when they are opened",
            where=folder,
            found=", ".join(pickles[:3]),
            allowed="safetensors",
            next_step="take a revision with *.safetensors, or convert it once on a machine that holds nothing else",
        )
    _demand(folder, source, {"config.json"} | (set() if weights else {"model.safetensors"}))
    if not any((folder / name).exists() for name in _TOKENIZERS):
        _demand(folder, source, {"tokenizer.json"})
    configs = [folder / name for name in _CONFIGS if (folder / name).exists()]
    return sorted({*weights, *configs})


def _demand(folder: Path, source: str, names: Iterable[str]) -> None:
    if missing := sorted(name for name in names if not (folder / name).exists()):
        raise NotAvailable(
            f"the base model {source} is not whole",
            where=folder,
            found=f"missing: {', '.join(missing[:5])}",
            next_step="copy or download it again",
        )


class _Known:
    """Digests of files by path, size and time of change, so that an unchanged night hashes no gigabytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.entries: dict[str, list[Any]] = json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            self.entries = {}  # nothing is lost but the time to hash again
        self.changed = False

    def digest(self, path: Path) -> str:
        stat = path.stat()
        entry = self.entries.get(str(path.resolve()))
        if entry is not None and entry[:2] == [stat.st_size, stat.st_mtime_ns]:
            return str(entry[2])
        digest = content_digest(path.name, path)
        self.entries[str(path.resolve())] = [stat.st_size, stat.st_mtime_ns, digest]
        self.changed = True
        return digest

    def save(self) -> None:
        if not self.changed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        part.write_text(json.dumps({path: entry for path, entry in self.entries.items() if Path(path).exists()}))
        part.replace(self.path)
