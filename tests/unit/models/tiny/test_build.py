"""The builder: the tokenizer, the rows, a short run, and the model that ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from models.tiny.build import build, language, tokens
from models.tiny.build.check import measure
from models.tiny.build.corpus import HARDEST, stream
from models.tiny.build.muon import orthogonalised
from pipeline import prompt

SHIPPED = Path(__file__).parents[4] / "models" / "tiny"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tokens.train_tokenizer(1, sequences=300)


def test_words_are_encoded_from_memory_as_by_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    row = next(tokens.rows(tokenizer, 5, length=512, level=HARDEST))
    text = tokenizer.decode(row.tokens[row.real], skip_special_tokens=False)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == row.tokens[row.real].tolist()
    assert row.tokens.shape == row.answers.shape == row.real.shape == (512,)
    assert 0 < row.answers.sum() < row.real.sum()


def test_digits_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("EUR 15,000")[-6:] == ["Ġ1", "5", ",", "0", "0", "0"]


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    for shape in ((3, 24, 60), (3, 60, 24)):
        torch.manual_seed(0)
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.5


def test_a_short_run_exports_a_folder_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "train_tokenizer", lambda seed: tokens.train_tokenizer(seed, sequences=200))
    monkeypatch.setattr(build, "REPORTS", 1)
    monkeypatch.setattr(
        build, "measure", lambda model, tokenizer, seed, scenes: measure(model, tokenizer, seed=seed, scenes=1)
    )
    lines: list[str] = []
    report = build.build_base(tmp_path / "tiny", seed=3, tokens=3000, processes=1, log=lines.append)
    assert report.tokens >= 3000
    assert [one.tokens for one in report.progress] == sorted(one.tokens for one in report.progress)
    assert json.loads(lines[-1])["tokens"] == report.tokens
    assert {path.name for path in tmp_path.iterdir()} == {"tiny"}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny")
    assert sum(weight.numel() for weight in model.parameters()) == report.parameters


@pytest.mark.parametrize(("tokens_", "processes"), [(0, 1), (100, 0)])
def test_a_budget_below_one_is_refused(tmp_path: Path, tokens_: int, processes: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        build.build_base(tmp_path / "tiny", seed=1, tokens=tokens_, processes=processes, log=lambda _: None)


@pytest.fixture(scope="module")
def shipped() -> PreTrainedTokenizerFast:
    loaded = AutoTokenizer.from_pretrained(SHIPPED)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded


def test_the_shipped_model_is_small_and_safe(shipped: PreTrainedTokenizerFast) -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 20_000_000
    assert not [path for path in SHIPPED.iterdir() if path.suffix in {".bin", ".pt", ".py", ".pkl"}]
    config = json.loads((SHIPPED / "config.json").read_text(encoding="utf-8"))
    assert config["max_position_embeddings"] == 2048
    assert config["eos_token_id"] == shipped.eos_token_id
    assert shipped.pad_token_id not in (None, shipped.eos_token_id)


def test_the_chat_template_marks_the_assistants_tokens(shipped: PreTrainedTokenizerFast) -> None:
    asked = language.PROMPT.messages(
        "What is the deadline for the audit?", [prompt.Passage("audit-plan", "The audit is due.")]
    )
    rendered: Any = shipped.apply_chat_template(
        [*asked, {"role": "assistant", "content": "The deadline for the audit is not stated in the documents."}],
        return_assistant_tokens_mask=True,
        return_dict=True,
    )
    ids = [one for one, own in zip(rendered["input_ids"], rendered["assistant_masks"], strict=True) if own]
    assert shipped.decode(ids) == "The deadline for the audit is not stated in the documents.<|im_end|>"


def test_the_shipped_tokenizer_is_the_one_that_the_builder_makes_text_for(shipped: PreTrainedTokenizerFast) -> None:
    text = "".join(piece.text for piece in next(stream(77)))
    assert shipped.decode(shipped(text, add_special_tokens=False)["input_ids"]) == text
    assert len(text) / len(shipped(text, add_special_tokens=False)["input_ids"]) > 3.5
