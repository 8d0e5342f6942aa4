"""How good the night's model is on usecases/compliance, over several seeds: `make bench-model`.

For each seed the night's own stages train SFT and DPO on all rows, without token budgets, and base model, SFT and
candidate answer the suites' cases. Beside retrieval stand what shows where the rest is lost: the same cases with the
right passage given (the ceiling), with every passage that holds the value taken out (an answer that is still right was
not read), and, for a sample, without any.

    python -m benchmarks.model [--seeds 7,8,9] [--cases 200] [--report FILE]

Model, documents and index must be there: `nightshift model pull`, `data commit compliance`, `index sync compliance`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import database, deployments, models, prompt, steps, training, usecase
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.evaluation import answering, generation, recording, scorers, suites
from pipeline.evaluation.cases import Answer, Case, Expect
from pipeline.prompt import Passage
from pipeline.settings import Settings, from_environment
from pipeline.steps import Origin, Version
from pipeline.usecase import UseCase
from usecases.compliance import build

DEPTH = 12  # passages looked through for those that do not hold the value
SHARE_WITHOUT = 0.25
Passages = list[list[Passage]]


@dataclass(frozen=True)
class Asked:
    """The cases, and what each condition shows for them."""

    cases: Sequence[Case]
    by_hand: frozenset[str]  # keys
    retrieved: Passages
    right: Passages  # of answerable cases; [] of the others
    neighbour: Passages

    def chosen(self, wanted: Callable[[Case], bool], passages: Passages) -> tuple[list[Case], Passages]:
        """Returns the cases that are wanted, with their passages."""
        pairs = [(case, own) for case, own in zip(self.cases, passages, strict=True) if wanted(case)]
        return [case for case, _ in pairs], [own for _, own in pairs]


def answerable(case: Case) -> bool:
    """Returns whether the documents answer a case."""
    return isinstance(case.expect, Expect) and case.expect.answerable


def right_document(case: Case, passages: Sequence[Passage]) -> bool:
    """Returns whether one of the passages is of the document to cite."""
    assert isinstance(case.expect, Expect)
    return case.expect.source in {passage.document for passage in passages}


def gather(settings: Settings, case: UseCase, size: int) -> Asked:
    """Returns `size` of the suites' cases (0: all), in proportion, with their passages."""
    loaded = suites.load(case)
    every = [one for suite in loaded for one in suite.cases]
    cases = suites.sample(every, size) if size else every
    with database.connect(settings, "evaluator") as connection:
        live = deployments.live(connection, case.name)
        assert live is not None
        assert live.index_version_id is not None
        index = steps.version(connection, live.index_version_id)
    deep = case.model_copy(update={"retrieval": case.retrieval.model_copy(update={"k": DEPTH})})
    k, found = case.retrieval.k, answering.retrieve(settings, deep, cases, index)
    held, entries = build.documents(), dict(build.questions(teach=False))
    right: Passages = []
    neighbour: Passages = []
    for one, passages in zip(cases, found, strict=True):
        if not answerable(one):
            right.append([])
            neighbour.append([])
            continue
        own = build.holding(entries[one.key], held)
        right.append([*own, *(each for each in passages if each not in own)][:k])
        neighbour.append([each for each in passages if scorers.score(one, Answer(each.text))["value"] == 0][:k])
    by_hand = frozenset(one.key for suite in loaded if suite.name == "by_hand" for one in suite.cases)
    return Asked(cases, by_hand, [passages[:k] for passages in found], right, neighbour)


def measure(
    loaded: tuple[Any, Any], case: UseCase, cases: Sequence[Case], passages: Passages
) -> list[dict[str, float]]:
    """Returns each case's scores."""
    form, settings = prompt.read(case.prompt), case.evaluation
    messages = [form.messages(one.question or "", own) for one, own in zip(cases, passages, strict=True)]
    given = generation.answers(
        *loaded, messages, max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size
    )
    return [
        scorers.score(one, Answer(answer.text, tuple(own)))
        for one, answer, own in zip(cases, given, passages, strict=True)
    ]


