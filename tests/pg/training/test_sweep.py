"""`nightshift train --sweep`: every try on record, validation chooses, and nothing of it becomes the candidate."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline import database, steps, training
from pipeline.context import Context
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.settings import Settings
from pipeline.steps import Origin, Version
from pipeline.training.sweep import _grid
from pipeline.usecase import UseCase

pytestmark = pytest.mark.pg

MakeCase = Callable[..., UseCase]
Commit = Callable[..., Version]
PRICED = {"price": {"hour": 3.6, "currency": "CHF"}}


@pytest.fixture
def context(settings: Settings, origin: Origin, usecase: MakeCase) -> Context:
    return Context(settings, usecase(**PRICED), origin)


def adapters(settings: Settings) -> dict[str, Any]:
    with database.connect(settings, "pipeline") as connection:
        return {name: steps.latest(connection, "demo", "adapter", name) for name in ("trial", "sft", "candidate")}


def test_each_value_is_tried_and_validation_chooses(settings: Settings, context: Context, commit: Commit) -> None:
    commit(40, 20)
    swept = training.sweep(context, ["sft.learning_rate=1e-6,5e-3"])
    assert (swept.method, swept.chosen_by, len(swept.tries)) == ("sft", "validation loss", 2)
    losses = [one.eval_loss for one in swept.tries]
    assert losses == sorted(losses)  # type: ignore[type-var]
    assert swept.best == swept.tries[0].settings
    assert swept.best["learning_rate"] == 5e-3  # what learns beats what does not
    for one in swept.tries:
        assert one.run is not None
        assert one.cost is not None
        assert one.seconds is not None
        assert one.cost.currency == "CHF"
        assert one.cost.amount == pytest.approx(3.6 * one.seconds / 3600, abs=2e-4)
    with database.connect(settings, "reader") as connection:
        runs = connection.execute(
            "select h.run_id from lineage.run_history h join lineage.training_curve c using (run_id)"
            " where h.job = 'training.sft' and h.state = 'succeeded' group by 1"
        ).fetchall()
    assert {row["run_id"] for row in runs} == {one.run for one in swept.tries}
    known = adapters(settings)
    assert known["trial"] is not None
    assert (known["sft"], known["candidate"]) == (None, None)

    again = training.sweep(context, ["sft.learning_rate=1e-6,5e-3"])
    assert all(one.reused for one in again.tries)


def test_preference_tuning_is_chosen_by_accuracy_where_losses_do_not_compare(
    settings: Settings, context: Context, commit: Commit
) -> None:
    commit(40, 20)
    swept = training.sweep(context, ["dpo.loss=dpo,orpo"])
    assert (swept.method, swept.chosen_by, len(swept.tries)) == ("dpo", "validation accuracy", 2)
    accuracies = [one.eval_accuracy for one in swept.tries]
    assert all(accuracy is not None and 0 <= accuracy <= 1 for accuracy in accuracies)
    assert accuracies == sorted(accuracies, reverse=True)  # type: ignore[type-var]
    known = adapters(settings)
    assert known["sft"] is not None  # what it went on from
    assert known["candidate"] is None


def test_a_try_that_fails_is_one_of_the_tries(context: Context, commit: Commit) -> None:
    commit(40)
    swept = training.sweep(context, ["sft.target_modules=all-linear,[no_such_layer]"])
    assert [one.failed is None for one in swept.tries] == [True, False]
    assert "no layer of the model is called so" in str(swept.tries[1].failed)
    assert json.dumps(list(swept.best.values())) == '["all-linear"]'
    with pytest.raises(NotAvailable, match="every try of the sweep failed"):
        training.sweep(context, ["sft.target_modules=[no_such_layer]"])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["sft.rank=4"], "a sweep names a setting"),
        (["lora_rank=4"], "a sweep names a setting"),
        (["sft.lora_rank"], "a sweep names a setting"),
        (["sft.seed=1,2"], "a sweep names a setting"),
        (["retrieval.k=1,2"], "a sweep names a setting"),
        (["sft.lora_rank=0"], "a value is not allowed"),
        (["sft.lora_rank=four"], "a value is not allowed"),
        (["dpo.loss=kto"], "a value is not allowed"),
        (["sft.lora_rank=4", "dpo.beta=0.1"], "a sweep is of one method"),
        (["sft.lora_rank=" + ",".join(map(str, range(1, 67)))], "too many tries"),
        (["sft.lora_rank=[4"], "a sweep's value is not read"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_trained(
    context: Context, wanted: list[str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):  # there is no dataset version even
        training.sweep(context, wanted)


def test_each_value_goes_with_each(context: Context) -> None:
    method, grid = _grid(context.usecase, ["sft.lora_rank=4,8", "sft.learning_rate=1e-4,5e-4", "sft.lora_rank=16"])
    assert method == "sft"
    assert len(grid) == 6
    assert {tuple(settings.items()) for settings in grid} == {
        (("lora_rank", rank), ("learning_rate", rate)) for rank in (4, 8, 16) for rate in (1e-4, 5e-4)
    }


def test_without_validation_rows_nothing_can_choose(context: Context, commit: Commit) -> None:
    commit(8, locked=0)  # all in train
    with pytest.raises(Refused, match="no validation rows to choose by"):
        training.sweep(context, ["sft.lora_rank=2,4"])
    with pytest.raises(Refused, match="no validation rows to choose by"):
        training.sweep(context, ["dpo.beta=0.1,0.2"])
