"""Which passes a training is made in, and what is said of one that fits nowhere."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Refused
from pipeline.settings import ROOT
from pipeline.training import fitting
from pipeline.training.fitting import Lengths, Speed
from pipeline.training.head import IGNORED
from pipeline.training.job import Passes
from pipeline.training.records import Plan
from pipeline.training.rows import Kept
from pipeline.training.tracing import Tracer
from pipeline.usecase import DpoRecipe, SftRecipe, Training

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # PEFT asks for it
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning"),
]
SPEED = Speed(operations=1e11, bytes=5e9, call=5e-6)
LENGTHS = Lengths(longest=1024, scored=200, rows={"train": 100, "validation": 10}, tokens={"train": 60_000})


def config() -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(ROOT / "models" / "tiny")


def training(mib: float | None = None, **sft: Any) -> Training:
    own = {"batch_size": 8, "gradient_accumulation": 2} | sft
    return Training(
        dtype="float32",
        sft=SftRecipe(**own),
        dpo=DpoRecipe(batch_size=4),
        memory_gib=None if mib is None else mib / 1024,
    )


@pytest.fixture(scope="module")
def tracer() -> Tracer:
    return Tracer(config(), training(), "cpu")


def planned(tracer: Tracer, chosen: Training, lengths: Lengths = LENGTHS) -> Plan:
    return fitting.plan(tracer, chosen, "sft", lengths, "cpu", SPEED)


def test_what_fits_is_trained_as_the_recipe_has_it(tracer: Tracer) -> None:
    plan = planned(tracer, training())
    assert (plan.batch_size, plan.gradient_accumulation, plan.gradient_checkpointing) == (8, 2, False)
    assert plan.memory_mib < plan.budget_mib
    assert plan.seconds > 0
    assert plan.trainable == tracer.trainable


@pytest.mark.parametrize("room", [660, 800, 1000])
def test_less_memory_makes_smaller_passes_of_the_same_steps(tracer: Tracer, room: int) -> None:
    plan = planned(tracer, training(room))
    assert plan.batch_size * plan.gradient_accumulation == 16
    assert plan.memory_mib <= room
    assert plan.batch_size < 8 or plan.gradient_checkpointing


def test_activations_are_computed_twice_before_anything_is_refused(tracer: Tracer) -> None:
    one = Lengths(longest=8192, scored=200, rows=LENGTHS.rows, tokens=LENGTHS.tokens)
    kept = planned(tracer, training(20_000), one).memory_mib
    plan = planned(tracer, training(fitting.PROCESS_BYTES / 2**20 + 260), one)
    assert plan.gradient_checkpointing
    assert plan.memory_mib < kept


def test_what_fits_nowhere_is_refused_with_settings_that_do(tracer: Tracer) -> None:
    with pytest.raises(Refused) as refusal:
        planned(tracer, training(fitting.PROCESS_BYTES / 2**20 + 20))
    said = refusal.value
    assert "does not fit into memory" in said.what
    assert "1024 tokens" in str(said.details["found"])
    advice = str(said.details["next"])
    assert "max_length: " in advice
    length = int(advice.split("max_length: ")[1].split(",", maxsplit=1)[0])
    shorter = Lengths(longest=length, scored=50, rows=LENGTHS.rows, tokens=LENGTHS.tokens)
    planned(tracer, training(fitting.PROCESS_BYTES / 2**20 + 20), shorter)  # what it advises is so


def labelled(length: int, *spans: tuple[int, int]) -> dict[str, list[int]]:
    labels = [IGNORED] * length
    for begin, end in spans:
        labels[begin:end] = [7] * (end - begin)
    return {"input_ids": [5] * length, "labels": labels}


def test_a_pass_scores_every_place_that_any_of_its_rows_needs() -> None:
    """As head.loss does: answers that lie apart are scored in all rows of the pass."""
    rows = [labelled(100, (10, 20)), labelled(90, (5, 12), (80, 90)), labelled(30, (28, 30)), labelled(20, (0, 4))]
    lengths = Lengths.of({"train": Kept(rows), "validation": Kept([])})
    assert lengths.scored == 17
    assert lengths.scored_in(1) == 17
    assert lengths.scored_in(2) == 25  # 5 to 20 and 80 to 90, of the two long ones
    assert lengths.scored_in(4) == 4 + 15 + 2 + 10
    pair = {"prompt_ids": [5] * 40, "chosen_ids": [6] * 7, "rejected_ids": [6] * 12}
    assert Lengths.of({"train": Kept([pair]), "validation": Kept([])}).scored_in(1) == 12


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=30), min_size=1, max_size=8))
def test_what_is_covered_is_the_union(rows: list[list[bool]]) -> None:
    spans = [fitting._spans({"labels": [7 if scored else IGNORED for scored in row]}) for row in rows]
    places = {place for row in rows for place, scored in enumerate(row) if scored}
    assert fitting._covered([span for row in spans for span in row]) == len(places)


def test_packs_are_laid_end_to_end(tracer: Tracer) -> None:
    row = {"input_ids": [5] * 512, "labels": [IGNORED] * 412 + [5] * 100}
    kept = {"train": Kept([row] * 4), "validation": Kept([])}
    apart, packed = Lengths.of(kept), Lengths.of(kept, packed=True)  # type: ignore[arg-type]
    assert (apart.longest, apart.scored, apart.tokens["train"]) == (512, 100, 2048)
    passes = Passes(4, 1)
    together, alone = (fitting.cost(tracer, "sft", one, passes, False) for one in (packed, apart))
    assert together.operations > alone.operations  # attention over the whole length
    assert together.passing > alone.passing  # and its mask


def test_more_rows_take_longer(tracer: Tracer) -> None:
    more = Lengths(1024, 200, {"train": 200, "validation": 10}, {"train": 120_000})
    assert planned(tracer, training(), more).seconds > 1.7 * planned(tracer, training()).seconds


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    whole = fitting.machine_bytes([limit])
    limit.write_text("max\n")
    assert fitting.machine_bytes([limit]) == whole
    limit.write_text("1073741824\n")
    assert fitting.machine_bytes([limit]) == 1 << 30


def test_a_plan_is_said_in_numbers(tracer: Tracer) -> None:
    line = fitting.described(planned(tracer, training()))
    for part in ("8 rows in a pass", "2 passes to a step", "GiB", "163,840 trained parameters", "11.62%"):
        assert part in line


def test_speed_is_measured() -> None:
    speed = fitting.speed(config(), training(), "cpu")
    assert speed.operations > 1e8
    assert speed.bytes > 1e7
    assert 0 < speed.call < 0.01
