"""A trained model as a folder: what opens it, what it says of itself, and what is not taken out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline import data, training
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.settings import Settings
from pipeline.steps import Origin, Version
from pipeline.usecase import UseCase

pytestmark = [
    pytest.mark.pg,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # PEFT asks for it
]

MakeCase = Callable[..., UseCase]
Commit = Callable[..., Version]
PROMPT = [5, 90, 17, 200, 33, 41, 8, 120]


@pytest.fixture
def adapter(settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit) -> Version:
    """The adapter of a short training; the next calls of `usecase` make the same use case."""
    commit(40)
    context = Context(settings, usecase(), origin)
    return training.sft(context, training.preflight(context)).adapter


def scores(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([PROMPT])).logits[0].float()


def beside(tiny_model: Path, settings: Settings, adapter: Version, folder: Path) -> Any:
    """Returns the base model with the adapter beside it, opened by PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    stored = ArtifactStore(settings.artifacts).fetch("adapter", adapter.digest, folder)
    config = json.loads((stored / "adapter_config.json").read_text())
    (stored / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(tiny_model)}))
    base = AutoModelForCausalLM.from_pretrained(str(tiny_model), dtype="float32")
    return PeftModel.from_pretrained(base, str(stored)).eval()


def test_a_merged_model_opens_as_it_is_and_scores_as_base_and_adapter_do(
    settings: Settings, origin: Origin, usecase: MakeCase, adapter: Version, tiny_model: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    context = Context(settings, usecase(), origin)
    folder = tmp_path / "out" / "model"
    exported = training.export(context, adapter, "merged", folder)
    assert exported.folder == str(folder)
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    } <= set(exported.files)
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == exported.files
    assert list(folder.parent.iterdir()) == [folder], "nothing half-written stands beside it"

    model: Any = AutoModelForCausalLM.from_pretrained(str(folder))
    assert model.dtype == torch.bfloat16
    own = scores(beside(tiny_model, settings, adapter, tmp_path / "adapter"))
    base = scores(AutoModelForCausalLM.from_pretrained(str(tiny_model), dtype="float32"))
    difference = float((scores(model) - own).abs().max())
    assert difference < float((base - own).abs().max()) / 4, "what the adapter teaches is not lost to rounding"
    assert exported.drift is not None
    assert exported.drift.same_token > 0.9
    assert 0 < exported.drift.mean <= exported.drift.largest
    assert exported.drift.largest == pytest.approx(difference, abs=5 * difference)
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation.get("do_sample", False) is False
    assert "repetition_penalty" not in generation
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    assert "<|im_start|>assistant" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "How long?"}], tokenize=False, add_generation_prompt=True
    )

    card, values = (folder / "README.md").read_text(), json.loads((folder / "nightshift.json").read_text())
    assert adapter.digest in card
    assert "It was not evaluated" in card
    assert "It was never released" in card
    assert values["moved"]["trainable"] == 2 * 4 * (4 * 64 + 3 * 96)  # two layers, rank 4, both sides of seven matrices
    assert f"{values['moved']['trainable']:,} of" in card
    assert values["recipe"]["lora_rank"] == 4
    assert min(values["moved"]["norms"].values()) > 0, "every kind of layer learned"
    assert values["moved"]["mean"] > values["drift"]["mean"]

    again = training.export(context, adapter, "merged", tmp_path / "again")
    assert again.reused
    assert again.merged == exported.merged
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_an_adapter_opens_in_peft_as_it_is(
    settings: Settings, origin: Origin, usecase: MakeCase, adapter: Version, tiny_model: Path, tmp_path: Path
) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    context = Context(settings, usecase(), origin)
    exported = training.export(context, adapter, "peft", tmp_path / "peft")
    assert (exported.merged, exported.drift) == (None, None)
    opened = AutoPeftModelForCausalLM.from_pretrained(exported.folder, dtype="float32").eval()
    own = scores(beside(tiny_model, settings, adapter, tmp_path / "adapter"))
    assert float((scores(opened) - own).abs().max()) < 1e-5
    assert AutoTokenizer.from_pretrained(exported.folder).chat_template
    again = training.export(context, adapter, "peft", tmp_path / "again")
    assert not again.reused, "each time that it is taken out is on record"
    assert again.run != exported.run


def test_a_model_that_was_trained_in_four_bits_is_merged_in_sixteen(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit, tmp_path: Path
) -> None:
    commit(40)
    context = Context(settings, usecase(quantize="nf4", dtype="bfloat16", sft={"max_steps": 4}), origin)
    tuned = training.sft(context, training.preflight(context))
    exported = training.export(context, tuned.adapter, "merged", tmp_path / "merged")
    assert exported.drift is not None
    assert exported.drift.largest > 0
    assert "four bits" in (tmp_path / "merged" / "README.md").read_text()


def test_what_stands_in_the_folder_stays(
    settings: Settings, origin: Origin, usecase: MakeCase, adapter: Version, tmp_path: Path
) -> None:
    context = Context(settings, usecase(), origin)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("full", "file"):
        with pytest.raises(BadInput, match="something already"):
            training.export(context, adapter, "peft", tmp_path / name)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert training.export(context, adapter, "peft", tmp_path / "empty").files


def test_an_adapter_of_another_base_is_not_merged(
    settings: Settings, origin: Origin, usecase: MakeCase, adapter: Version, model_copy: Path, tmp_path: Path
) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps({**config, "rope_theta": 20_000.0}))
    with pytest.raises(Refused, match="belongs to another base model"):
        training.export(Context(settings, usecase(model_copy), origin), adapter, "merged", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_trained_on_erased_rows_is_taken_out_by_nobody_and_what_was_taken_out_is_purged(
    settings: Settings,
    origin: Origin,
    usecase: MakeCase,
    adapter: Version,
    attacker: psycopg.Connection[Any],
    tmp_path: Path,
) -> None:
    case = usecase()
    context = Context(settings, case, origin)
    merged = training.export(context, adapter, "merged", tmp_path / "before").merged
    assert merged is not None
    attacker.execute(
        "with e as (insert into catalog.erasure (use_case, kind, basis, reason, impact, requested_by)"
        " values ('demo', 'example', 'request', 'a letter', '{}', 'engineer') returning erasure_id)"
        " insert into catalog.erased_row (use_case, kind, digest, erasure_id, split)"
        " select 'demo', 'example', x.digest, e.erasure_id, x.split from e, catalog.example x"
        " where x.split = 'train' limit 1"
    )
    for form in ("merged", "peft"):
        with pytest.raises(Refused, match="erased since: it is not exported"):
            training.export(Context(settings, case, origin, "never"), adapter, form, tmp_path / form)
        assert not (tmp_path / form).exists()
    store = ArtifactStore(settings.artifacts)
    assert store.exists("merged_model", merged)
    data.forget(settings, [case], Origin("cli", "schedule"))
    assert not store.exists("merged_model", merged)
    assert not store.exists("adapter", adapter.digest)


def test_a_base_model_that_is_gone_is_named(
    settings: Settings, origin: Origin, usecase: MakeCase, adapter: Version, tmp_path: Path
) -> None:
    case = usecase().model_copy(update={"base_model": usecase().base_model.model_copy(update={"path": "/nowhere"})})
    with pytest.raises(NotAvailable, match="is not there"):
        training.export(Context(settings, case, origin), adapter, "merged", tmp_path / "out")
