"""GGUF files made into models: the same bytes each time, whole or not at all."""

import errno
import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline import catalogue, models
from pipeline.catalogue import entries, gguf, pulling
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.settings import Settings
from pipeline.usecase import BaseModelSource

pytestmark = pytest.mark.unit

Write = Callable[..., Path]


def names(settings: Settings) -> set[str]:
    """What stands in the models' folder, but for the lock."""
    return {path.name for path in settings.models.iterdir()} - {".lock"} if settings.models.exists() else set()


def test_a_gguf_becomes_a_model_that_loads_and_answers(settings: Settings, write_gguf: Write) -> None:
    done = catalogue.pull(settings, str(write_gguf()))
    assert (done.name, done.licence, done.already) == ("small-q8", "mit", False)
    model, tokenizer = models.load(done.folder, dtype="bfloat16")
    assert str(model.dtype) == "torch.bfloat16"
    assert tokenizer.chat_template
    assert tokenizer("the")["input_ids"] == [260]
    assert models.resolve(settings, BaseModelSource(name="small-q8")).digest == done.digest


def test_pulling_again_changes_nothing_and_elsewhere_gives_the_same_bytes(
    settings: Settings, write_gguf: Write, tmp_path: Path
) -> None:
    source = write_gguf()
    first = catalogue.pull(settings, str(source))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(first.folder).iterdir()}
    second = catalogue.pull(settings, str(source))
    assert second.already
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(first.folder).iterdir()} == before

    elsewhere = Settings(tmp_path / "other", settings.usecases, settings.artifacts, settings.logins)
    third = catalogue.pull(elsewhere, str(source))
    assert {path.name: path.read_bytes() for path in Path(third.folder).iterdir()} == {
        name: content for name, (content, _) in before.items()
    }


def test_a_model_that_was_damaged_is_made_anew(settings: Settings, write_gguf: Write) -> None:
    source = write_gguf()
    done = catalogue.pull(settings, str(source))
    weights = Path(done.folder) / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    again = catalogue.pull(settings, str(source))
    assert not again.already
    assert weights.read_bytes() == before


def test_another_model_does_not_take_its_name(settings: Settings, write_gguf: Write) -> None:
    catalogue.pull(settings, str(write_gguf()))
    other = write_gguf("other.gguf", seed=8)
    with pytest.raises(Refused, match="another model has this name"):
        catalogue.pull(settings, str(other), name="small-q8")
    assert catalogue.pull(settings, str(other)).name == "other"


