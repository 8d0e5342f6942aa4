"""The tokenizer of the base model, its chat template, and the packing of sequences into rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import regex  # type: ignore[import-untyped]
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.tiny.build.corpus import Level, Piece, stream

VOCABULARY = 3072
PAD, END, START, STOP = "<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# ChatML; the generation tags let a trainer see which tokens are the assistant's.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Words with their leading space, single digits, runs of other signs: merges never cross these.
_SPLIT = r" ?\p{L}+| ?\d| ?[^\s\p{L}\d]+|\s+(?!\S)|\s+"
_WORDS = regex.compile(_SPLIT)
_MARKS = regex.compile(r"(<\|\w+\|>)")


@dataclass(frozen=True)
class Row:
    """One packed row: token ids, and the weight of each token in the loss (padding weighs nothing)."""

    tokens: torch.Tensor  # int64, shape (length,)
    answers: torch.Tensor  # bool: the token belongs to an answer
    real: torch.Tensor  # bool: the token is no padding


def train_tokenizer(seed: int, *, sequences: int = 12_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with single digits, trained on the generated text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, START, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = stream(seed)
    tokenizer.train_from_iterator(
        ("".join(piece.text for piece in next(texts)) for _ in range(sequences)), trainer, length=sequences
    )
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=STOP,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def rows(tokenizer: PreTrainedTokenizerFast, seed: int, *, length: int, level: Level) -> Iterator[Row]:
    """Rows of ``length`` tokens, each filled with sequences, which lose their last questions where they are longer."""
    pad = tokenizer.convert_tokens_to_ids(PAD)
    encode = _Encoder(tokenizer.backend_tokenizer)
    waiting: list[tuple[list[int], list[bool]]] = []
    for sequence in stream(seed, level):
        encoded = encode(sequence, length)
        if encoded is None:
            continue
        waiting.append(encoded)
        if len(waiting) < 24:
            continue
        waiting.sort(key=lambda one: -len(one[0]))
        tokens, answers = waiting.pop(0)
        for one in list(waiting):
            if len(tokens) + len(one[0]) <= length:
                tokens, answers = tokens + one[0], answers + one[1]
                waiting.remove(one)
        gap = length - len(tokens)
        yield Row(
            torch.tensor(tokens + [pad] * gap),
            torch.tensor(answers + [False] * gap),
            torch.tensor([True] * len(tokens) + [False] * gap),
        )


def _split(text: str) -> Iterator[str]:
    for part in _MARKS.split(text):
        if part.startswith("<|"):
            yield part
        else:
            yield from _WORDS.findall(part)


class _Encoder:
    """Encodes text word by word from memory: merges never cross words, and the words are few."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def __call__(self, sequence: list[Piece], length: int) -> tuple[list[int], list[bool]] | None:
        """The token ids of a sequence up to the last answer that fits, and of each whether it belongs to an answer."""
        tokens: list[int] = []
        answers: list[bool] = []
        fits = 0
        for piece in sequence:
            before = len(tokens)
            for word in _split(piece.text):
                ids = self._known.get(word)
                if ids is None:
                    ids = self._known[word] = self._tokenizer.encode(word, add_special_tokens=False).ids
                tokens += ids
            answers += [piece.answer] * (len(tokens) - before)
            if len(tokens) > length:
                break
            fits = len(tokens) if piece.answer else fits
        return (tokens[:fits], answers[:fits]) if fits else None
