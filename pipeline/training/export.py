"""A trained model as a folder that others open as it is: PEFT's; merged into 16 bits, for vLLM and transformers; or one
GGUF file, for llama.cpp.

Every export is a run on record, with the adapter that it took out as its input; the database refuses one that was
trained on rows which were erased since. A merged model is a private artifact as well, which an erasure reaches; the
folder is the user's own.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import canonical, models, steps
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.errors import BadInput
from pipeline.models import BaseModel
from pipeline.records import load, plain
from pipeline.steps import Attempt, Output, Result, Step, Version
from pipeline.training import adapter as adapters
from pipeline.training import gguf_file, merging, sandbox
from pipeline.training.export_card import card
from pipeline.training.gguf_file import Quantization
from pipeline.training.records import Exported, ExportFacts, ExportRun, Format, Wanted

NAME = "export"
DATA = "nightshift.json"
_QUANTIZATIONS: Mapping[Format, Quantization] = {"gguf-f16": "f16", "gguf-q8_0": "q8_0", "gguf-q4_1": "q4_1"}


def export(context: Context, adapter: Version, form: Format, folder: Path) -> Exported:
    """Returns what was written into the folder, which must not exist or be empty; it exists as a whole or not at all.

    Raises BadInput where the folder holds something; Refused where the adapter was trained on rows that were erased
    since, or on another base model than the use case's; NotAvailable where the base model is not on this machine.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput("there is something already", where=folder, next_step="name a folder that is new or empty")
    base = models.resolve(context.settings, context.usecase.base_model)
    reply = sandbox.call(context, "export", base=plain(base), adapter=plain(adapter), wanted=plain(Wanted(form)))
    done = load(ExportRun, reply)
    store = ArtifactStore(context.settings.artifacts)
    with _whole(folder) as part:
        if done.merged is None:
            store.fetch(adapter.kind, adapter.digest, part)
            _for_peft(part, base)
        else:
            store.fetch(done.merged.kind, done.merged.digest, part)
        data = card(context, adapter, base, form, done, _recorded(store, adapter))
        (part / "README.md").write_text(data.markdown)
        (part / DATA).write_text(canonical.dumps(data.values) + "\n")
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    digest = None if done.merged is None else done.merged.digest
    return Exported(str(folder), form, adapter.digest, digest, sizes, done.facts.drift, done.reused, done.run)


def run(context: Context, *, base: BaseModel, adapter: Version, wanted: Wanted) -> ExportRun:
    """Returns the merged model, or what was measured of the adapter alone. Runs in the training process."""
    form = wanted.form
    spec = Step(
        context.usecase.name,
        "training.export",
        sandbox.ROLE,
        ("pipeline.training.merging",),
        params={"base": base.digest, "form": form},
        inputs={"adapter": adapter},
        # What is taken out as it is costs nothing, and each time is on record.
        reuse="never" if form == "peft" else context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        folder = attempt.store.fetch(adapter.kind, adapter.digest, attempt.scratch / "adapter")
        adapters.require_finite(folder / adapters.WEIGHTS)
        recipe = json.loads((folder / "recipe.json").read_text())
        if form.startswith("gguf-"):
            gguf_file.require_writable(Path(base.folder))
        beside = merging.measure(base, folder, dtype=recipe["dtype"], quantize=recipe["quantize"])
        if form == "peft":
            return Result({}, ExportFacts(None, beside.moved))
        target = attempt.scratch / "merged"
        drift = merging.merge(base, folder, target, beside, _QUANTIZATIONS.get(form))
        files: dict[str, bytes | Path] = {path.name: path for path in target.iterdir()}
        stored = attempt.store.put("merged_model", files)
        return Result({"merged": Output.of(stored, NAME, private=True)}, ExportFacts(drift, beside.moved))

    outcome = steps.run(context.settings, context.origin, spec, work)
    facts = load(ExportFacts, outcome.facts)
    return ExportRun(facts, outcome.outputs.get("merged"), outcome.reused, outcome.run_id)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Yields a folder beside the wanted one, which becomes it when the block ends well and is removed when not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _for_peft(folder: Path, base: BaseModel) -> None:
    """Makes an adapter's files a folder that PEFT opens: the base model by where it is found, and its tokenizer."""
    path = folder / adapters.CONFIG
    config = json.loads(path.read_text())
    # A Hugging Face id is found anywhere; a folder on this machine.
    config["base_model_name_or_path"] = base.source if base.revision is not None else base.folder
    config["revision"] = base.revision
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for name in models.TOKENIZER_FILES:
        if (Path(base.folder) / name).exists():
            shutil.copyfile(Path(base.folder) / name, folder / name)


def _recorded(store: ArtifactStore, adapter: Version) -> Mapping[str, Any]:
    """Returns the recipe in force and the losses, as they stand beside the adapter's weights."""
    return {
        name: json.loads(store.read(adapter.kind, adapter.digest, f"{name}.json")) for name in ("recipe", "metrics")
    }