def summary(cases: Sequence[Case], scores: Sequence[Mapping[str, float]], by_hand: frozenset[str]) -> dict[str, float]:
    """Returns the metrics of one condition."""

    def mean(metric: str, wanted: Callable[[Case], bool] = lambda _: True) -> float:
        values = [each[metric] for one, each in zip(cases, scores, strict=True) if wanted(one) and metric in each]
        return statistics.mean(values) if values else float("nan")

    both = [each["value"] * each.get("source", 1.0) for one, each in zip(cases, scores, strict=True) if answerable(one)]
    hand = [
        each["value"] * each.get("source", 1.0)
        for one, each in zip(cases, scores, strict=True)
        if answerable(one) and one.key in by_hand
    ]
    return {
        "value": mean("value"),
        "source": mean("source"),
        "both": statistics.mean(both) if both else float("nan"),
        "both by hand": statistics.mean(hand) if hand else float("nan"),
        "all right": mean("correct"),
        "format": mean("format"),
        "refuses what nothing answers": mean("refusal", lambda one: not answerable(one)),
        "refuses wrongly": 1 - mean("refusal", answerable),
        "n": len(cases),
    }


def examine(loaded: tuple[Any, Any], case: UseCase, asked: Asked, conditions: Sequence[str]) -> dict[str, Any]:
    """Returns the metrics of a model by condition."""
    alone = {one.key for one in suites.sample(list(asked.cases), round(SHARE_WITHOUT * len(asked.cases)))}
    empty: Passages = [[] for _ in asked.cases]
    shown = {
        "retrieval": asked.chosen(lambda _: True, asked.retrieved),
        "right passage": asked.chosen(answerable, asked.right),
        "value taken out": asked.chosen(answerable, asked.neighbour),
        "without": asked.chosen(lambda one: one.key in alone, empty),
    }
    results = {}
    for condition in conditions:
        begun = time.monotonic()
        cases, passages = shown[condition]
        results[condition] = summary(cases, measure(loaded, case, cases, passages), asked.by_hand)
        log(f"  {condition}: {round(time.monotonic() - begun)} s {results[condition]}")
    return results


def seeded(case: UseCase, seed: int) -> UseCase:
    """Returns the use case with a seed, and no token budgets."""
    own = {"seed": seed, "max_tokens": None}
    recipe = case.training
    changed = recipe.model_copy(
        update={"sft": recipe.sft.model_copy(update=own), "dpo": recipe.dpo.model_copy(update=own)}
    )
    return case.model_copy(update={"training": changed})


def load(settings: Settings, case: UseCase, adapter: Version | None) -> tuple[Any, Any]:
    """Returns (model, tokenizer)."""
    base = models.resolve(settings, case.base_model)
    with database.connect(settings, "evaluator") as connection:
        dtype = recording.precision(connection, case)
    with tempfile.TemporaryDirectory() as scratch:
        folder = None
        if adapter is not None:
            folder = ArtifactStore(settings.artifacts).fetch("adapter", adapter.digest, Path(scratch) / "adapter")
        return models.load(base.folder, adapter=folder, digest=base.digest, dtype=dtype)


def log(text: str) -> None:
    """Says how far it is."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    """Trains, asks, and prints a line of JSON for each model and seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="7,8,9")
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args()
    settings = from_environment()
    case = usecase.find(settings, "compliance")
    asked = gather(settings, case, chosen.cases)
    known = [(one, own) for one, own in zip(asked.cases, asked.retrieved, strict=True) if answerable(one)]
    report: list[dict[str, Any]] = [
        {
            "model": "retrieval",
            "right document among k": statistics.mean(right_document(one, own) for one, own in known),
            "value in the passages": statistics.mean(
                scorers.score(one, Answer(" ".join(each.text for each in own)))["value"] for one, own in known
            ),
            "n": len(known),
        }
    ]
    log(str(report[0]))
    for seed in map(int, chosen.seeds.split(",")):
        own = seeded(case, seed)
        context = Context(settings, own, Origin("cli", "benchmark"))
        prepared = training.preflight(context)
        if len(report) == 1:
            log("base")
            results = examine(load(settings, own, None), own, asked, ("retrieval", "right passage", "without"))
            report.append({"model": "base", "results": results})
        tuned = training.sft(context, prepared)
        candidate = training.dpo(context, prepared, tuned)
        subjects: dict[str, tuple[Version, tuple[str, ...]]] = {"SFT": (tuned.adapter, ("retrieval",))}
        every = ("retrieval", "right passage", "value taken out", "without")
        subjects["SFT + DPO" if candidate.facts.tuned else "SFT"] = (candidate.adapter, every)
        for name, (adapter, conditions) in subjects.items():
            log(f"{name}, seed {seed}")
            results = examine(load(settings, own, adapter), own, asked, conditions)
            report.append({"model": name, "seed": seed, "adapter": adapter.digest, "results": results})
            if chosen.report:  # after hours of training: whoever is stopped keeps what was measured
                chosen.report.write_text(_lines(report))
    if not chosen.report:
        sys.stdout.write(_lines(report))


def _lines(report: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in report)


if __name__ == "__main__":
    main()
