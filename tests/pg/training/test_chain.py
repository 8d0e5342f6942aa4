"""Preflight, SFT and DPO as the nightly run calls them, on a random model of 60 thousand parameters."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from safetensors.numpy import load_file
from trl import chat_template_utils

from pipeline import database, evaluation, training
from pipeline.artifacts import ArtifactStore
from pipeline.chat import Form
from pipeline.context import Context
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.evaluation import recording
from pipeline.settings import Settings
from pipeline.steps import Origin, Version
from pipeline.training import sandbox
from pipeline.training.records import Measures, Precision, PreflightFacts, Prepared, Tuned, TuningFacts
from pipeline.usecase import UseCase
from tests.pg.training.conftest import SPLITS, answer, question, write_tokenizer

pytestmark = pytest.mark.pg

MakeCase = Callable[..., UseCase]
Commit = Callable[..., Version]


def fetched(settings: Settings, tuned: Tuned, folder: Path) -> Path:
    return ArtifactStore(settings.artifacts).fetch("adapter", tuned.adapter.digest, folder)


def measures(tuned: Tuned) -> Measures:
    """Returns what a training measured, which it did."""
    assert tuned.facts.training is not None
    return tuned.facts.training


def losses(tuned: Tuned) -> tuple[float, float]:
    """Returns the validation loss after a training with validation rows, and the one before it (DPO takes none: 0)."""
    after, before = measures(tuned).eval_loss, measures(tuned).eval_loss_before
    assert after is not None
    return after, before or 0.0


def rows(settings: Settings, statement: str) -> list[dict[str, Any]]:
    with database.connect(settings, "trainer") as connection:
        return connection.execute(statement.encode()).fetchall()


def test_a_night_trains_and_the_next_one_loads_nothing(
    settings: Settings,
    origin: Origin,
    usecase: MakeCase,
    commit: Commit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = commit(40, 20)
    case = usecase()
    prepared = training.preflight(Context(settings, case, origin))
    tuned = training.sft(Context(settings, case, origin), prepared)
    candidate = training.dpo(Context(settings, case, origin), prepared, tuned)

    assert prepared.dataset == dataset
    # 40 rows, of them 2 locked; of the rest four in five to train.
    assert prepared.facts.sft["train"].rows == 30
    assert prepared.facts.sft["validation"].rows == 8
    assert prepared.facts.preference is not None
    assert prepared.facts.preference["train"].rows == 16
    after, before = losses(tuned)
    assert after < before
    assert measures(tuned).threads >= 1
    assert losses(candidate)[0] < np.log(2)  # where DPO starts: both answers as likely as before

    sft = fetched(settings, tuned, tmp_path / "sft")
    dpo = fetched(settings, candidate, tmp_path / "dpo")
    names = {"adapter_config.json", "adapter_model.safetensors", "metrics.json", "recipe.json"}
    assert {path.name for path in sft.iterdir()} == {path.name for path in dpo.iterdir()} == names
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (sft, dpo))
    assert one.keys() == two.keys()  # the frozen reference is not saved along
    # 7 linear layers in each of two, A and B of rank 4: nothing is left out but the tied output.
    assert len(one) == 2 * 7 * 2
    assert any(not np.array_equal(one[name], two[name]) for name in one)
    config = json.loads((dpo / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == f"sha256:{prepared.base.digest}"
    for folder in (sft, dpo):
        for path in folder.glob("*.json"):
            assert str(tmp_path.parent.parent) not in path.read_text()
    assert json.loads((dpo / "recipe.json").read_text())["sft"] == tuned.adapter.digest

    repeated = training.dpo(Context(settings, case, origin, "never"), prepared, tuned)
    assert repeated.adapter == candidate.adapter  # SFT's own repetition is in test_sandbox.py

    replies: list[dict[str, Any]] = []
    converse = sandbox.converse

    def heard(*arguments: Any) -> dict[str, Any]:
        replies.append(converse(*arguments))
        return replies[-1]

    monkeypatch.setattr(sandbox, "converse", heard)
    again = training.preflight(Context(settings, case, origin))
    tuned_again = training.sft(Context(settings, case, origin), again)
    candidate_again = training.dpo(Context(settings, case, origin), again, tuned_again)
    assert again == replace(prepared, run=again.run, reused=True)
    for first, second in ((tuned, tuned_again), (candidate, candidate_again)):
        assert second.reused
        assert second.adapter == first.adapter
    assert [reply["imported"] for reply in replies] == [[], [], []]
    assert {
        row["login"]
        for row in rows(
            settings,
            "select login from lineage.attempt join lineage.run using (run_id)"
            " join lineage.job using (job_id) where name like 'training.%'",
        )
    } == {"trainer"}
    assert list(settings.scratch.iterdir()) == []


def test_it_stops_early_and_takes_the_best_checkpoint(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit, tmp_path: Path
) -> None:
    # What is learned says nothing of what is measured: on any processor the loss on the validation rows grows.
    said = {"train": "Pipe pipe pipe pipe pipe pipe.", "validation": "Nobody knows; metres long is what it was."}
    commit([{"messages": question(n) + answer(said[SPLITS[n % len(SPLITS)]])} for n in range(40)])
    case = usecase(sft={"max_steps": 60, "eval_steps": 2, "patience": 2, "learning_rate": 0.05})
    tuned = training.sft(Context(settings, case, origin), training.preflight(Context(settings, case, origin)))
    facts = measures(tuned)
    assert facts.stopped_early
    assert facts.best_step is not None
    assert facts.best_step < facts.steps < facts.steps_planned == 60
    history = json.loads((fetched(settings, tuned, tmp_path / "sft") / "metrics.json").read_text())["history"]
    by_step = {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}
    assert by_step[facts.best_step] == facts.eval_loss == min(by_step.values())


def test_without_preference_tuning_the_candidate_is_the_sft_adapter(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit
) -> None:
    commit(8)  # too few for a validation row: all steps are trained, and the last counts
    case = usecase(sft={"max_steps": 2})
    prepared = training.preflight(Context(settings, case, origin))
    tuned = training.sft(Context(settings, case, origin), prepared)
    assert prepared.facts.sft["validation"].rows == 0
    assert measures(tuned).steps == 2
    assert measures(tuned).best_step is None
    assert measures(tuned).eval_loss is None
    for tuning, why in (({}, "no preference rows"), ({"enabled": False}, "switched off")):
        candidate = training.dpo(Context(settings, usecase(sft={"max_steps": 2}, dpo=tuning), origin), prepared, tuned)
        assert candidate.facts == TuningFacts(False, why, None)
        assert candidate.adapter.digest == tuned.adapter.digest
        assert candidate.adapter.name == "candidate"


def test_four_bits_train_on_a_cpu_too(settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit) -> None:
    commit(40, 20)
    case = usecase(quantize="nf4", dtype="bfloat16", sft={"max_steps": 4}, dpo={"max_steps": 2})
    prepared = training.preflight(Context(settings, case, origin))
    tuned = training.sft(Context(settings, case, origin), prepared)
    after, before = losses(tuned)
    assert after < before
    assert training.dpo(Context(settings, case, origin), prepared, tuned).facts.tuned


def test_what_preflight_measured_is_what_is_trained_and_evaluated_in(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit
) -> None:
    commit(40, 0)
    case = usecase(dtype="auto", sft={"max_steps": 2}, dpo={"enabled": False})
    prepared = training.preflight(Context(settings, case, origin))
    precision = prepared.facts.precision
    assert precision.float32
    assert precision.bfloat16
    tuned = training.sft(Context(settings, case, origin), prepared)
    recipe = json.loads(ArtifactStore(settings.artifacts).read("adapter", tuned.adapter.digest, "recipe.json"))
    assert recipe["dtype"] == precision.dtype
    with database.connect(settings, "evaluator") as connection:
        assert recording.precision(connection, case) == precision.dtype
        assert recording.precision(connection, usecase(dtype="bfloat16")) == "bfloat16"
        other = case.model_copy(update={"name": "other"})
        assert recording.precision(connection, other) == "float32"
    again = training.preflight(Context(settings, case, origin))
    assert (again.reused, again.facts) == (True, prepared.facts)


def test_a_changed_base_model_is_refused(
    settings: Settings, origin: Origin, usecase: MakeCase, model_copy: Path
) -> None:
    other = Version(1, "base_model", "base", "0" * 64)
    prepared = Prepared(
        uuid4(),
        False,
        other,
        other,
        1,
        PreflightFacts(Form("<|im_end|>", True, False, False), Precision("float32"), {}, None),
    )
    with pytest.raises(Refused, match="base model changed since preflight"):
        training.sft(Context(settings, usecase(model_copy), origin), prepared)


def test_no_dataset_version_is_told(settings: Settings, origin: Origin, usecase: MakeCase) -> None:
    with pytest.raises(NotAvailable, match="no dataset version") as told:
        training.preflight(Context(settings, usecase(), origin))
    assert "nightshift data commit demo" in str(told.value)


def test_rows_that_teach_nothing_are_counted_and_a_split_of_them_is_refused(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit
) -> None:
    silent = [{"messages": [{"role": "user", "content": f"Question {n}?"}]} for n in range(8)]
    commit(silent, locked=0)
    with pytest.raises(Refused, match="no sft row") as told:
        training.preflight(Context(settings, usecase(), origin))
    assert "no_answer: 8" in str(told.value)

    long = {"role": "user", "content": "pipe " * 200}
    late = [{"messages": [long, {"role": "assistant", "content": f"{n}"}]} for n in range(3)]
    good = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "Yes."}]} for n in range(3)
    ]
    commit([*silent[:2], *late, *good], locked=0)
    counts = training.preflight(Context(settings, usecase(), origin)).facts.sft["train"]
    assert counts.rows == 3
    assert counts.rejected == {"no_answer": 2, "answer_beyond_max_length": 3}


@pytest.mark.parametrize(
    ("family", "control", "form", "last_only"),
    [
        (
            "llama3",
            ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            Form("<|eot_id|>", True, False, False),
            0,
        ),
        pytest.param(
            "gemma",
            ["<start_of_turn>", "<end_of_turn>"],
            Form("<end_of_turn>", True, True, False),
            0,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "qwen3",
            ["<|im_start|>"],
            Form("<|im_end|>", True, False, False, {"enable_thinking": False}),
            10,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_templates_of_other_families_train_and_are_evaluated_with_one_rendering(
    settings: Settings,
    origin: Origin,
    usecase: MakeCase,
    commit: Commit,
    model_copy: Path,
    family: str,
    control: list[str],
    form: Form,
    last_only: int,
) -> None:
    folder = Path(chat_template_utils.__file__).parent / "chat_templates"
    write_tokenizer(model_copy, (folder / f"{family}.jinja").read_text(), control)
    system = {"role": "system", "content": "Answer in metres."}
    talks = [
        {"messages": [system, *question(n), *answer(f"{n} metres."), *question(n + 50), *answer("So is this.")]}
        for n in range(14)
    ]
    commit(talks, 20)
    case = usecase(model_copy)
    context = Context(settings, case, origin)
    prepared = training.preflight(context)
    assert prepared.facts.template == form
    assert (prepared.facts.sft["train"].rows, prepared.facts.sft["train"].last_only) == (10, last_only)
    tuned = training.sft(context, prepared)
    after, before = losses(tuned)
    assert after < before
    candidate = training.dpo(context, prepared, tuned)
    assert losses(candidate)[0] < np.log(2)

    done = evaluation.evaluate(context, "candidate", prepared.base, candidate.adapter)
    assert done.facts.pooled["without"]["likelihood"].n == 2
    untuned = evaluation.evaluate(context, "base", prepared.base, None)
    measured = [one.facts.pooled["without"]["likelihood"].value for one in (done, untuned)]
    assert measured[0] > measured[1]

    again = Context(settings, case, origin, "never")
    assert training.sft(again, prepared).adapter == tuned.adapter


@pytest.mark.parametrize(
    ("template", "message"),
    [("", "has no chat template"), ("{% for message in messages %}", "cannot be rendered")],
)
def test_a_template_that_cannot_be_rendered_is_refused(
    settings: Settings,
    origin: Origin,
    usecase: MakeCase,
    commit: Commit,
    model_copy: Path,
    template: str,
    message: str,
) -> None:
    commit(8)
    (model_copy / "chat_template.jinja").write_text(template)
    with pytest.raises(BadInput, match=message) as refusal:
        training.preflight(Context(settings, usecase(model_copy), origin))
    assert "chat_template.jinja" in str(refusal.value)


def test_a_gpu_that_is_absent_is_told(settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    commit(8)
    with pytest.raises(NotAvailable, match="no CUDA device"):
        training.preflight(Context(replace(settings, device="cuda"), usecase(), origin))
