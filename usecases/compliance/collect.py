"""Collects the mistakes that a tuned model makes on the training questions: the rejected sides of the preference rows.

    python usecases/compliance/collect.py BASE ADAPTER

BASE is the folder of the base model, ADAPTER that of a LoRA adapter which SFT gave. Each training row is answered as
the night's evaluation answers; what is wrong is kept, in `mistakes.jsonl`, and build.py makes a preference row of it.
Wrong is what the scorers of the evaluation call so: another value, another source, a refusal of what the passages
answer, an answer to what they do not. What is only worded otherwise is no mistake.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from pipeline import models  # noqa: E402
from pipeline.evaluation import generation, scorers  # noqa: E402
from pipeline.evaluation.cases import Answer, Case, Expect  # noqa: E402
from pipeline.prompt import Passage  # noqa: E402
from pipeline.results import AnswerForm  # noqa: E402
from usecases.compliance.build import questions  # noqa: E402

FORM = AnswerForm(sentences=3)
BATCH, NEW_TOKENS = 8, 72


def expected(entry: dict[str, Any]) -> Expect:
    """Returns what a training question's answer should be."""
    if entry["kind"] in ("nothing", "access"):
        return Expect(False)
    return Expect(True, entry.get("value"), tuple(entry.get("aliases") or ()), entry["sources"][0])


def mistaken(text: str, expect: Expect, documents: Sequence[str]) -> str | None:
    """Returns which kind of mistake an answer from the passages of some documents is, or None for one that is right, or
    of another form alone."""
    answer = Answer(text, tuple(Passage(name, "") for name in documents))
    scores = scorers.score(Case("x", "x", "?", "anyone", expect, form=FORM), answer)
    if not text.strip() or scores["format"] < 1:
        return None
    return next((name for name in ("refusal", "source", "value") if scores.get(name, 1.0) < 1), None)


def collect(model: Any, tokenizer: Any) -> dict[str, dict[str, str]]:
    """Returns {row id: {"kind", "answer"}}: a mistake of each row on which the model made one."""
    entries = dict(questions(teach=True))
    lines = (HERE / "examples" / "sft.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    prompts = [row["messages"][:-1] for row in rows]
    given = generation.answers(model, tokenizer, prompts, max_new_tokens=NEW_TOKENS, batch_size=BATCH)
    kept = {}
    for row, answer in zip(rows, given, strict=True):
        kind = mistaken(answer.text, expected(entries[row["id"]]), row["documents"])
        if kind is not None:
            kept[row["id"]] = {"kind": kind, "answer": answer.text}
    return kept


if __name__ == "__main__":
    loaded = models.load(sys.argv[1], adapter=Path(sys.argv[2]), dtype="bfloat16")
    with open(HERE / "mistakes.jsonl", "w", encoding="utf-8") as file:
        for name, mistake in sorted(collect(*loaded).items()):
            file.write(json.dumps({"id": name, **mistake}, ensure_ascii=False) + "\n")
