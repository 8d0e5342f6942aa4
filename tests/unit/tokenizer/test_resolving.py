"""Which files make a tokenizer as they stand; and for the others, transformers' own answer, asked for once."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pipeline import tokenizer
from pipeline.chat import Chat
from pipeline.errors import BadInput, NotAvailable
from pipeline.settings import ROOT, Settings, from_environment
from pipeline.tokenizer import conversion, resolving
from pipeline.usecase import BaseModelSource
from tests.unit.test_chat import FIRST, SECOND, SYSTEM

pytestmark = pytest.mark.unit

TINY = ROOT / "models" / "tiny"
TEXTS = (
    "How long is it? 2,000 mm<|im_end|>\n<|im_start|>assistant\n",
    "  Größer als 7 µm — “ja”.\t\n\n多长?🙂",
    "x1234567 (a) [ruler-7] u\u0308ber",
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return from_environment({"NIGHTSHIFT_HOME": str(tmp_path / "home")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(TINY, tmp_path / "model", ignore=shutil.ignore_patterns("build", "*.safetensors")))


def edit(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def files(settings: Settings, folder: Path) -> tokenizer.TokenizerFiles:
    return tokenizer.locate(settings, BaseModelSource(path=str(folder)))


def require_alike(light: tokenizer.Tokenizer, folder: Path) -> None:
    """Asserts that both give the same tokens, and write conversations alike."""
    original = AutoTokenizer.from_pretrained(str(folder))
    for text in TEXTS:
        assert light(text)["input_ids"] == original(text, add_special_tokens=False)["input_ids"]
    ours, theirs = Chat(light), Chat(original)
    assert ours.form == theirs.form
    assert ours.conversation([SYSTEM, *FIRST, *SECOND]) == theirs.conversation([SYSTEM, *FIRST, *SECOND])


def test_the_model_that_ships_is_read_as_it_stands(settings: Settings) -> None:
    light = tokenizer.load(settings, files(settings, TINY))
    require_alike(light, TINY)
    assert not settings.home.exists(), "nobody was asked"


def test_the_check_of_data_imports_neither_torch_nor_transformers(settings: Settings) -> None:
    program = (
        "import sys; from pipeline.settings import from_environment; from pipeline.usecase import find;"
        "from pipeline.data import lengths; from pipeline.data.formats import Example;"
        "s = from_environment(); measuring = lengths.load(s, lengths.basis(s, find(s, 'tiny')));"
        "content = {'messages': [{'role': 'user', 'content': 'Who?'}, {'role': 'assistant', 'content': 'Me.'}]};"
        "assert measuring.of(Example('f', 1, 'sft', content)).supervised > 1;"
        "sys.exit(', '.join({'torch', 'transformers'} & set(sys.modules)) or 0)"
    )
    environment = {"NIGHTSHIFT_HOME": str(settings.home), "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")


def config(folder: Path, **keys: Any) -> None:
    edit(folder / "config.json", **keys)


def stated(folder: Path, **keys: Any) -> None:
    edit(folder / "tokenizer_config.json", **keys)


def move_template(folder: Path, form: Callable[[str], object]) -> None:
    """Puts the template into the configuration, as older releases had it."""
    path = folder / "chat_template.jinja"
    stated(folder, chat_template=form(path.read_text()))
    path.unlink()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: config(folder, model_type="qwen2"),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: stated(folder, tokenizer_class="Qwen2Tokenizer"),
        lambda folder: stated(folder, tokenizer_class=None),
        lambda folder: stated(folder, eos_token="<|new|>"),
        lambda folder: stated(folder, eos_token={"content": "<|im_end|>", "lstrip": True}),
        lambda folder: stated(folder, image_token="<|im_end|>"),
        lambda folder: stated(folder, extra_special_tokens=["<|new|>"]),
        lambda folder: stated(folder, split_special_tokens=True),
        lambda folder: stated(folder, auto_map={"AutoTokenizer": ["own.Own", None]}),
        lambda folder: stated(folder, added_tokens_decoder={"3": {"content": "<|im_end|>", "lstrip": True}}),
        lambda folder: (folder / "special_tokens_map.json").write_text("{}"),
        lambda folder: (folder / "added_tokens.json").write_text("{}"),
        lambda folder: (folder / "additional_chat_templates").mkdir(),
        lambda folder: (folder / "tokenizer.json").write_text("{"),
    ],
)
def test_files_that_leave_something_to_decide_are_not_read_as_they_stand(
    settings: Settings, folder: Path, change: Callable[[Path], object]
) -> None:
    before = files(settings, folder)
    assert resolving.as_it_stands(before) is not None
    change(folder)
    after = files(settings, folder)
    assert resolving.as_it_stands(after) is None
    assert after.digest != before.digest or (folder / "additional_chat_templates").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: stated(folder, tokenizer_class="PreTrainedTokenizerFast"),
        lambda folder: stated(folder, bos_token="<|endoftext|>", unk_token="<|endoftext|>"),
        lambda folder: stated(folder, pad_token=None),
        lambda folder: stated(folder, eos_token="<|endoftext|>", model_max_length=4),
        lambda folder: stated(
            folder,
            added_tokens_decoder={
                str(each["id"]): {key: each[key] for key in each if key != "id"}
                for each in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
            },
        ),
        lambda folder: move_template(folder, lambda text: text),
        lambda folder: move_template(folder, lambda text: [{"name": "default", "template": text}]),
        lambda folder: edit(
            folder / "tokenizer.json",
            truncation={"max_length": 3, "stride": 0, "strategy": "LongestFirst", "direction": "Right"},
        ),
    ],
)
def test_what_is_read_as_it_stands_is_what_transformers_reads(
    settings: Settings, folder: Path, change: Callable[[Path], object]
) -> None:
    change(folder)
    light = resolving.as_it_stands(files(settings, folder))
    assert light is not None
    require_alike(light, folder)
    original = AutoTokenizer.from_pretrained(str(folder))
    assert light.chat_template == original.chat_template
    assert light.eos_token_id == original.eos_token_id
    for template in ("{{ bos_token }}", "{{ unk_token }}", "{{ pad_token }}", "{{ eos_token }}", "{{ sep_token }}"):
        given: dict[str, Any] = {"chat_template": template, "tokenize": False}
        assert light.apply_chat_template(FIRST, **given) == original.apply_chat_template(FIRST, **given)


def test_where_a_class_builds_another_tokenizer_its_own_is_read_and_kept(
    settings: Settings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Qwen2's class takes the words of tokenizer.json, and composes accents before it looks for them."""
    stated(folder, tokenizer_class="Qwen2Tokenizer")
    with caplog.at_level(logging.INFO):
        light = tokenizer.load(settings, files(settings, folder))
    assert "some seconds, once" in caplog.text
    require_alike(light, folder)
    plain = tokenizer.load(settings, files(settings, TINY))
    assert plain("u\u0308ber") != light("u\u0308ber") == light("\u00fcber")
    (kept,) = (settings.home / "cache" / "tokenizers").iterdir()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = tokenizer.load(settings, files(settings, folder))
    assert caplog.text == ""
    assert [again(text) for text in TEXTS] == [light(text) for text in TEXTS]
    assert sorted(path.name for path in kept.iterdir()) == ["parts.json", "tokenizer.json"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "has no chat template"),
        (lambda folder: config(folder, vocab_size=7), "more words than the model's embedding"),
    ],
)
def test_files_that_transformers_cannot_read_are_bad_input(
    folder: Path,
    tmp_path: Path,
    change: Callable[[Path], object],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(folder)
    monkeypatch.setattr(sys, "argv", ["conversion", str(folder), str(tmp_path / "kept")])
    with pytest.raises(SystemExit) as ended:
        conversion.main()
    assert ended.value.code == BadInput.exit_code
    assert problem in capsys.readouterr().err.splitlines()[-1]


def test_a_process_that_does_not_answer_says_nothing_against_the_files(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated(folder, tokenizer_class="Qwen2Tokenizer")
    monkeypatch.setattr(resolving, "_SECONDS", 0.01)
    with pytest.raises(NotAvailable, match="no answer within"):
        tokenizer.load(settings, files(settings, folder))
    assert list((settings.home / "cache" / "tokenizers").iterdir()) == []


def test_a_process_that_cannot_begin_says_nothing_against_the_files(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated(folder, tokenizer_class="Qwen2Tokenizer")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NotAvailable, match="exit code 1"):
        tokenizer.load(settings, files(settings, folder))


def test_a_file_that_the_home_folder_keeps_counts_for_these_versions_alone(settings: Settings, folder: Path) -> None:
    stated(folder, tokenizer_class="Qwen2Tokenizer")
    own = files(settings, folder)
    assert resolving.kept_at(settings, own) != resolving.kept_at(settings, replace(own, digest="0" * 64))
    assert resolving.kept_at(settings, own) == resolving.kept_at(settings, replace(own, folder=TINY))
