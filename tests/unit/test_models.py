"""Where a base model is found, what it is by content, and what is refused."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline import models
from pipeline.errors import NotAvailable, Refused
from pipeline.settings import ROOT, Settings, from_environment
from pipeline.usecase import BaseModelSource

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return from_environment({"NIGHTSHIFT_HOME": str(tmp_path / "home")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of a base model."""
    made = tmp_path / "model"
    made.mkdir()
    save_file({"a": np.zeros(4, np.float32)}, made / "model.safetensors")
    (made / "config.json").write_text('{"model_type": "llama"}')
    (made / "tokenizer.json").write_text("{}")
    (made / "README.md").write_text("Nothing depends on this.")
    return made


def resolve(settings: Settings, folder: Path) -> models.BaseModel:
    return models.resolve(settings, BaseModelSource(path=str(folder)))


def test_the_digest_is_of_the_content(settings: Settings, folder: Path, tmp_path: Path) -> None:
    base = resolve(settings, folder)
    assert base.files.keys() == {"config.json", "model.safetensors", "tokenizer.json"}
    assert base.size_bytes == sum((folder / name).stat().st_size for name in base.files)
    moved = folder.rename(tmp_path / "elsewhere")
    (moved / "README.md").write_text("Other words.")
    (moved / "config.json").write_text('{ "model_type" : "llama" }')  # the same value, laid out otherwise
    assert resolve(settings, moved).digest == base.digest


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"])
def test_a_change_in_what_counts_changes_the_digest(settings: Settings, folder: Path, name: str) -> None:
    before = resolve(settings, folder).digest
    if name == "model.safetensors":
        save_file({"a": np.ones(4, np.float32)}, folder / name)
    else:
        (folder / name).write_text('{"other": 1}')
    assert resolve(settings, folder).digest != before


