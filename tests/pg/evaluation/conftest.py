"""The demo world's live index, the model that ships, and suites over the three documents."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline import evaluation, models, steps
from pipeline import usecase as usecases
from pipeline.context import Context
from pipeline.results import Subject
from pipeline.settings import ROOT, Settings
from pipeline.steps import Attempt, Origin, Output, Result, Reuse, Step, Version
from pipeline.usecase import BaseModelSource, UseCase

Told = dict[str, Any]
ENGINEER = Origin("cli", "engineer")
TINY = str(ROOT / "models" / "tiny")
PRINCIPALS = {
    "clerk": {"tenant": "acme", "groups": ["staff"], "clearance": "internal"},
    "inspector": {"tenant": "acme", "groups": ["safety", "staff"], "clearance": "restricted"},
}
CASES: Sequence[Told] = [
    {
        "id": f"{principal}-{source}",
        "question": f"What is the deadline of the {source}?",
        "principal": principal,
        "expect": {"answerable": True, "value": f"{place} days", "source": source},
    }
    for place, source in enumerate(("leave", "hazard", "notice"), 1)
    for principal in PRINCIPALS
] + [
    {"id": "none", "question": "Who owns the moon?", "principal": "clerk", "expect": {"answerable": False}},
]


@dataclass
class Bench:
    """A use case, its base model as preflight pins it, and adapters on top."""

    settings: Settings
    usecase: UseCase

    def base(self, path: str = TINY) -> Version:
        """Returns the version of a base model."""
        base = models.resolve(self.settings, BaseModelSource(path=path))

        def work(attempt: Attempt) -> Result:
            return Result({"base": models.register(base)})

        step = Step(self.usecase.name, "training.preflight", "trainer", ("pipeline.canonical",), {"base": base.digest})
        return steps.run(self.settings, ENGINEER, step, work).outputs["base"]

    def adapter(self, base: Version, name: str = "candidate", path: str = TINY, seed: int = 7) -> Version:
        """Returns the version of a LoRA adapter with random weights."""

        def work(attempt: Attempt) -> Result:
            import torch
            from peft import LoraConfig, get_peft_model

            torch.manual_seed(seed)
            model, _ = models.load(path)
            tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
            tuned.save_pretrained(str(attempt.scratch / "a"), save_embedding_layers=False)
            files: dict[str, bytes | Path] = {
                file: attempt.scratch / "a" / file for file in ("adapter_model.safetensors", "adapter_config.json")
            }
            stored = attempt.store.put("adapter", files)
            return Result({"adapter": Output.of(stored, name, private=True)})

        step = Step(
            self.usecase.name,
            "training.dpo",
            "trainer",
            ("pipeline.canonical",),
            {"seed": seed, "name": name},
            {"base": base},
        )
        return steps.run(self.settings, ENGINEER, step, work).outputs["adapter"]

    def evaluate(
        self,
        subject: Subject,
        adapter: Version | None = None,
        *,
        base: Version | None = None,
        reuse: Reuse = "auto",
        **options: Any,
    ) -> evaluation.Evaluated:
        """Returns the evaluation of a subject, on the use case's base model unless another is given."""
        context = Context(self.settings, self.usecase, ENGINEER, reuse)
        return evaluation.evaluate(context, subject, base or self.base(), adapter, **options)


@pytest.fixture
def make_bench(settings: Settings, usecase_folder: Callable[..., Path]) -> Callable[..., Bench]:
    """A function that makes a bench; its keys are the YAML's."""

    def make(cases: Sequence[Told] = CASES, suites: bool = True, **keys: Any) -> Bench:
        folder = usecase_folder()
        (folder / "facts.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
        told: Told = {"max_new_tokens": 8, "batch_size": 4}
        if suites:
            told["suites"] = [{"name": "facts", "path": "facts.jsonl"}]
        keys.setdefault("evaluation", told)
        folder = usecase_folder(principals=PRINCIPALS, base_model={"path": TINY}, **keys)
        return Bench(settings, usecases.load(folder / "usecase.yaml"))

    return make
