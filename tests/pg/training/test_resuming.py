"""A training that is killed goes on and ends as if nothing had happened; one that goes wrong leaves nothing."""

import json
import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import checkpoints, database, training
from pipeline import usecase as usecases
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.errors import NightshiftError, NotAvailable, Refused
from pipeline.models import resolve
from pipeline.settings import Settings
from pipeline.steps import Origin, Version
from pipeline.training import head, loop, sandbox
from pipeline.training import sft as sft_module  # noqa: F401  the module, before the package's function of that name
from pipeline.training.records import Prepared, Tuned
from pipeline.usecase import UseCase
from tests.pg.training.conftest import preference_rows

pytestmark = [
    pytest.mark.pg,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # PEFT asks for it
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning"),  # and TRL
]

MakeCase = Callable[..., UseCase]
Commit = Callable[..., Version]
TASK = Origin("airflow", "tester", "demo_retrain", "night", "sft")
STEPS = 24
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def workers() -> list[psutil.Process]:
    """Returns the training processes that this one started."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "pipeline.training.worker" in " ".join(child.cmdline())
    ]


def reached(settings: Settings, step: int) -> bool:
    """Returns whether a checkpoint of this step, or a later one, is complete."""
    return any(
        int(path.parent.name.rpartition("-")[2]) >= step
        for path in settings.checkpoints.glob(f"*/*/checkpoint-*/{checkpoints.MANIFEST}")
    )


def killed(settings: Settings, step: int, work: Callable[[], object]) -> None:
    """Does the work and kills its training process once it has a checkpoint of this step."""
    caught: list[BaseException] = []

    def disturbed() -> None:
        try:
            work()
        except NightshiftError as error:
            caught.append(error)

    caller = threading.Thread(target=disturbed)
    caller.start()
    deadline = time.monotonic() + 120
    while not reached(settings, step):
        assert caller.is_alive(), f"it ended before step {step}: {caught}"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    for worker in workers():
        worker.send_signal(signal.SIGKILL)
    caller.join()
    assert "SIGKILL" in str(caught[0])


def hash_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each training process another order of sets and of what hangs on it."""
    environment = sandbox._environment

    def another(*arguments: Any) -> dict[str, str]:
        return environment(*arguments) | {"PYTHONHASHSEED": str(random.randrange(1, 2**32))}

    monkeypatch.setattr(sandbox, "_environment", another)


def curve(settings: Settings, job: str) -> list[dict[str, Any]]:
    with database.connect(settings, "reader") as connection:
        return connection.execute(
            "select * from lineage.training_curve where job = %s order by started_at, step", [job]
        ).fetchall()


def every_step(usecase: MakeCase, **training: Any) -> UseCase:
    """A use case whose trainings write a checkpoint after each step; the batches are of one row and of several."""
    sft = {"max_steps": STEPS, "eval_steps": 8, "patience": 60, "checkpoint_minutes": 0, "lora_dropout": 0.1}
    dpo = {"max_steps": 8, "eval_steps": 4, "batch_size": 2, "gradient_accumulation": 2, "checkpoint_minutes": 0}
    return usecase(sft=sft | training.pop("sft", {}), dpo=dpo | training.pop("dpo", {}), **training)