def test_unchanged_files_are_not_hashed_again(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resolve(settings, folder)

    def never(name: str, source: object) -> str:
        raise AssertionError(f"{name} was hashed again")

    monkeypatch.setattr(models, "content_digest", never)
    assert resolve(settings, folder) == before
    os.utime(folder / "config.json", ns=(1, 1))
    with pytest.raises(AssertionError, match=r"config\.json was hashed again"):
        resolve(settings, folder)


def test_a_damaged_memory_of_digests_costs_time_alone(settings: Settings, folder: Path) -> None:
    before = resolve(settings, folder)
    (settings.home / "cache" / "model-digests.json").write_text("{half")
    assert resolve(settings, folder) == before


def test_pickles_are_refused(settings: Settings, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Refused, match="pickles") as told:
        resolve(settings, folder)
    assert "pytorch_model.bin" in str(told.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_model_that_is_not_whole_is_told(settings: Settings, folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(NotAvailable, match="not whole") as told:
        resolve(settings, folder)
    assert name in str(told.value)


def test_every_shard_must_be_there(settings: Settings, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(NotAvailable, match="model-00002-of-00002"):
        resolve(settings, folder)


def test_a_folder_that_is_not_there_is_told(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable) as told:
        resolve(settings, tmp_path / "none")
    assert str(tmp_path / "none") in str(told.value)


def test_a_model_of_the_hub_that_is_not_here_says_how_to_get_it(settings: Settings) -> None:
    source = BaseModelSource(path="someone/something", revision="0" * 40)
    with pytest.raises(NotAvailable) as told:
        models.resolve(settings, source)
    assert f"hf download someone/something --revision {'0' * 40}" in str(told.value)
    assert "HF_HOME" in str(told.value)
    assert "the Hugging Face cache" in str(told.value)


def test_a_model_of_the_hub_is_taken_from_the_cache(
    settings: Settings, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "0" * 40
    snapshot = tmp_path / "hub" / "models--someone--something" / "snapshots" / revision
    snapshot.parent.mkdir(parents=True)
    digest = resolve(settings, folder).digest
    folder.rename(snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    base = models.resolve(settings, BaseModelSource(path="someone/something", revision=revision))
    assert Path(base.folder) == snapshot
    assert base.digest == digest
    assert models.register(base).meta["revision"] == revision


def test_a_relative_path_counts_from_the_repository(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert models.locate(settings, BaseModelSource(path="models/tiny")).is_absolute()


def test_registered_without_an_address_but_with_its_files_digests(settings: Settings, folder: Path) -> None:
    base = resolve(settings, folder)
    output = models.register(base)
    assert (output.kind, output.name, output.digest, output.uri, output.private) == (
        "base_model",
        "base",
        base.digest,
        None,
        False,
    )
    assert output.meta["files"] == base.files
    assert models.register(replace(base, folder="/other")) == output


def test_a_cpu_is_a_cpu() -> None:
    assert models.device("cpu") == "cpu"


def test_an_adapter_without_safetensors_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(NotAvailable, match="no safetensors"):
        models._with_adapter(None, tmp_path, folder, None, False)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
def test_an_adapter_is_added_into_full_precision_weights_and_answers_the_same(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    tiny = ROOT / "models" / "tiny"
    base, tokenizer = models.load(tiny)
    torch.manual_seed(3)
    # Weights that change the answer: as peft begins an adapter, it would change nothing.
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapter = tmp_path / "adapter"
    get_peft_model(base, config).save_pretrained(str(adapter))
    plain, added, apart = (
        models.load(tiny)[0],
        models.load(tiny, adapter=adapter)[0],
        models.load(tiny, adapter=adapter, trainable=True)[0].eval(),
    )
    assert isinstance(apart, PeftModel)
    assert not isinstance(added, PeftModel)
    ids = tokenizer("The deadline of the report is 5 days.", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        first, second, third = (model(input_ids=ids).logits for model in (plain, added, apart))
    assert torch.allclose(second, third, atol=1e-3)
    assert not torch.allclose(first, second, atol=1e-1)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny, adapter = ROOT / "models" / "tiny", tmp_path / "adapter"
    base, _ = models.load(tiny)
    get_peft_model(base, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(str(adapter))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "sha256:abc"}))
    assert models.load(tiny, adapter=adapter, digest="abc")[0] is not None
    with pytest.raises(Refused, match="another base model") as refusal:
        models.load(tiny, adapter=adapter, digest="def")
    assert "sha256:abc" in str(refusal.value)

    # One of another shape shows by its weights, whatever it says.
    narrow = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2, vocab_size=3072
    )
    LlamaForCausalLM(narrow).save_pretrained(tmp_path / "narrow")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "narrow" / name).write_bytes((tiny / name).read_bytes())
    with pytest.raises(Refused, match="another base model"):
        models.load(tmp_path / "narrow", adapter=adapter)


@pytest.mark.parametrize(
    ("wanted", "visible", "torch", "expected"),
    [
        ("cpu", "0", "2.13.0", "cpu"),
        ("cuda", "0", "2.13.0", "cuda"),
        ("auto", "", "2.13.0", "cpu"),
        ("auto", "0", "2.13.0+cpu", "cpu"),
        ("auto", "0", "2.13.0", "there"),
    ],
)
def test_a_cache_key_knows_the_device_without_torch(
    monkeypatch: pytest.MonkeyPatch, wanted: str, visible: str, torch: str, expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("importlib.metadata.version", lambda _: torch)
    there = "cuda" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"
    assert models.expected_device(wanted) == (there if expected == "there" else expected)


def test_the_expected_device_is_the_one_that_models_run_on() -> None:
    assert models.expected_device("auto") == models.device("auto")


@pytest.fixture
def avx512_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes, as on a processor with AVX512-BF16: what it does to weights there is plain torch."""
    import bitsandbytes.nn.modules

    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)


def four_bits(trainable: bool = False) -> "tuple[Any, list[Any]]":
    """Returns the model that ships, in four bits, and its layers that are."""
    from bitsandbytes.nn.modules import Linear4bit

    model, _ = models.load(ROOT / "models" / "tiny", dtype="bfloat16", quantize="nf4", trainable=trainable)
    return model, [module for module in model.modules() if isinstance(module, Linear4bit)]


@pytest.mark.parametrize("trainable", [False, True])
def test_four_bits_are_the_same_weights_on_every_processor(avx512_bf16: None, trainable: bool) -> None:
    import torch

    tokens = torch.arange(1, 33).reshape(2, 16)
    model, layers = four_bits(trainable)
    assert layers
    before = [layer.weight.data.clone() for layer in layers]
    seen = []
    for mode in (False, True, False):
        model.train(mode)
        with torch.no_grad():
            seen.append(model(input_ids=tokens).logits)
    assert all(torch.equal(layer.weight.data, kept) for layer, kept in zip(layers, before, strict=True))
    assert not any(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers)
    assert torch.equal(seen[0], seen[2])
    assert torch.isfinite(seen[0]).all()


def test_bitsandbytes_would_rewrite_them(avx512_bf16: None) -> None:
    """What the test above guards against: without the switch, evaluation packs the weights in place."""
    import torch

    model, layers = four_bits()
    before = layers[0].weight.data.clone()
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True
    with torch.no_grad():
        model(input_ids=torch.arange(1, 17).reshape(1, 16))
    assert layers[0].weight.quant_state.packing_format_for_cpu
    assert not torch.equal(layers[0].weight.data.reshape(-1), before.reshape(-1))
