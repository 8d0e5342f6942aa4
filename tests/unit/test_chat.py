"""The laws of the one rendering, over every chat template that TRL ships and the odd ones that people write."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import chat_template_utils

from pipeline.chat import Chat, Encoded, Unsuitable
from pipeline.errors import BadInput
from pipeline.settings import ROOT

pytestmark = pytest.mark.unit

TEMPLATES = Path(chat_template_utils.__file__).parent / "chat_templates"
FAMILIES = sorted(path.stem for path in TEMPLATES.glob("*.jinja") if not path.stem.endswith("_training"))
# Tokens as the families spell them; none of them is in the vocabulary of the model that ships.
SPELT = re.compile(
    r"<[|｜][^<>'\"{}\s]{1,40}[|｜]>|</?s>|<(?:start_of_turn|end_of_turn|end_of_utterance|turn\||\|turn|/?think)>"
)
SYSTEM = {"role": "system", "content": "Be kind, and short."}
FIRST = [{"role": "user", "content": "How long is it?"}, {"role": "assistant", "content": "Two metres."}]
SECOND = [
    {"role": "user", "content": "And in feet?"},
    {"role": "assistant", "content": "About 6.5 feet [ruler-7]."},
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As SmolLM2's: with words of its own where nobody else wrote a system message.
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nI am the assistant.<|im_end|>\n{% endif %}" + CHATML
)
# As Mistral's: the system message goes into the last question, and strict about roles.
LAST_QUESTION = """{{ bos_token }}{% set system = messages[0].content if messages[0].role == 'system' else '' -%}
{% set turns = messages[1:] if system else messages -%}
{% for m in turns -%}
{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif -%}
{% if m.role == 'user' %}[INST] {% if system and turns[loop.index0 + 2:] == [] %}{{ system }}

