"""Rows against a chat template: what is kept, as which tokens, what is not, and why."""

import math
from typing import Any

import pytest

from pipeline.chat import Chat
from pipeline.errors import Refused
from pipeline.training import rows
from pipeline.training.head import IGNORED
from pipeline.usecase import DpoRecipe, SftRecipe

pytestmark = pytest.mark.unit

USER = {"role": "user", "content": "How long is it?"}
ANSWER = {"role": "assistant", "content": "Two metres."}
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{% if loop.index0 and messages[loop.index0 - 1]['role'] == m['role'] %}{{ raise_exception('no') }}{% endif %}"
    "{{ m['content'] + '#' }}{% endfor %}{% if add_generation_prompt %}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A tokenizer of one token a character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = sorted({*map(chr, range(32, 127))})
    backend = Tokenizer(models.WordLevel({character: n for n, character in enumerate(characters)}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    special = {"chat_template": TEMPLATE, "pad_token": "~", "eos_token": "#"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def chat(tokenizer: Any) -> Chat:
    return Chat(tokenizer)


def test_labels_are_the_assistants_own_words_and_their_end(chat: Chat, tokenizer: Any) -> None:
    kept = rows.supervised([{"messages": [USER, ANSWER]}], chat, 100)
    (row,) = kept.rows
    assert tokenizer.decode(row["input_ids"]) == "How long is it?#Two metres.#"
    begin = len("How long is it?#")
    assert row["labels"] == [IGNORED] * begin + row["input_ids"][begin:]
    assert kept.supervised == len("Two metres.#")
    assert kept.tokens == len("How long is it?#Two metres.#")
    assert (kept.cut, kept.last_only, kept.rejected) == (0, 0, {})


def test_every_answer_of_a_conversation_is_supervised(chat: Chat) -> None:
    kept = rows.supervised([{"messages": [USER, ANSWER, USER, ANSWER]}], chat, 100)
    assert kept.supervised == 2 * len("Two metres.#")
    assert kept.last_only == 0


def test_a_conversation_that_is_written_anew_counts_as_taught_by_its_last_answer(tokenizer: Any) -> None:
    # The template shortens what came before the last question.
    anew = TEMPLATE.replace(
        "{{ m['content'] + '#' }}", "{{ (m['content'] if loop.revindex <= 2 else m['content'][:4]) + '#' }}"
    )
    try:
        tokenizer.chat_template = anew
        kept = rows.supervised([{"messages": [USER, ANSWER, USER, ANSWER]}], Chat(tokenizer), 100)
    finally:
        tokenizer.chat_template = TEMPLATE
    assert (len(kept.rows), kept.last_only, kept.supervised) == (1, 1, len("Two metres.#"))
    assert kept.counts().last_only == 1


def test_a_row_is_cut_at_max_length_and_kept_while_an_answer_is_left(chat: Chat) -> None:
    begin = len("How long is it?#")
    kept = rows.supervised([{"messages": [USER, ANSWER]}], chat, begin + 3)
    assert (kept.tokens, kept.supervised, kept.cut) == (begin + 3, 3, 1)
    assert [len(kept.rows[0][name]) for name in ("input_ids", "labels")] == [begin + 3] * 2
    gone = rows.supervised([{"messages": [USER, ANSWER]}], chat, begin)
    assert (gone.rows, gone.rejected) == ([], {"answer_beyond_max_length": 1})


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER], "no_answer"),
        ([USER, {"role": "assistant", "content": " "}], "no_answer"),
        ([USER, {"role": "tool", "content": "7"}, ANSWER], "template_refuses"),
        ([USER, USER, ANSWER], "template_refuses"),
        ([USER, {"role": "assistant", "content": "Item #7"}], "control_token_in_answer"),
    ],
)
def test_rows_that_teach_nothing_are_rejected_with_a_reason(
    chat: Chat, messages: list[dict[str, str]], reason: str
) -> None:
    kept = rows.supervised([{"messages": messages}, {"messages": [USER, ANSWER]}], chat, 100)
    assert len(kept.rows) == 1
    assert kept.counts().rejected == {reason: 1}


def test_preferences_need_two_answers_that_differ_within_max_length(chat: Chat, tokenizer: Any) -> None:
    other = {"role": "assistant", "content": "Two feet."}
    row = {"prompt": [USER], "chosen": [ANSWER], "rejected": [other]}
    prompt = len("How long is it?#")
    kept = rows.preferences([row], chat, 100)
    sides = {name: tokenizer.decode(ids) for name, ids in kept.rows[0].items()}
    assert sides == {"prompt_ids": "How long is it?#", "chosen_ids": "Two metres.#", "rejected_ids": "Two feet.#"}
    assert kept.tokens == 2 * prompt + len("Two metres.#Two feet.#")
    assert kept.supervised == len("Two metres.#Two feet.#")
    alike = rows.preferences([{**row, "rejected": [ANSWER]}], chat, 100)
    assert alike.rejected == {"answers_alike": 1}
    # Cut to "Two ", both say the same.
    assert rows.preferences([row], chat, prompt + 4).rejected == {"answers_alike": 1}
    assert rows.preferences([row], chat, prompt).rejected == {"prompt_fills_max_length": 1}
    tool = {"role": "tool", "content": "7"}
    assert rows.preferences([{**row, "prompt": [tool]}], chat, 100).rejected == {"template_refuses": 1}
    apart = {**row, "chosen": [ANSWER, USER, ANSWER]}
    assert rows.preferences([apart], chat, 100).rejected == {"prompts_differ": 1}


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_budget_takes_the_first_rows_that_fit_and_counts_the_others(chat: Chat, method: str) -> None:
    question = [{"role": "user", "content": "How long?"}]
    answers = [[{"role": "assistant", "content": f"It takes {n} days."}] for n in range(21)]
    if method == "sft":
        keep, contents = rows.supervised, [{"messages": question + answer} for answer in answers[:20]]
    else:
        keep = rows.preferences
        contents = [{"prompt": question, "chosen": answers[n], "rejected": answers[n + 1]} for n in range(20)]
    whole = keep(contents, chat, 64)
    assert (len(whole.rows), whole.left_out) == (20, 0)
    part = keep(contents, chat, 64, whole.tokens / 3)
    assert 0 < len(part.rows) < 20
    assert part.rows == whole.rows[: len(part.rows)]
    assert part.tokens <= whole.tokens / 3 < keep(contents[: len(part.rows) + 1], chat, 64).tokens
    assert part.left_out == part.counts().left_out == 20 - len(part.rows)
    none = keep(contents, chat, 64, 3)
    with pytest.raises(Refused, match="max_tokens"):
        rows.require(none, "sft", 64)


def test_validation_rows_have_a_tenth_of_the_budget() -> None:
    assert rows.budget(SftRecipe(max_tokens=5_000), "train") == 5_000
    assert rows.budget(SftRecipe(max_tokens=5_000), "validation") == 500
    assert rows.budget(DpoRecipe(), "train") == math.inf


def test_no_row_left_is_refused_with_the_reasons(chat: Chat) -> None:
    kept = rows.supervised([{"messages": [USER]}] * 3, chat, 100)
    with pytest.raises(Refused, match="no sft row") as refusal:
        rows.require(kept, "sft", 100)
    assert "no_answer: 3" in str(refusal.value)
    with pytest.raises(Refused, match="no row at all"):
        rows.require(rows.Kept([]), "preference", 100)


def test_counts_hold_no_text(chat: Chat) -> None:
    kept = rows.supervised([{"messages": [USER, ANSWER]}], chat, 100)
    assert "metres" not in str(kept.counts())
