"""Batches and likelihoods against one prompt at a time, on the model that ships."""

import copy
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import models
from pipeline import prompt as prompts
from pipeline import usecase as usecases
from pipeline.errors import BadInput
from pipeline.evaluation import answering, generation
from pipeline.evaluation.cases import Case, Expect, Message, Reference, Suite
from pipeline.results import LOCKED
from pipeline.settings import ROOT, from_environment

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


@pytest.mark.parametrize(
    "brought",
    [
        {"repetition_penalty": 5.0},
        {"no_repeat_ngram_size": 1},
        {"do_sample": True, "temperature": 9.0},
        {"min_length": 40},
        {"min_new_tokens": 20},
        {"suppress_tokens": list(range(5, 3000))},
        {"begin_suppress_tokens": list(range(5, 3000))},
        {"bad_words_ids": [[token] for token in range(5, 400)]},
        {"sequence_bias": [[[token], -50.0] for token in range(5, 400)]},
        {"forced_eos_token_id": 9},
        {"exponential_decay_length_penalty": (1, 4.0)},
        {"num_beams": 3, "length_penalty": 2.0},
        {"max_length": 3},
        {"max_time": 0.0001},
        {"top_k": 1, "renormalize_logits": True, "guidance_scale": 2.0},
    ],
)
def test_how_a_base_model_likes_to_generate_changes_no_answer(loaded: tuple[Any, Any], brought: dict[str, Any]) -> None:
    model, tokenizer = loaded
    plain = [one.text for one in generation.answers(model, tokenizer, PROMPTS, max_new_tokens=24, batch_size=3)]
    own = copy.deepcopy(model)
    for name, value in brought.items():
        setattr(own.generation_config, name, value)
    assert [one.text for one in generation.answers(own, tokenizer, PROMPTS, max_new_tokens=24, batch_size=3)] == plain
    assert all(getattr(own.generation_config, name) == value for name, value in brought.items())  # it is its own still


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


NO_TOOLS = (
    "{% for m in messages %}"
    "{% if m['role'] == 'tool' or 'HUGE' in m['content'] %}{{ raise_exception('no') }}{% endif %}"
    "{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
TOOL = [*PROMPTS[0], {"role": "tool", "content": "{}"}]


@pytest.fixture
def strict(loaded: tuple[Any, Any]) -> tuple[Any, Any]:
    """The model with a template that takes no tool's turn, as several families' do not."""
    model, tokenizer = loaded
    own = copy.deepcopy(tokenizer)
    own.chat_template = NO_TOOLS
    return model, own


def test_a_prompt_that_the_template_refuses_is_not_answered_and_the_others_are(strict: tuple[Any, Any]) -> None:
    asked = [PROMPTS[0], TOOL, *PROMPTS[1:]]
    found = generation.answers(*strict, asked, max_new_tokens=8, batch_size=2)
    assert [one.unsuitable is None for one in found] == [True, False, True, True]
    assert found[1].text == ""
    expected = generation.answers(*strict, PROMPTS, max_new_tokens=8, batch_size=2)
    assert [found[place].text for place in (0, 2, 3)] == [one.text for one in expected]


def test_a_reply_to_it_is_the_least_likely(strict: tuple[Any, Any]) -> None:
    pairs = [(PROMPTS[0], "Two days."), (TOOL, "Two days."), (TOOL, " ")]
    plain, *refused = generation.likelihoods(*strict, pairs, batch_size=2)
    assert refused == [-math.inf, -math.inf]
    assert plain == generation.likelihoods(*strict, pairs[:1], batch_size=2)[0]


def locked(*prompts: Sequence[Message]) -> Suite:
    cases = [
        Case(str(n), str(n), None, None, Reference(tuple(prompt), "Two days.", "No."), ("preference",))
        for n, prompt in enumerate(prompts)
    ]
    return Suite(LOCKED, True, tuple(cases))


def test_a_locked_row_that_the_template_refuses_counts_as_not_answered(
    strict: tuple[Any, Any], usecase_folder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    case = usecases.load(usecase_folder() / "usecase.yaml")
    settings = from_environment({"NIGHTSHIFT_HOME": "unused"})
    (answered,) = answering.answer_all(settings, case, strict, [locked(PROMPTS[0], TOOL)], None, prompts.read())
    assert answered.unsuitable == 1
    assert "1 locked test rows are no conversation to the model's template" in caplog.text
    good, bad = (one.scores for one in answered.results)
    assert good["likelihood"] > 0
    assert (bad["likelihood"], bad["reference"], bad["preference"]) == (0, 0, 0)


def test_a_template_that_refuses_the_use_cases_own_prompt_ends_the_evaluation(
    strict: tuple[Any, Any], usecase_folder: Callable[..., Path]
) -> None:
    case = usecases.load(usecase_folder() / "usecase.yaml")
    asked = Case("one", "one", "How HUGE?", "ada", Expect(True, "x"))
    settings = from_environment({"NIGHTSHIFT_HOME": "unused"})
    with pytest.raises(BadInput, match="does not take the prompt of the use case"):
        answering.answer_all(settings, case, strict, [Suite("facts", True, (asked,))], None, prompts.read())


def test_importing_the_stages_loads_no_model_library() -> None:
    code = (
        "import sys, pipeline.evaluation, pipeline.release;"
        "print([name for name in ('torch', 'transformers', 'pandas', 'sentence_transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
