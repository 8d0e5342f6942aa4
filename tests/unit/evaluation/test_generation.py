"""Batches and likelihoods against one prompt at a time, on the model that ships."""

import math
import subprocess
import sys
from typing import Any

import pytest

from pipeline import models
from pipeline.errors import BadInput
from pipeline.evaluation import generation
from pipeline.settings import ROOT

pytestmark = pytest.mark.unit

PROMPTS = [
    [{"role": "user", "content": f"Question: {question}"}]
    for question in ("How long?", "Who approves the outsourcing contract of the bank, and by when?", "What is the fee?")
]


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    return models.load(ROOT / "models" / "tiny")


def test_a_batch_answers_as_each_prompt_alone(loaded: tuple[Any, Any]) -> None:
    together = generation.answers(*loaded, PROMPTS, max_new_tokens=12, batch_size=3)
    alone = [generation.answers(*loaded, [prompt], max_new_tokens=12, batch_size=1)[0] for prompt in PROMPTS]
    assert [one.text for one in together] == [one.text for one in alone]
    assert not any(one.cut for one in together)


def test_likelihood_is_that_of_the_replys_tokens(loaded: tuple[Any, Any]) -> None:
    import torch

    model, tokenizer = loaded
    replies = ["Two days.", "The board approves the contract within ten business days.", "EUR 5."]
    pairs = list(zip(PROMPTS, replies, strict=True))
    found = generation.likelihoods(model, tokenizer, pairs, batch_size=3)
    for (prompt, reply), mean in zip(pairs, found, strict=True):
        text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        before = tokenizer(text, add_special_tokens=False)["input_ids"]
        own = tokenizer(reply, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logits = torch.log_softmax(model(input_ids=torch.tensor([before + own])).logits[0].float(), dim=-1)
        slow = [float(logits[len(before) - 1 + place, token]) for place, token in enumerate(own)]
        assert mean == pytest.approx(sum(slow) / len(slow), abs=1e-4)
        assert 0 < math.exp(mean) < 1


def test_a_prompt_that_is_too_long_loses_its_beginning(loaded: tuple[Any, Any]) -> None:
    prompt = [{"role": "user", "content": "How long is the notice period of the contract? " * 400}]
    (one,) = generation.answers(*loaded, [prompt], max_new_tokens=4, batch_size=1)
    assert one.cut


def test_a_model_without_a_chat_template_is_refused(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        with pytest.raises(BadInput, match="no chat template"):
            generation.answers(model, tokenizer, PROMPTS, max_new_tokens=1, batch_size=1)
    finally:
        tokenizer.chat_template = template


def test_importing_the_stages_loads_no_model_library() -> None:
    code = (
        "import sys, pipeline.evaluation, pipeline.release;"
        "print([name for name in ('torch', 'transformers', 'pandas', 'sentence_transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