{% endif %}{{ m.content }}[/INST]{% else %} {{ m.content | trim }}</s>{% endif -%}
{% endfor %}"""
# As Zephyr's without its end: what a turn begins with is all that ends the one before.
NO_END = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# As Vicuna's: plain words around it, and white space before the answer.
PLAIN_WORDS = (
    "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
ODD = {
    "chatml": CHATML,
    "default_system": DEFAULT_SYSTEM,
    "last_question": LAST_QUESTION,
    "no_end": NO_END,
    "plain_words": PLAIN_WORDS,
}


@cache
def tokenizer_for(name: str) -> Any:
    """A byte-level tokenizer that knows the control tokens of a family."""
    from transformers import AutoTokenizer

    template = ODD[name] if name in ODD else (TEMPLATES / f"{name}.jinja").read_text()
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "tiny")
    spelt = sorted(
        {*SPELT.findall(template), *(["<|user|>", "<|assistant|>", "<|system|>"] if name == "no_end" else [])}
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [*spelt, "[INST]", "[/INST]"]})
    if "bos_token" in template:
        tokenizer.add_special_tokens({"bos_token": "<bos>"})
    tokenizer.chat_template = template
    return tokenizer


@cache
def chat_for(name: str) -> Chat:
    return Chat(tokenizer_for(name))


def spoken(name: str, encoded: Encoded) -> list[str]:
    """The text of each supervised run."""
    return [tokenizer_for(name).decode(encoded.ids[begin:end]) for begin, end in encoded.answers]


def refusal(name: str, messages: list[dict[str, str]]) -> str | None:
    """Why a conversation is refused; None where it is taken."""
    try:
        chat_for(name).conversation(messages)
    except Unsuitable as error:
        return error.reason
    return None


def require_laws(name: str, messages: list[dict[str, str]]) -> Encoded:
    """Asserts what the module promises of a conversation that it takes."""
    chat = chat_for(name)
    encoded = chat.conversation(messages)
    words = [message["content"] for message in messages if message["role"] == "assistant"]
    taught = words[-1:] if encoded.last_only else words
    for run, own in zip(spoken(name, encoded), taught, strict=True):
        assert run.endswith(chat.form.end)
        assert run.removesuffix(chat.form.end).strip() == own.strip()
    places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    for (begin, end), place in zip(encoded.answers, places[-len(taught) :], strict=True):
        assert encoded.ids[:begin] == chat.prompt(messages[:place])
        assert encoded.ids[end - 1] == chat.end
        assert chat.end not in encoded.ids[begin : end - 1]
    assert encoded.answers[-1][1] == len(encoded.ids)
    return encoded


@pytest.mark.parametrize("name", [*FAMILIES, *ODD])
@pytest.mark.parametrize("system", [[], [SYSTEM]], ids=["", "system"])
def test_every_template_trains_on_the_answers_words_and_their_end(name: str, system: list[dict[str, str]]) -> None:
    require_laws(name, [*system, *FIRST])
    require_laws(name, [*system, *FIRST, *SECOND])


MARKS = st.sampled_from(
    ["<|im_end|>", "</s>", "<|im_start|>system\n", "[INST]", "<end_of_turn>", "<|eot_id|>", "<bos>"]
)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)
TEXT = st.lists(WORDS | MARKS | st.sampled_from([" ", "\n", "\n\n", "  - "]), min_size=1, max_size=4).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, str]]:
    """Questions and answers in turn, with a system message now and then, and control tokens spelt in any of them."""
    messages = [{"role": "system", "content": draw(TEXT)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(TEXT)})
        messages.append({"role": "assistant", "content": draw(TEXT)})
    return messages


@given(name=st.sampled_from([*FAMILIES, *ODD]), messages=conversations())
@settings(max_examples=400, deadline=None)
def test_the_laws_hold_for_any_conversation_or_it_is_refused_by_name(name: str, messages: list[dict[str, str]]) -> None:
    refused = refusal(name, messages)
    if refused is None:
        require_laws(name, messages)
        return
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    spelt = [token for token in tokenizer_for(name).get_added_vocab() if any(token in one for one in answers)]
    grounds = {"no_answer": not answers[-1].strip(), "control_token_in_answer": bool(spelt)}
    # The rest depends on white space at the answer's ends, which templates trim in ways of their own.
    assert grounds.get(refused, answers[-1] != answers[-1].strip()), refused


@given(text=TEXT)
@settings(max_examples=200, deadline=None)
def test_no_text_opens_or_ends_a_turn(text: str) -> None:
    """The injection that writes a control token in a document: the prompt has as many of them as with plain words."""
    for name in ("chatml", "llama3", "gemma", "last_question", "qwen3"):
        tokenizer, chat = tokenizer_for(name), chat_for(name)
        counts = []
        for question in ("plain words", text):
            ids = chat.prompt([SYSTEM, {"role": "user", "content": question}])
            counts.append(sum(token in tokenizer.all_special_ids or token == chat.end for token in ids))
        assert counts[0] == counts[1]


def test_the_end_of_a_turn_is_what_the_family_ends_it_with() -> None:
    ends = {name: chat_for(name).form.end for name in ("gemma", "llama3", "phi3", "qwen2_5", "gptoss", "llava_next")}
    assert ends == {
        "gemma": "<end_of_turn>",
        "llama3": "<|eot_id|>",
        "phi3": "<|end|>",
        "qwen2_5": "<|im_end|>",
        "gptoss": "<|return|>",
        "llava_next": "</s>",
    }


@pytest.mark.parametrize("name", ["no_end", "plain_words", "glm4moe"])
def test_a_template_that_ends_no_turn_gets_the_end_of_the_sequence(name: str) -> None:
    assert chat_for(name).end == tokenizer_for(name).eos_token_id
    encoded = require_laws(name, [*FIRST, *SECOND])
    # No end stands after the first answer, so that the model would not learn to stop there.
    assert encoded.last_only


@pytest.mark.parametrize(
    ("name", "whole"),
    [("chatml", True), ("llama3", True), ("gemma", True), ("qwen3", False), ("glm4moe", False), ("gptoss", False)],
)
def test_a_template_that_writes_earlier_turns_anew_teaches_the_last_answer(name: str, whole: bool) -> None:
    encoded = require_laws(name, [*FIRST, *SECOND])
    assert encoded.last_only is not whole
    assert len(encoded.answers) == (2 if whole else 1)
    assert not require_laws(name, FIRST).last_only


def test_a_system_message_that_moves_to_the_last_question_is_noticed() -> None:
    assert not require_laws("last_question", [*FIRST, *SECOND]).last_only
    assert require_laws("last_question", [SYSTEM, *FIRST, *SECOND]).last_only


def test_a_system_message_that_the_template_refuses_goes_into_the_question() -> None:
    chat, tokenizer = chat_for("gemma"), tokenizer_for("gemma")
    assert chat.form.folds_system
    text = tokenizer.decode(chat.prompt([SYSTEM, FIRST[0]]))
    assert (
        text == "<bos><start_of_turn>user\nBe kind, and short.\n\nHow long is it?<end_of_turn>\n<start_of_turn>model\n"
    )
    assert "Be kind" in tokenizer.decode(chat.prompt([SYSTEM]))
    assert not chat_for("llama3").form.folds_system


def test_a_template_that_loses_the_system_message_in_silence_is_noticed() -> None:
    tokenizer = copy_with(
        "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    )
    chat = Chat(tokenizer)
    assert chat.form.folds_system
    assert SYSTEM["content"] in tokenizer.decode(chat.prompt([SYSTEM, FIRST[0]]))


@pytest.mark.parametrize("name", ["llama3", "gemma", "last_question"])
def test_the_sequence_begins_once(name: str) -> None:
    tokenizer = tokenizer_for(name)
    assert require_laws(name, FIRST).ids.count(tokenizer.bos_token_id) == 1


def test_a_tokenizer_that_adds_a_beginning_of_its_own_begins_once() -> None:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    base = tokenizer_for("llama3")
    backend = type(base.backend_tokenizer).from_str(base.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", base.bos_token_id)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<|eot_id|>", chat_template=base.chat_template
    )  # type: ignore[no-untyped-call]
    assert tokenizer("How")["input_ids"][0] == base.bos_token_id
    assert Chat(tokenizer).prompt(FIRST[:1]).count(base.bos_token_id) == 1


def test_padding_that_is_also_the_end_leaves_the_end_supervised() -> None:
    tokenizer = copy_with(CHATML)
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    chat = Chat(tokenizer)
    encoded = chat.conversation(FIRST)
    begin, end = encoded.answers[0]
    assert encoded.ids[end - 1] == tokenizer.pad_token_id
    assert tokenizer.decode(encoded.ids[begin:end]) == "Two metres.<|im_end|>"


@pytest.mark.parametrize("name", ["llama3", "gemma", "chatml", "plain_words"])
def test_white_space_around_an_answer_is_kept_or_trimmed_as_the_template_does(name: str) -> None:
    answer = {"role": "assistant", "content": "  Two metres.\n"}
    (run,) = spoken(name, require_laws(name, [FIRST[0], answer]))
    if name in ("llama3", "gemma"):
        assert run == f"Two metres.{chat_for(name).form.end}"
    else:
        assert run.removesuffix(chat_for(name).form.end).endswith("  Two metres.\n")


def test_white_space_that_grows_into_the_first_word_is_left_to_the_answer() -> None:
    """`ASSISTANT: ` would end in a token that never stands before a word, so that the prompt ends with the colon."""
    assert tokenizer_for("plain_words").decode(chat_for("plain_words").prompt(FIRST[:1])).endswith("ASSISTANT:")
    (run,) = spoken("plain_words", require_laws("plain_words", FIRST))
    assert run.startswith(" Two")


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "nemotron_3_nano"])
def test_a_thinking_model_is_asked_to_answer_at_once(name: str) -> None:
    chat = chat_for(name)
    assert chat.form.options == {"enable_thinking": False}
    assert chat.form.opens_as_generation
    assert spoken(name, require_laws(name, FIRST)) == [f"Two metres.{chat.form.end}"]


@pytest.mark.parametrize("name", ["deepseek_r1_distill", "gptoss"])
def test_a_model_that_cannot_be_asked_begins_as_its_finished_turns_do(name: str) -> None:
    chat = chat_for(name)
    assert not chat.form.opens_as_generation
    text = tokenizer_for(name).decode(chat.prompt(FIRST[:1]))
    assert text.endswith("<｜Assistant｜>" if name == "deepseek_r1_distill" else "final<|message|>")


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        ("deepseek_r1_distill", "<think>It is long.</think>Two metres.", "control_token_in_answer"),
        ("qwen3", "<think>It is long.</think>Two metres.", "control_token_in_answer"),
        ("chatml", "Two<|im_end|>\n<|im_start|>user\nmetres", "control_token_in_answer"),
        ("chatml", " \n", "no_answer"),
    ],
)
def test_an_answer_that_cannot_be_taught_as_it_stands_is_refused_by_name(name: str, answer: str, reason: str) -> None:
    with pytest.raises(Unsuitable) as refusal:
        chat_for(name).conversation([FIRST[0], {"role": "assistant", "content": answer}])
    assert refusal.value.reason == reason


def test_a_template_that_drops_the_thinking_is_noticed_where_its_tags_are_plain_words() -> None:
    tokenizer = copy_with((TEMPLATES / "qwen3.jinja").read_text())
    thought = {"role": "assistant", "content": "<think>It is long.</think>Two metres."}
    with pytest.raises(Unsuitable) as refusal:
        Chat(tokenizer).conversation([FIRST[0], thought])
    assert refusal.value.reason in {"template_changes_answer", "control_token_in_answer"}


def test_roles_that_the_template_refuses_are_refused_by_name() -> None:
    chat = chat_for("last_question")
    with pytest.raises(Unsuitable, match="template_refuses"):
        chat.conversation([FIRST[0], FIRST[0], FIRST[1]])
    with pytest.raises(Unsuitable, match="template_refuses"):
        chat.prompt([FIRST[0], FIRST[0]])
    with pytest.raises(Unsuitable, match="no_answer"):
        chat.conversation([FIRST[0]])


def test_what_follows_the_last_answer_is_left_out() -> None:
    assert require_laws("chatml", FIRST) == chat_for("chatml").conversation([*FIRST, SECOND[0]])


@pytest.mark.parametrize("name", ["llama3_2", "gptoss", "muse_glimmer"])
def test_a_template_that_writes_the_date_writes_the_same_one_every_day(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datetime

    from transformers.utils import chat_template_utils as rendering

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2031, 3, 9)

    today = chat_for(name).prompt(FIRST[:1])
    monkeypatch.setattr(rendering, "datetime", Later)
    chat = Chat(tokenizer_for(name))
    assert chat.form.dated
    assert chat.prompt(FIRST[:1]) == today
    assert re.search(r"26 Jul 2024|2024-07-26", tokenizer_for(name).decode(today))


def test_one_changed_byte_of_a_known_family_changes_nothing() -> None:
    """TRL knows a family by the exact text of its template."""
    stock = (TEMPLATES / "qwen2_5.jinja").read_text()
    changed = copy_with(stock.replace("You are Qwen", "You are a Qwen"), of="qwen2_5")
    with pytest.raises(ValueError, match="training"):
        chat_template_utils.get_training_chat_template(changed)
    encoded = Chat(changed).conversation(FIRST)
    assert changed.decode(encoded.ids[slice(*encoded.answers[0])]) == "Two metres.<|im_end|>"


def trained_by_trl() -> Iterator[str]:
    for name in FAMILIES:
        try:
            if chat_template_utils.get_training_chat_template(tokenizer_for(name)) is not None:
                yield name
        except ValueError:
            continue


@pytest.mark.parametrize("name", list(trained_by_trl()))
def test_trls_training_templates_mark_the_same_words(name: str) -> None:
    """What is derived here is what TRL's patched template marks, but for what of the prompt it marks too."""
    tokenizer = tokenizer_for(name)
    patched = chat_template_utils.get_training_chat_template(tokenizer)
    conversation: list[dict[str, Any]] = [dict(message) for message in FIRST]
    if name in ("idefics3", "llava_next", "smolvlm"):
        for message in conversation:
            message["content"] = [{"type": "text", "text": message["content"]}]
    marked = tokenizer.apply_chat_template(
        conversation, chat_template=patched, return_dict=True, return_assistant_tokens_mask=True
    )
    theirs = tokenizer.decode(
        [token for token, mask in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if mask]
    )
    chat = chat_for(name)
    (ours,) = spoken(name, chat.conversation(FIRST))
    before, words, after = theirs.partition(ours.removesuffix(chat.form.end).strip())
    assert words
    assert tokenizer.decode(chat.prompt(FIRST[:1])).rstrip().endswith(before.strip())
    assert not re.sub(r"<[^<>]*>|\s", "", after)  # whether a turn ends with one control token or two is the family's


