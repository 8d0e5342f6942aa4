"""Rows against a tokenizer and its chat template: what is kept, what is not, and why."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Refused
from pipeline.training import rows

pytestmark = pytest.mark.unit

USER = {"role": "user", "content": "How long is it?"}
ANSWER = {"role": "assistant", "content": "Two metres."}
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '#' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '#' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer of one token a character."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = sorted({*map(chr, range(32, 127))})
    made = Tokenizer(models.WordLevel({character: n for n, character in enumerate(characters)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    told = {"chat_template": TEMPLATE, "pad_token": "~", "eos_token": "#"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **told)  # type: ignore[no-untyped-call]


def test_supervised_tokens_are_the_assistants_own(tokenizer: Any) -> None:
    kept = rows.supervised([{"messages": [USER, ANSWER]}], tokenizer, 100)
    assert kept.rows == [{"messages": [USER, ANSWER]}]
    assert kept.supervised == len("Two metres.#")
    assert kept.tokens == len("How long is it?#Two metres.#")
    assert (kept.cut, kept.rejected) == (0, {})


def test_a_row_is_cut_at_max_length_and_kept_while_an_answer_is_left(tokenizer: Any) -> None:
    begin = len("How long is it?#")
    kept = rows.supervised([{"messages": [USER, ANSWER]}], tokenizer, begin + 3)
    assert (kept.tokens, kept.supervised, kept.cut) == (begin + 3, 3, 1)
    gone = rows.supervised([{"messages": [USER, ANSWER]}], tokenizer, begin)
    assert (gone.rows, gone.rejected) == ([], {"answer_beyond_max_length": 1})


@pytest.mark.parametrize(
    ("messages", "reason"),
    [([USER], "no_supervised_token"), ([USER, {"role": "tool", "content": "7"}, ANSWER], "template_refuses")],
)
def test_rows_that_teach_nothing_are_rejected_with_a_reason(
    tokenizer: Any, messages: list[dict[str, str]], reason: str
) -> None:
    kept = rows.supervised([{"messages": messages}, {"messages": [USER, ANSWER]}], tokenizer, 100)
    assert len(kept.rows) == 1
    assert kept.counts().rejected == {reason: 1}


def test_preferences_need_two_answers_that_differ_within_max_length(tokenizer: Any) -> None:
    other = {"role": "assistant", "content": "Two feet."}
    row = {"prompt": [USER], "chosen": [ANSWER], "rejected": [other]}
    prompt = len("How long is it?#>")
    kept = rows.preferences([row], tokenizer, 100)
    assert kept.rows == [row]
    assert kept.tokens == 2 * (prompt - 1) + len("Two metres.#Two feet.#")
    alike = rows.preferences([{**row, "rejected": [ANSWER]}], tokenizer, 100)
    assert alike.rejected == {"answers_alike": 1}
    # Cut to "Two ", both say the same.
    assert rows.preferences([row], tokenizer, prompt - 1 + 4).rejected == {"answers_alike": 1}
    assert rows.preferences([row], tokenizer, prompt).rejected == {"prompt_fills_max_length": 1}
    tool = {"role": "tool", "content": "7"}
    assert rows.preferences([{**row, "prompt": [tool]}], tokenizer, 100).rejected == {"template_refuses": 1}


def test_no_row_left_is_refused_with_the_reasons(tokenizer: Any) -> None:
    kept = rows.supervised([{"messages": [USER]}] * 3, tokenizer, 100)
    with pytest.raises(Refused, match="no sft row") as told:
        rows.require(kept, "sft", 100)
    assert "no_supervised_token: 3" in str(told.value)
    with pytest.raises(Refused, match="no row at all"):
        rows.require(rows.Kept([]), "preference", 100)


class _Templated:
    """What `training_template` looks at."""

    def __init__(self, chat_template: str | None) -> None:
        self.chat_template = chat_template


def test_a_template_without_generation_tags_is_refused(tokenizer: Any) -> None:
    assert rows.training_template(tokenizer) == TEMPLATE
    plain = TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    told = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, chat_template=plain)
    with pytest.raises(Refused, match="does not mark what the assistant says"):
        rows.training_template(told)
    with pytest.raises(Refused, match="has no chat template"):
        rows.training_template(_Templated(None))


def test_a_family_that_trl_knows_is_trained_with_its_template(tokenizer: Any) -> None:
    from trl import chat_template_utils

    folder = Path(chat_template_utils.__file__).parent / "chat_templates"
    stock = (folder / "qwen2_5.jinja").read_text()
    told = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, chat_template=stock)
    assert "{% generation %}" in rows.training_template(told).replace("{%- ", "{% ")


def test_counts_hold_no_text(tokenizer: Any) -> None:
    kept = rows.supervised([{"messages": [USER, ANSWER]}], tokenizer, 100)
    assert "metres" not in str(kept.counts())