def test_two_at_once_make_it_once(settings: Settings, write_gguf: Write) -> None:
    source, answers = write_gguf(), []
    threads = [threading.Thread(target=lambda: answers.append(catalogue.pull(settings, str(source)))) for _ in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.already for answer in answers) == [False, True]
    assert names(settings) == {"small-q8"}


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.9, 0.9999])
def test_a_gguf_that_is_cut_off_is_refused(settings: Settings, write_gguf: Write, share: float) -> None:
    path = write_gguf()
    content = path.read_bytes()
    path.write_bytes(content[: max(6, int(len(content) * share))])
    with pytest.raises(BadInput, match="cut off or damaged"):
        catalogue.pull(settings, str(path))
    assert names(settings) == set()


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04" * 40, b"\x80\x02}q\x00." * 9])
def test_what_is_no_gguf_is_refused(settings: Settings, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.gguf"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="no GGUF file"):
        catalogue.pull(settings, str(path))
    assert names(settings) == set()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"architecture": "unheard"}, Refused, "architecture cannot be read"),
        ({"tokenizer": False}, BadInput, "no tokenizer"),
        ({"template": None}, BadInput, "no chat template"),
    ],
)
def test_a_gguf_that_cannot_be_trained_is_refused(
    settings: Settings, write_gguf: Write, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        catalogue.pull(settings, str(write_gguf(**options)))
    assert names(settings) == set()


def test_a_disk_that_is_full_before_is_noticed(
    settings: Settings, write_gguf: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(NotAvailable, match="not enough room") as refusal:
        catalogue.pull(settings, str(path))
    assert "0 MiB" in str(refusal.value)
    assert not (settings.models / "small-q8").exists()


def test_a_disk_that_fills_up_leaves_nothing(
    settings: Settings, write_gguf: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf()

    def fills(source: Path, folder: Path) -> dict[str, str]:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(gguf, "convert", fills)
        with pytest.raises(NotAvailable, match="the disk is full"):
            catalogue.pull(settings, str(path))
    assert names(settings) == set()
    assert not catalogue.pull(settings, str(path)).already


def offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: Path, sha256: str) -> None:
    """Makes the catalogue offer one model, of a package in `tmp_path`."""
    package = {"package": "carrier", "version": "1.0", "file": path.name, "sha256": sha256}
    entry = {"small": {"title": "Small", "licence": "MIT", "gguf": package}}
    (tmp_path / "catalogue.yaml").write_text(json.dumps(entry))
    monkeypatch.setattr(entries, "FILE", tmp_path / "catalogue.yaml")
    monkeypatch.setattr(pulling, "PACKAGES", path.parent)


def test_a_model_of_the_catalogue_comes_from_its_package(
    settings: Settings, write_gguf: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf()
    offered(monkeypatch, tmp_path, path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert [(row.name, row.state) for row in catalogue.listed(settings)] == [("small", "can be pulled")]
    done = catalogue.pull(settings, "small")
    assert (done.name, done.licence, done.source) == ("small", "MIT", "carrier 1.0: small-q8.gguf")
    own = catalogue.pull(settings, str(write_gguf("mine.gguf", seed=3)))
    assert [(row.name, row.state) for row in catalogue.listed(settings)] == [("small", "pulled"), (own.name, "pulled")]
    with pytest.raises(BadInput, match="the catalogue has a model of this name"):
        catalogue.pull(settings, str(path), name="small")
    with pytest.raises(BadInput, match="has its name and its version"):
        catalogue.pull(settings, "small", revision="0" * 40)


def test_a_package_with_another_hash_is_refused(
    settings: Settings, write_gguf: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(monkeypatch, tmp_path, write_gguf(), "0" * 64)
    with pytest.raises(Refused, match="not the one that the catalogue names"):
        catalogue.pull(settings, "small")
    offered(monkeypatch, tmp_path, tmp_path / "gone.gguf", "0" * 64)
    with pytest.raises(NotAvailable, match=r"carrier 1\.0 is not here"):
        catalogue.pull(settings, "small")
    assert names(settings) == set()


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("smollm2-135m-instruc", BadInput),
        ("", BadInput),
        ("../etc/passwd", BadInput),
        ("someone/something", BadInput),
        ("gone.gguf", NotAvailable),
    ],
)
def test_what_is_no_model_is_refused(settings: Settings, what: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        catalogue.pull(settings, what)
    assert names(settings) == set()


@pytest.mark.parametrize("name", ["../up", "UPPER", "a b", "", ".part", "tiny"])
def test_a_name_that_is_none_is_refused(settings: Settings, write_gguf: Write, name: str) -> None:
    with pytest.raises(BadInput):
        catalogue.pull(settings, str(write_gguf("x.gguf")), name=name or "/")
    assert names(settings) == set()


def test_what_the_repository_ships_is_here(settings: Settings) -> None:
    done = catalogue.pull(settings, "tiny")
    assert (done.already, done.name) == (True, "tiny")
    assert names(settings) == set()


def test_check_says_what_a_model_is_and_takes(settings: Settings, write_gguf: Write) -> None:
    done = catalogue.pull(settings, str(write_gguf()))
    said = catalogue.check(settings, "small-q8")
    assert said == catalogue.check(settings, done.folder)
    weights = load_file(Path(catalogue.check(settings, "tiny").folder) / "model.safetensors")
    assert catalogue.check(settings, "tiny").parameters == sum(one.size for one in weights.values())
    assert (said.vocabulary, said.context_tokens, said.template.end) == (261, 256, "<|im_end|>")
    assert said.memory_mib.train_bfloat16 > said.memory_mib.answer_bfloat16
    with pytest.raises(NotAvailable, match="nightshift model pull nothing"):
        catalogue.check(settings, "nothing")


def test_check_refuses_what_preflight_would(settings: Settings, write_gguf: Write, tmp_path: Path) -> None:
    made = Path(catalogue.pull(settings, str(write_gguf())).folder)

    def changed(name: str, content: str | None) -> str:
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_text(content)
        return str(folder)

    with pytest.raises(NotAvailable, match="not whole"):
        catalogue.check(settings, changed("tokenizer.json", None))
    with pytest.raises(BadInput, match="cannot be read"):
        catalogue.check(settings, changed("tokenizer.json", '{"model": {"type": "BPE"}}'))
    with pytest.raises(BadInput, match="cannot be read"):
        catalogue.check(settings, changed("config.json", '{"model_type": "unheard"}'))
    with pytest.raises(BadInput, match="no chat template"):
        catalogue.check(settings, changed("chat_template.jinja", None))
    with pytest.raises(BadInput, match="cannot be rendered"):
        catalogue.check(settings, changed("chat_template.jinja", "{% for m in messages %}"))
    config = json.loads((made / "config.json").read_text())
    with pytest.raises(Refused, match="more words than the model's embedding") as refusal:
        catalogue.check(settings, changed("config.json", json.dumps(config | {"vocab_size": 200})))
    assert "261 words for 200 places" in str(refusal.value)
    pickled = Path(changed("model.safetensors", None))
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(Refused, match="pickles"):
        catalogue.check(settings, str(pickled))
    own = changed("config.json", json.dumps({**config, "model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}))
    with pytest.raises(Refused, match="brings code of its own"):
        catalogue.check(settings, own)


def test_a_licence_is_taken_from_the_models_card(settings: Settings, tmp_path: Path, write_gguf: Write) -> None:
    folder = tmp_path / "carded"
    shutil.copytree(catalogue.pull(settings, str(write_gguf())).folder, folder)
    (folder / "nightshift-model.json").unlink()
    assert catalogue.check(settings, str(folder)).licence == "not stated"
    for card, licence in (("---\nlicense: mit\n---\nWords.", "mit"), ("---\na: [\n---\n", "not stated")):
        (folder / "README.md").write_text(card)
        assert catalogue.check(settings, str(folder)).licence == licence
    save_file({"a": np.zeros((3, 5), np.float32)}, folder / "model.safetensors")
    assert catalogue.check(settings, str(folder)).parameters == 15