def test_killed_again_and_again_it_ends_with_the_same_adapter(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(40, 20)
    case = every_step(usecase)
    hash_seeds(monkeypatch)
    prepared = training.preflight(Context(settings, case, origin))
    undisturbed = training.sft(Context(settings, case, origin, "never"), prepared)
    assert not list(settings.checkpoints.glob("*/*")), "an adapter that stands needs none"

    for step in (1, 9, STEPS - 1):
        killed(settings, step, lambda: training.sft(Context(settings, case, TASK, "never"), prepared))
    (folder,) = settings.checkpoints.glob("*/*")
    assert folder.stat().st_mode & 0o777 == 0o700
    newest = checkpoints.newest(folder)
    assert newest is not None
    (newest / checkpoints.MANIFEST).unlink()  # as if it had been killed while it wrote
    done = training.sft(Context(settings, case, TASK, "never"), prepared)
    assert done.adapter.digest == undisturbed.adapter.digest
    assert done.facts.training is not None
    assert done.facts.training.resumed_from is not None
    assert 9 <= done.facts.training.resumed_from < STEPS
    assert done.facts.training.seconds_before > 0
    assert not list(settings.checkpoints.glob("*/*"))
    with database.connect(settings, "trainer") as connection:
        states = connection.execute(
            "select a.state from lineage.attempt a join lineage.run r using (run_id) where r.dag_id = %s"
            " order by a.fence",
            [TASK.dag_id],
        ).fetchall()
    assert [row["state"] for row in states] == ["superseded"] * 3 + ["succeeded"]

    rows = [row for row in curve(settings, "training.sft") if row["run_id"] == done.run]
    assert [row["step"] for row in rows] == list(range(STEPS + 1)), "each step once, and the look before the first"
    assert {row["fence"] for row in rows} == {4}
    assert all(row["loss"] > 0 and row["gradient_norm"] > 0 for row in rows[1:])
    assert rows[-1]["tokens_per_second"] > rows[-1]["supervised_per_second"] > 0
    assert rows[-1]["memory_mib"] > 100
    assert [row["step"] for row in rows if row["eval_loss"] is not None] == [0, 8, 16, 24]
    again = [row for row in curve(settings, "training.sft") if row["run_id"] == undisturbed.run]
    assert [(row["loss"], row["eval_loss"], row["learning_rate"]) for row in rows] == [
        (row["loss"], row["eval_loss"], row["learning_rate"]) for row in again
    ]

    task = Origin("airflow", "tester", "demo_retrain", "night", "dpo")
    candidate = training.dpo(Context(settings, case, origin, "never"), prepared, done)
    for step in (2, 7):
        killed(settings, step, lambda: training.dpo(Context(settings, case, task, "never"), prepared, done))
    resumed = training.dpo(Context(settings, case, task, "never"), prepared, done)
    assert resumed.adapter.digest == candidate.adapter.digest
    losses = [row["loss"] for row in curve(settings, "training.dpo") if row["step"] == 1]
    assert losses == pytest.approx([0.693147] * len(losses), abs=1e-5), "the reference is where it begins"


@pytest.mark.slow
def test_twenty_kills_at_random_change_nothing(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(40)
    steps = 120
    case = every_step(usecase, sft={"max_steps": steps, "eval_steps": 30})
    hash_seeds(monkeypatch)
    prepared = training.preflight(Context(settings, case, origin))
    undisturbed = training.sft(Context(settings, case, origin, "never"), prepared)
    for step in sorted(random.sample(range(1, steps), 20)):
        killed(settings, step, lambda: training.sft(Context(settings, case, TASK, "never"), prepared))
    done = training.sft(Context(settings, case, TASK, "never"), prepared)
    assert done.adapter.digest == undisturbed.adapter.digest


@pytest.fixture
def inside(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[UseCase, Prepared, Origin], Tuned]:
    """A function that runs SFT in this process, where a test can disturb it."""
    from pipeline.training.sft import run

    def train(case: UseCase, prepared: Prepared, origin: Origin) -> Tuned:
        base = resolve(settings, case.base_model)
        return run(Context(settings, case, origin, "never"), base=base, prepared=prepared)

    return train


def test_killed_after_its_last_step_it_trains_no_further(
    settings: Settings,
    origin: Origin,
    usecase: MakeCase,
    commit: Commit,
    inside: Callable[..., Tuned],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit(40)
    # It stops early: what is learned helps nothing at this rate.
    case = every_step(usecase, sft={"max_steps": 60, "eval_steps": 2, "patience": 2, "learning_rate": 0.2})
    prepared = training.preflight(Context(settings, case, origin))
    undisturbed = training.sft(Context(settings, case, origin, "never"), prepared)
    assert undisturbed.facts.training is not None
    assert undisturbed.facts.training.stopped_early

    def dying(*_: object) -> None:
        raise SystemExit("killed before it could hand on")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_require_best", dying)
        with pytest.raises(SystemExit):
            inside(case, prepared, TASK)
    done = training.sft(Context(settings, case, TASK, "never"), prepared)
    assert done.adapter.digest == undisturbed.adapter.digest
    assert done.facts.training is not None
    assert done.facts.training.resumed_from == done.facts.training.steps


@pytest.mark.parametrize("rows", [40, 8], ids=["with validation rows", "without"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_no_number_stops_it_and_leaves_no_adapter(
    settings: Settings,
    origin: Origin,
    usecase: MakeCase,
    commit: Commit,
    inside: Callable[..., Tuned],
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    value: str,
) -> None:
    commit(rows)
    case = every_step(usecase)
    prepared = training.preflight(Context(settings, case, origin))
    calls = []
    loss = head.loss

    def broken(model: Any, *rest: Any) -> Any:
        calls.extend([1] if model.training else [])
        return loss(model, *rest) * (float(value) if len(calls) == 6 else 1)

    monkeypatch.setattr(head, "loss", broken)
    with pytest.raises(Refused, match="diverged") as refusal:
        inside(case, prepared, TASK)
    assert f"step 6 of {STEPS}" in str(refusal.value)
    assert not (Path(settings.artifacts) / "adapter").exists()
    (folder,) = settings.checkpoints.glob("*/*")
    assert checkpoints.newest(folder) == folder / "checkpoint-5", "what was sound is kept, and nothing after it"
    recorded = curve(settings, "training.sft")
    assert str(recorded[-1]["loss"]) == value
    assert recorded[-1]["state"] == "failed"


def test_preferences_that_diverge_stop_too(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit
) -> None:
    # One side is preferred in every other row: no step that is so long helps both halves.
    pairs = [
        row if number % 4 < 2 else {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        for number, row in enumerate(preference_rows(40))
    ]
    commit(40, pairs)
    case = every_step(usecase, sft={"max_steps": 2}, dpo={"learning_rate": 0.5, "beta": 100, "max_steps": 60})
    prepared = training.preflight(Context(settings, case, origin))
    tuned = training.sft(Context(settings, case, origin), prepared)
    with pytest.raises(Refused, match="diverged"):
        training.dpo(Context(settings, case, origin), prepared, tuned)
    with database.connect(settings, "reader") as connection:
        kinds = connection.execute("select name from lineage.artifacts where kind = 'adapter'").fetchall()
    assert [row["name"] for row in kinds] == ["sft"]


def test_where_memory_runs_out_the_passes_become_smaller(
    settings: Settings,
    origin: Origin,
    usecase: MakeCase,
    commit: Commit,
    inside: Callable[..., Tuned],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import torch

    commit(40)
    case = every_step(usecase, sft={"batch_size": 6, "lora_dropout": 0.0})
    prepared = training.preflight(Context(settings, case, origin))
    undisturbed = training.sft(Context(settings, case, origin, "never"), prepared)
    steps = []
    loss = head.loss

    def limited(model: Any, inputs: Mapping[str, Any], items: Any = None) -> Any:
        steps.extend([1] if model.training else [])
        if model.training and len(steps) > 10 and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return loss(model, inputs, items)

    monkeypatch.setattr(head, "loss", limited)
    with caplog.at_level(logging.WARNING):
        done = inside(case, prepared, TASK)
    assert "out of memory with 6 rows in a pass: going on with 3" in caplog.text
    assert "out of memory with 3 rows in a pass: going on with 1" in caplog.text, "two are no half of three"
    measures = done.facts.training
    assert measures is not None
    assert (measures.batch_size, measures.gradient_accumulation) == (1, 6)
    assert measures.resumed_from is not None
    assert measures.steps == STEPS
    assert undisturbed.facts.training is not None
    assert measures.eval_loss == pytest.approx(undisturbed.facts.training.eval_loss, rel=1e-3)

    def never(*_: object, **__: object) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(head, "loss", never)
    with pytest.raises(NotAvailable, match="one row at a time"):
        inside(every_step(usecase, sft={"seed": 8}), prepared, origin)


def test_it_stops_when_its_minutes_are_over(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit
) -> None:
    commit(40)
    case = every_step(usecase, sft={"max_steps": 100_000, "max_minutes": 0.05, "eval_steps": 50_000})
    prepared = training.preflight(Context(settings, case, origin))
    tuned = training.sft(Context(settings, case, origin), prepared)
    measures = tuned.facts.training
    assert measures is not None
    assert measures.stopped_early
    assert 0 < measures.steps == measures.best_step
    assert measures.eval_loss is not None


def test_two_of_the_same_do_not_write_into_one_folder(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit, caplog: pytest.LogCaptureFixture
) -> None:
    commit(40)
    case = every_step(usecase, sft={"max_steps": 4})
    prepared = training.preflight(Context(settings, case, origin))
    killed(settings, 2, lambda: training.sft(Context(settings, case, origin), prepared))
    (folder,) = settings.checkpoints.glob("*/*")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with checkpoints.held(folder) as ours, caplog.at_level(logging.WARNING):
        assert ours
        done = training.sft(Context(settings, case, origin), prepared)
    assert "another process trains the same" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert done.facts.training is not None
    assert done.facts.training.resumed_from is None
    recipe = json.loads(ArtifactStore(settings.artifacts).read("adapter", done.adapter.digest, "recipe.json"))
    assert "checkpoint_minutes" not in recipe


def test_packed_rows_train_and_do_not_see_each_other(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit
) -> None:
    commit(40)
    case = every_step(usecase, sft={"packing": True, "batch_size": 2, "max_steps": 12})
    prepared = training.preflight(Context(settings, case, origin))
    tuned = training.sft(Context(settings, case, origin), prepared)
    measures = tuned.facts.training
    assert measures is not None
    assert measures.rows["train"].rows < prepared.facts.sft["train"].rows / 2
    assert measures.rows["train"].tokens == prepared.facts.sft["train"].tokens
    assert measures.eval_loss is not None
    assert measures.eval_loss_before is not None
    assert measures.eval_loss < measures.eval_loss_before


@pytest.mark.parametrize("shape", [{"rslora": True}, {"dora": True}, {"target_modules": ["q_proj", "v_proj"]}])
def test_the_adapters_shape_is_the_recipes(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit, shape: dict[str, Any]
) -> None:
    commit(40)
    case = every_step(usecase, sft={**shape, "max_steps": 2, "lora_dropout": 0.0})
    prepared = training.preflight(Context(settings, case, origin))
    tuned = training.sft(Context(settings, case, origin), prepared)
    config = json.loads(ArtifactStore(settings.artifacts).read("adapter", tuned.adapter.digest, "adapter_config.json"))
    assert config["use_rslora"] == shape.get("rslora", False)
    assert config["use_dora"] == shape.get("dora", False)
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == set(shape.get("target_modules", LAYERS))


def test_layers_that_the_model_does_not_have_are_refused(
    settings: Settings, origin: Origin, usecase: MakeCase, commit: Commit
) -> None:
    commit(40)
    case = every_step(usecase, sft={"target_modules": ["query_proj"]})
    with pytest.raises(Refused, match="no layer of the model") as refusal:
        training.preflight(Context(settings, case, origin))
    assert "q_proj" in str(refusal.value)
    assert usecases.SftRecipe().target_modules == "all-linear"
