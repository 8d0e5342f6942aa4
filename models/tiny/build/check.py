"""Measures how well a base model reads: fresh scenes of its own language, answered greedily."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from models.tiny.build import language
from models.tiny.build.corpus import HARDEST, Exchange, Scene, scene
from pipeline import prompt


@dataclass(frozen=True)
class Score:
    """Shares of fresh questions answered rightly, with the number of each kind."""

    exact: float  # the answer to an answerable question is right to the letter, citation aside
    refused: float  # an unanswerable question is answered with the refusal
    source: float  # the cited document is the right one, where the question asks for it
    answerable: int
    unanswerable: int
    asked_for_source: int


@torch.no_grad()
def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, seed: int, scenes: int) -> Score:
    """The score over ``scenes`` fresh scenes of up to four documents, with three questions each."""
    rng = Random(seed)  # noqa: S311 - repeatable text, no secret
    drawn = [scene(rng, HARDEST, questions=3) for _ in range(scenes)]
    asked = [(one, exchange) for one in drawn for exchange in one.exchanges]
    replies = _replies(model, tokenizer, asked)
    pairs = [(exchange, reply) for (_, exchange), reply in zip(asked, replies, strict=True)]
    stated = [(one, reply) for one, reply in pairs if one.value is not None]
    missing = [(one, reply) for one, reply in pairs if one.value is None]
    sourced = [(one, reply) for one, reply in stated if one.source is not None]
    return Score(
        exact=_share([_plain(one.answer) == _plain(reply) for one, reply in stated]),
        refused=_share(["not stated" in reply for _, reply in missing]),
        source=_share([prompt.cited(reply) == [one.source] for one, reply in sourced]),
        answerable=len(stated),
        unanswerable=len(missing),
        asked_for_source=len(sourced),
    )


def _plain(answer: str) -> str:
    return answer.partition(" [")[0].strip()


def _share(right: list[bool]) -> float:
    return round(sum(right) / len(right), 3) if right else 0.0


def _replies(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: list[tuple[Scene, Exchange]]
) -> list[str]:
    """The greedy answers, batches of like length together."""
    texts = [
        tokenizer.apply_chat_template(
            language.PROMPT.messages(exchange.question, one.passages), tokenize=False, add_generation_prompt=True
        )
        for one, exchange in asked
    ]
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    replies = [""] * len(texts)
    model.eval()  # type: ignore[no-untyped-call]
    for first in range(0, len(order), 32):
        places = order[first : first + 32]
        batch = tokenizer(
            [texts[place] for place in places], return_tensors="pt", padding=True, add_special_tokens=False
        )
        batch.pop("token_type_ids", None)
        made = model.generate(  # type: ignore[misc]
            **batch, max_new_tokens=72, do_sample=False
        )
        for place, ids in zip(places, made[:, batch["input_ids"].shape[1] :], strict=True):
            replies[place] = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
    model.train()
    return replies
