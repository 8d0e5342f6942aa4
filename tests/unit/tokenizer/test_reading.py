"""The tokens are those of transformers, whichever tokenizer; and a text is cut only where that changes none."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from pipeline.chat import Chat, Encoded, Unsuitable
from pipeline.settings import ROOT
from pipeline.tokenizer.reading import Parts, Tokenizer, borders_of, read, write
from tests.unit.test_chat import FAMILIES, ODD, TEXT, chat_for, conversations, tokenizer_for

pytestmark = pytest.mark.unit


@cache
def light(name: str) -> Tokenizer:
    """The tokenizer of a family without transformers around it."""
    original = tokenizer_for(name)
    backend = Backend.from_str(original.backend_tokenizer.to_str())
    return Tokenizer(backend, Parts(original.chat_template, original.special_tokens_map), name)


@cache
def light_chat(name: str) -> Chat:
    return Chat(light(name))


def outcome(chat: Chat, messages: list[dict[str, str]]) -> Encoded | str:
    """The conversation as tokens, or why it is refused."""
    try:
        return chat.conversation(messages)
    except Unsuitable as error:
        return error.reason


@pytest.mark.parametrize("name", [*FAMILIES, *ODD])
def test_a_template_is_found_to_write_alike(name: str) -> None:
    assert light_chat(name).form == chat_for(name).form
    assert light_chat(name).end == chat_for(name).end
    assert light(name).eos_token_id == tokenizer_for(name).eos_token_id


@given(name=st.sampled_from([*FAMILIES, *ODD]), messages=conversations())
@settings(max_examples=200, deadline=None)
def test_any_conversation_is_the_same_tokens_or_refused_for_the_same_reason(
    name: str, messages: list[dict[str, str]]
) -> None:
    assert outcome(light_chat(name), messages) == outcome(chat_for(name), messages)


@given(text=TEXT)
@settings(max_examples=100, deadline=None)
def test_any_text_is_the_same_tokens_and_they_the_same_text(text: str) -> None:
    for name in ("chatml", "llama3", "gemma", "last_question"):
        ids = tokenizer_for(name)(text, add_special_tokens=False)["input_ids"]
        assert light(name)(text)["input_ids"] == ids
        assert light(name).decode(ids) == tokenizer_for(name).decode(ids)
        assert [light(name).convert_ids_to_tokens(each) for each in ids] == tokenizer_for(name).convert_ids_to_tokens(
            ids
        )


def byte_level() -> Backend:
    return Backend.from_file(str(ROOT / "models" / "tiny" / "tokenizer.json"))


def metaspace(scheme: str) -> Backend:
    """As SentencePiece's: a space before the first word, or before every one that begins a stretch."""
    pieces = [("<unk>", 0.0), ("▁", -2.0), *((sign, -3.0) for sign in "abcdefgh<>|/_"), ("▁a", -2.5), ("ab", -2.5)]
    backend = Backend(models.Unigram(pieces, 0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return backend


def prepending() -> Backend:
    """As Llama 2's: normalized by a space before each stretch of text."""
    backend = metaspace("never")
    backend.pre_tokenizer = None
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return backend


def word_level() -> Backend:
    """As BERT's: lower case, accents off, white space nothing."""
    words = {word: n for n, word in enumerate(["[UNK]", *"abcdefgh<>|/_", "ab", "abc"])}
    backend = Backend(models.WordLevel(words, "[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\w+|[<>|/]"), "isolated")]
    )
    backend.decoder = decoders.Fuse()
    return backend