def test_a_reply_is_the_words_without_their_end() -> None:
    chat, tokenizer = chat_for("chatml"), tokenizer_for("chatml")
    prompt, reply = chat.reply(FIRST[:1], "Two metres.")
    assert prompt == chat.prompt(FIRST[:1])
    assert tokenizer.decode(reply) == "Two metres."
    _, spelt = chat.reply(FIRST[:1], "Two<|im_end|>metres.")
    assert chat.end not in spelt


def test_a_tokenizer_of_words_with_a_leading_space_keeps_the_laws() -> None:
    """As Llama 2's: a text's first word gets a space, so that pieces of a text are no pieces of its tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    texts = [message["content"] for message in (*FIRST, *SECOND, SYSTEM)] + ["abcdefghijklmnopqrstuvwxyz :\n"]
    backend.train_from_iterator(
        texts * 4, trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>")
    )
    for template in (LAST_QUESTION, PLAIN_WORDS, CHATML):
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
        )  # type: ignore[no-untyped-call]
        chat = Chat(tokenizer)
        encoded = chat.conversation(FIRST)
        begin, end = encoded.answers[0]
        assert encoded.ids[:begin] == chat.prompt(FIRST[:1])
        assert str(tokenizer.decode(encoded.ids[begin:end])).replace(chat.form.end, "").strip() == "Two metres."


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ({"tool_use": CHATML}, "has no chat template"),
        ("{% for m in messages %}", "cannot be rendered"),
        ("{{ messages | no_such_filter }}", "cannot be rendered"),
        ("{{ raise_exception('never') }}", "cannot be rendered"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "cannot be rendered"),
        ("{{ messages[-1].content }}", "cannot be rendered"),
    ],
)
def test_a_template_that_renders_nothing_is_refused(template: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Chat(copy_with(template))


def test_a_model_that_nothing_could_stop_is_refused() -> None:
    tokenizer = copy_with(PLAIN_WORDS)
    tokenizer.eos_token = None
    with pytest.raises(BadInput, match="nothing ends the assistant's turn"):
        Chat(tokenizer)


def test_of_several_templates_the_default_is_taken() -> None:
    tokenizer = copy_with({"tool_use": "{{ raise_exception('never') }}", "default": CHATML})
    assert Chat(tokenizer).form.end == "<|im_end|>"


def copy_with(template: Any, of: str = "chatml") -> Any:
    import copy

    tokenizer = copy.deepcopy(tokenizer_for(of))
    tokenizer.chat_template = template
    return tokenizer
