"""Greedy answers and likelihoods, in padded batches. torch is imported when the first batch runs, and not before."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.chat import Chat, Unsuitable
from pipeline.evaluation.cases import Message
from pipeline.progress import Progress


@dataclass(frozen=True)
class Generated:
    """One answer."""

    text: str
    seconds: float  # its batch's time, shared evenly
    cut: bool  # whether the prompt was longer than the model reads, and lost its beginning
    unsuitable: str | None = None  # why the model's template does not take the prompt; then nothing was asked


def answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress | None = None,
) -> list[Generated]:
    """Returns the greedy answer to each prompt, in their order. `progress` counts prompts.

    Prompts of like length share a batch, padded on the left. A prompt that with its answer would not fit the model's
    positions loses its beginning; one that its template does not take has an empty answer, with the reason. Raises
    BadInput where the model has no chat template.
    """
    import torch

    chat = Chat(tokenizer)
    encoded: dict[int, list[int]] = {}
    answers_by_place: dict[int, Generated] = {}
    for place, prompt in enumerate(prompts):
        try:
            encoded[place] = chat.prompt(prompt)
        except Unsuitable as error:
            answers_by_place[place] = Generated("", 0.0, False, error.reason)
    stops = _stops(model, chat)
    room = _positions(model) - max_new_tokens
    padding = _padding(tokenizer)
    asked = list(encoded)
    for batch in _batches([len(encoded[place]) for place in asked], batch_size):
        began = time.perf_counter()
        places = [asked[one] for one in batch]
        kept = [encoded[place][-room:] for place in places]
        width = max(len(ids) for ids in kept)
        ids = torch.tensor([[padding] * (width - len(row)) + row for row in kept], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in kept], device=model.device)
        with torch.inference_mode(), _greedy(model):
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=padding,
                eos_token_id=stops,
            )
        seconds = (time.perf_counter() - began) / len(places)
        for place, row in zip(places, out[:, width:].tolist(), strict=True):
            end = next((at for at, token in enumerate(row) if token in stops), len(row))
            text = tokenizer.decode(row[:end], skip_special_tokens=True).strip()
            answers_by_place[place] = Generated(text, seconds, len(encoded[place]) > room)
        if progress is not None:
            progress.advance(len(places))
    return [answers_by_place[place] for place in range(len(prompts))]


def likelihoods(
    model: Any, tokenizer: Any, pairs: Sequence[tuple[Sequence[Message], str]], *, batch_size: int
) -> list[float]:
    """Returns, for each prompt and reply, the mean natural log-likelihood of the reply's own tokens, at most 0; minus
    infinity where the template does not take the two."""
    import torch

    chat = Chat(tokenizer)
    unsuitable: set[int] = set()
    encoded = []
    for place, (prompt, reply) in enumerate(pairs):
        try:
            encoded.append(chat.reply(prompt, reply) if reply.strip() else (chat.prompt(prompt), []))
        except Unsuitable:
            unsuitable.add(place)
            encoded.append(([], []))
    prompts, replies = [one for one, _ in encoded], [one for _, one in encoded]
    padding, room = _padding(tokenizer), _positions(model)
    means = [-math.inf if place in unsuitable else 0.0 for place in range(len(pairs))]
    asked = [place for place in range(len(pairs)) if place not in unsuitable]
    for batch in _batches([len(prompts[place]) + len(replies[place]) for place in asked], batch_size):
        places = [asked[one] for one in batch]
        rows = [(prompts[place] + replies[place])[-room:] for place in places]
        width = max(len(row) for row in rows)
        # Padded on the left too: the replies end together, so that only their own columns are scored.
        ids = torch.tensor([[padding] * (width - len(row)) + row for row in rows], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        longest = min(max(len(replies[place]) for place in places) + 1, width)
        with torch.inference_mode():
            logits = model(
                input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=longest, use_cache=False
            ).logits
            scores = torch.log_softmax(logits[:, :-1].float(), dim=-1)
            target = ids[:, width - longest + 1 :]
            chosen = scores.gather(-1, target.unsqueeze(-1)).squeeze(-1)
        for place, row in zip(places, chosen, strict=True):
            count = min(len(replies[place]), longest - 1)
            means[place] = float(row[-count:].mean()) if count else 0.0
    return means


@contextmanager
def _greedy(model: Any) -> Iterator[None]:
    """Puts aside how the model likes to generate, inside the block: greedy means one answer, of the likeliest tokens. A
    penalty, a ban or a stop that a base model brings along would be in each of its answers, and in none of its scores.
    """
    from transformers import GenerationConfig

    brought, model.generation_config = model.generation_config, GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = brought


def _stops(model: Any, chat: Chat) -> list[int]:
    """Returns the tokens that end an answer: what ends the assistant's turn, and what the model itself stops at."""
    own = model.generation_config.eos_token_id
    return sorted({chat.end, *(own if isinstance(own, list) else [] if own is None else [own])})


def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yields places, those of like length together, the longest first: what does not fit into memory fails at once."""
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    for first in range(0, len(order), size):
        yield order[first : first + size]


def _positions(model: Any) -> int:
    return int(getattr(model.config, "max_position_embeddings", None) or 2048)


def _padding(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
