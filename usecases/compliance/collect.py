"""Collects the mistakes that a tuned model makes on the training questions: the rejected sides of the preference rows.

    python usecases/compliance/collect.py BASE ADAPTER

BASE is the folder of the base model, ADAPTER that of a LoRA adapter which SFT gave. Each training row is answered
greedily and then some times by chance; the first answer that is wrong is kept, in `mistakes.jsonl`, and build.py makes
a preference row of it. Wrong is what the scorers of the evaluation call so: another value, another source, a refusal of
what the passages answer, an answer to what they do not. What is only worded otherwise is no mistake.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from pipeline import models  # noqa: E402
from pipeline.chat import Chat  # noqa: E402
from pipeline.evaluation import scorers  # noqa: E402
from pipeline.evaluation.cases import Answer, Case, Expect  # noqa: E402
from pipeline.results import AnswerForm  # noqa: E402
from usecases.compliance.build import questions  # noqa: E402

FORM = AnswerForm(sentences=3)
BATCH, TRIES, NEW_TOKENS = 8, 4, 72
TEMPERATURE, TOP_P = 0.9, 0.95


def expected(entry: dict[str, Any]) -> Expect:
    """Returns what a training question's answer should be."""
    if entry["kind"] in ("nothing", "access"):
        return Expect(False)
    return Expect(True, entry.get("value"), tuple(entry.get("aliases") or ()), entry["sources"][0])


def mistaken(text: str, expect: Expect) -> str | None:
    """Returns which kind of mistake an answer is, or None for one that is right, or of another form alone."""
    scores = scorers.score(Case("x", "x", "?", "anyone", expect, form=FORM), Answer(text))
    if not text.strip() or scores["format"] < 1:
        return None
    return next((name for name in ("refusal", "source", "value") if scores.get(name, 1.0) < 1), None)


def answers(model: Any, tokenizer: Any, prompts: Sequence[list[int]], *, chance: bool) -> Iterator[str]:
    """Yields an answer to each prompt, in order: the likeliest, or one by chance."""
    stop = tokenizer.eos_token_id
    sampling: dict[str, Any] = {"do_sample": False}
    if chance:
        sampling = {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P}
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        width = max(map(len, batch))
        ids = torch.tensor([[stop] * (width - len(row)) + row for row in batch])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, pad_token_id=stop, **sampling
            )
        yield from (tokenizer.decode(row, skip_special_tokens=True).strip() for row in out[:, width:])


def collect(model: Any, tokenizer: Any) -> dict[str, dict[str, str]]:
    """Returns {row id: {"kind", "answer"}}: a mistake of each row on which the model made one."""
    entries = dict(questions(teach=True))
    lines = (HERE / "examples" / "sft.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["id"]: row["messages"][:-1] for row in map(json.loads, lines)}
    chat = Chat(tokenizer)
    prompts = {name: chat.prompt(messages) for name, messages in rows.items()}
    kept: dict[str, dict[str, str]] = {}
    for attempt in range(TRIES + 1):
        left = sorted((name for name in prompts if name not in kept), key=lambda name: len(prompts[name]))
        torch.manual_seed(attempt)
        for name, text in zip(
            left, answers(model, tokenizer, [prompts[one] for one in left], chance=attempt > 0), strict=True
        ):
            kind = mistaken(text, expected(entries[name]))
            if kind is not None:
                kept[name] = {"kind": kind, "answer": text}
        print(f"try {attempt}: {len(kept)} of {len(prompts)}", Counter(one["kind"] for one in kept.values()))  # noqa: T201
    return kept


if __name__ == "__main__":
    loaded = models.load(sys.argv[1], adapter=Path(sys.argv[2]), dtype="bfloat16")
    with open(HERE / "mistakes.jsonl", "w", encoding="utf-8") as file:
        for name, mistake in sorted(collect(*loaded).items()):
            file.write(json.dumps({"id": name, **mistake}, ensure_ascii=False) + "\n")