BACKENDS = {
    "byte_level": byte_level,
    "metaspace_first": lambda: metaspace("first"),
    "metaspace_always": lambda: metaspace("always"),
    "prepending": prepending,
    "word_level": word_level,
}
# Spellings that contain, begin, end and follow one another, some of them words and white space.
SPELT = ["<a>", "<a><b>", "<b>", "><", "a>", "<a", "<|end|>", "|>", "<|", "ab", "  ", "\n", "</s>", "_", "é"]
FLAGS = st.fixed_dictionaries(
    {name: st.booleans() for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
)
ADDED = st.lists(st.tuples(st.sampled_from(SPELT), FLAGS), max_size=5, unique_by=lambda pair: pair[0])
PIECES = st.lists(st.sampled_from([*SPELT, "a", "b", "A", " ", "\t", "h ", "_a", ">", "<"]), max_size=12).map("".join)


PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@given(kind=st.sampled_from(sorted(BACKENDS)), added=ADDED, text=PIECES)
@example("byte_level", [("<a", PLAIN), ("<a>", {**PLAIN, "lstrip": True})], "a  <a>")
@example("byte_level", [("<a", {**PLAIN, "single_word": True}), ("b", PLAIN)], "<ab")
@example("byte_level", [("<a>", PLAIN), ("><", {**PLAIN, "lstrip": True})], "><a>")
@settings(max_examples=500, deadline=None)
def test_a_text_is_cut_only_where_that_changes_no_token(
    kind: str, added: list[tuple[str, dict[str, bool]]], text: str
) -> None:
    backend = BACKENDS[kind]()
    backend.add_tokens([AddedToken(content, **flags) for content, flags in added])
    try:
        whole = backend.encode(text, add_special_tokens=False).ids
    except BaseException as panic:  # of two tokens that both strip the white space between them (tokenizers 0.23.3)
        assert "bad split" in str(panic)  # noqa: PT017
        reject()
    tokenizer = Tokenizer(backend, Parts(None, {}), kind)
    assert tokenizer(text)["input_ids"] == whole
    assert tokenizer(text)["input_ids"] == whole, "and when it is remembered"


def special(content: str, **flags: bool) -> AddedToken:
    return AddedToken(content, special=True, **flags)


@pytest.mark.parametrize(
    ("tokens", "borders"),
    [
        ([special("<s>"), special("<|im_start|>")], ["<|im_start|>", "<s>"]),
        # What takes notice of the text before it, or is looked for in another text.
        ([special("<s>", lstrip=True), special("<p>", single_word=True), AddedToken("<n>", normalized=True)], []),
        ([special("<s>", rstrip=True)], ["<s>"]),
        ([special("word"), special(" "), special("_a")], []),
        # What another one reaches over would be torn apart.
        ([special("<s>"), special("-<")], ["-<"]),
        ([special("<s>"), special("-<s>|")], ["-<s>|"]),
        ([special("--")], []),
        # What looks at the white space before it, and is found in the place of a shorter one.
        ([special("<s"), special("<s>", lstrip=True)], []),
    ],
    ids=str,
)
def test_control_tokens_are_where_a_text_is_cut(tokens: list[AddedToken], borders: list[str]) -> None:
    assert borders_of(tokens) == borders


def test_the_control_tokens_of_a_family_are_such_places() -> None:
    for name in ("chatml", "llama3", "gemma", "deepseek_r1_distill"):
        assert set(tokenizer_for(name).all_special_tokens) <= set(borders_of(light(name).added_tokens_decoder.values()))


def test_special_tokens_that_are_read_as_plain_text_stay_plain(tmp_path: Path) -> None:
    backend = byte_level()
    parts = Parts(None, {"eos_token": "<|im_end|>"}, split_special_tokens=True)
    write(backend, parts, tmp_path / "kept")
    tokenizer = read(tmp_path / "kept", "kept")
    plain = byte_level()
    plain.encode_special_tokens = True
    assert tokenizer("a<|im_end|>")["input_ids"] == plain.encode("a<|im_end|>", add_special_tokens=False).ids
    assert tokenizer.eos_token_id not in tokenizer("a<|im_end|>")["input_ids"]


def test_what_is_kept_is_read_again_as_it_was(tmp_path: Path) -> None:
    original: Any = light("chatml")
    parts = Parts({"default": "ü", "tool_use": "y"}, {"eos_token": "<|im_end|>"})
    write(Backend.from_str(tokenizer_for("chatml").backend_tokenizer.to_str()), parts, tmp_path / "kept")
    again = read(tmp_path / "kept", "its name")
    assert (again.chat_template, again.name_or_path) == (parts.chat_template, "its name")
    assert again("Two<|im_end|> metres") == original("Two<|im_end|> metres")
