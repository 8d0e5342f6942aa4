"""Builds the small base model that ships: a Llama pretrained from nothing on generated text.

What it does, top to bottom: train a tokenizer on the text, train the model on rows that no two steps share, measure it
on fresh scenes as it goes, and export a folder that ``transformers`` loads offline. Matrices are trained with Muon and
everything else with AdamW; the answers weigh fully in the loss, the rest little.

What it trades: the model reads only language of the kind it was trained on. It knows no facts.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.tiny.build.check import Score, measure
from models.tiny.build.corpus import HARDEST, Level
from models.tiny.build.muon import Muon
from models.tiny.build.tokens import END, PAD, STOP, Row, rows, train_tokenizer

HIDDEN, LAYERS, HEADS, INTERMEDIATE = 128, 4, 4, 384
CONTEXT_SHARE = 0.25  # of the tokens outside the answers, how many count in the loss of a step
PEAK_RATE = 3e-3
WARM_UP_STEPS = 50
DECAY_FROM = 0.7  # share of the training after which the rate falls linearly to nothing
REPORTS = 6


@dataclass(frozen=True)
class Stage:
    """A part of the training: from easy and short to hard and long."""

    until: float  # the share of the training at which it ends
    level: Level
    length: int  # tokens a row
    step_tokens: int  # tokens a step, over all processes


STAGES = (
    Stage(0.25, Level(documents=2, facts=(1, 1, 2), plain=0.8), 192, 2688),
    Stage(0.55, Level(documents=3, facts=(1, 2, 2, 3), plain=0.3), 320, 3840),
    Stage(1.01, HARDEST, 512, 5120),
)


@dataclass(frozen=True)
class Progress:
    """The model as measured after so many tokens."""

    tokens: int
    seconds: float
    loss: float  # weighted mean cross-entropy of the last steps, nats
    score: Score


@dataclass(frozen=True)
class BaseModelReport:
    """What was built, from what, and how well it reads."""

    out: Path
    seed: int
    tokens: int
    processes: int
    parameters: int
    seconds: float
    progress: tuple[Progress, ...]


@dataclass(frozen=True)
class _Job:
    out: Path
    seed: int
    tokens: int
    processes: int
    minutes: float | None
    port: int


def build_base(
    out: Path,
    *,
    seed: int,
    tokens: int,
    processes: int,
    log: Callable[[str], None],
    minutes: float | None = None,
) -> BaseModelReport:
    """The report of a base model trained on about ``tokens`` tokens and exported to ``out``.

    The folder is replaced at every report and never half-written. With ``minutes``, the schedule ends by the clock if
    that comes first, and the result cannot be reproduced exactly. Raises :class:`ValueError` for a budget or a number
    of processes below one.
    """
    if tokens < 1 or processes < 1:
        raise ValueError(f"tokens and processes must be at least 1, found {tokens} and {processes}")
    out.parent.mkdir(parents=True, exist_ok=True)
    job = _Job(out.absolute(), seed, tokens, processes, minutes, _free_port())
    if processes == 1:
        return _train(0, job, log)
    context = torch.multiprocessing.get_context("spawn")
    others = [context.Process(target=_follow, args=(rank, job), daemon=True) for rank in range(1, processes)]
    for other in others:
        other.start()
    try:
        return _train(0, job, log)
    finally:
        for other in others:
            other.join(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _follow(rank: int, job: _Job) -> None:
    _train(rank, job, lambda _: None)


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained model for the tokenizer, the same for the same seed."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=INTERMEDIATE,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=int(tokenizer.convert_tokens_to_ids(END)),  # type: ignore[arg-type]
            eos_token_id=int(tokenizer.convert_tokens_to_ids(STOP)),  # type: ignore[arg-type]
            pad_token_id=int(tokenizer.convert_tokens_to_ids(PAD)),  # type: ignore[arg-type]
            dtype="float32",
        )
    )


def _train(rank: int, job: _Job, log: Callable[[str], None]) -> BaseModelReport:
    if job.processes > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.processes))
        address = f"tcp://127.0.0.1:{job.port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=job.processes)
    tokenizer = train_tokenizer(job.seed)
    model = new_model(tokenizer, job.seed)
    torch.manual_seed(job.seed * 1000 + rank)
    optimizers = _optimizers(model)
    done, step, share, losses, reports = 0, 0, 0.0, [0.0], list[Progress]()
    start = time.monotonic()
    sources: dict[int, Iterator[Row]] = {}
    while share < 1.0:
        share = _share(done, start, job)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = PEAK_RATE * _rate(step, share)
        stage = next(one for one in STAGES if share < one.until)
        if stage.length not in sources:
            own = job.seed * 1000 + stage.length + rank
            sources[stage.length] = rows(tokenizer, own, length=stage.length, level=stage.level)
        count = max(1, stage.step_tokens // job.processes // stage.length)
        batch = [next(sources[stage.length]) for _ in range(count)]
        losses = [*losses[-49:], _step(model, optimizers, batch, share, job.processes)]
        done, step = done + count * stage.length * job.processes, step + 1
        if step % 200 == 0:
            log(json.dumps({"tokens": done, "loss": round(sum(losses) / len(losses), 3)}))
        if rank == 0 and (share >= (len(reports) + 1) / REPORTS or share >= 1.0):
            seconds = time.monotonic() - start
            score = measure(model, tokenizer, seed=job.seed + 1, scenes=24)
            reports.append(Progress(done, seconds, sum(losses) / len(losses), score))
            log(
                json.dumps(
                    {"tokens": done, "seconds": round(seconds), "loss": round(reports[-1].loss, 3), **asdict(score)}
                )
            )
            _export(model, tokenizer, job.out)
    if job.processes > 1:
        dist.destroy_process_group()
    parameters = sum(weight.numel() for weight in model.parameters())
    return BaseModelReport(job.out, job.seed, done, job.processes, parameters, time.monotonic() - start, tuple(reports))


def _share(done: int, start: float, job: _Job) -> float:
    """The share of the training that is behind us, the same in every process."""
    share = done / job.tokens
    if job.minutes is not None:
        share = max(share, (time.monotonic() - start) / 60 / job.minutes)
        if job.processes > 1:
            agreed = torch.tensor([share], dtype=torch.float64)
            dist.broadcast(agreed, src=0)
            share = float(agreed)
    return min(share, 1.0)


def _rate(step: int, share: float) -> float:
    return min(1.0, (step + 1) / WARM_UP_STEPS, max(0.0, (1.0 - share) / (1.0 - DECAY_FROM)))


def _optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    named = list(model.named_parameters())
    matrices = [weight for name, weight in named if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in named if weight.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, PEAK_RATE),
        torch.optim.AdamW(others, lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _step(
    model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], batch: list[Row], share: float, processes: int
) -> float:
    """The loss of one step, averaged over the processes."""
    tokens = torch.stack([row.tokens for row in batch])
    answers, real = (torch.stack([getattr(row, name) for row in batch])[:, 1:] for name in ("answers", "real"))
    counted = answers | (real & (torch.rand(answers.shape) < CONTEXT_SHARE))
    weights = torch.where(answers, 1.0, 0.6 - 0.4 * share)[counted]
    hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    each = nn.functional.cross_entropy(model.lm_head(hidden[counted]), tokens[:, 1:][counted], reduction="none")
    loss = (each * weights).sum() / weights.sum()
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [weight for weight in model.parameters() if weight.grad is not None]
    if processes > 1:
        flat = torch.cat([weight.grad.flatten() for weight in parameters if weight.grad is not None])
        dist.all_reduce(flat)
        flat /= processes
        for weight, part in zip(
            parameters,
            flat.split(  # type: ignore[no-untyped-call]
                [weight.numel() for weight in parameters]
            ),
            strict=True,
        ):
            weight.grad = part.view_as(weight)
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the folder aside and put it in place of the old one."""
    aside, old = out.with_name(out.name + ".new"), out.with_name(out.name + ".old")
    for folder in (aside, old):
        shutil.rmtree(folder, ignore_errors=True)
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config.update(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=96
    )
    copy.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    if out.exists():
        out.rename(old)
    aside.rename(out)
    shutil.rmtree(old, ignore_errors=True)
