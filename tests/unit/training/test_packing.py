"""Packs: every row whole in one of them, and none that attends to another."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import models
from pipeline.errors import Refused
from pipeline.settings import ROOT
from pipeline.training import head, packing
from pipeline.training.head import IGNORED
from pipeline.training.rows import Kept

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    return models.load(ROOT / "models" / "tiny", trainable=True)


def row(length: int, start: int) -> dict[str, list[int]]:
    ids = [5 + (start + place) % 2000 for place in range(length)]
    return {"input_ids": ids, "labels": [IGNORED] * (length // 2) + ids[length // 2 :]}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 64), min_size=1, max_size=40))
def test_every_row_is_whole_in_one_pack(lengths: list[int]) -> None:
    rows = [row(length, 100 * number) for number, length in enumerate(lengths)]
    packs = packing.packed(Kept(rows, tokens=sum(lengths)), 64).rows
    unpacked = []
    for pack in packs:
        assert len(pack["input_ids"]) == len(pack["labels"]) == sum(pack["seq_lengths"]) <= 64
        at = 0
        for length in pack["seq_lengths"]:
            unpacked.append({name: pack[name][at : at + length] for name in ("input_ids", "labels")})
            at += length
    assert sorted(unpacked, key=str) == sorted(rows, key=str)


def test_the_loss_of_a_pack_is_that_of_its_rows(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    rows = [row(length, 100 * number) for number, length in enumerate((30, 12, 20, 44))]
    packs = packing.packed(Kept(rows), 64).rows
    batch = packing.collator(tokenizer)([dict(pack) for pack in packs])
    assert "attention_mask" not in batch
    items = sum(label != IGNORED for one in rows for label in one["labels"])
    alone = sum(float(head.loss(model, _single(one), items).detach()) for one in rows)
    assert float(head.loss(model, batch, items).detach()) == pytest.approx(alone, rel=1e-5)


def _single(one: dict[str, list[int]]) -> dict[str, Any]:
    import torch

    ids, labels = torch.tensor([one["input_ids"]]), torch.tensor([one["labels"]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def test_a_model_whose_rows_would_see_each_other_is_refused(loaded: tuple[Any, Any]) -> None:
    model, _ = loaded
    rows = [row(30, 0), row(40, 900)]
    packing.require_apart(model, rows)

    class Leaking:
        """It takes no notice of where a row of a pack begins."""

        device = model.device

        def __call__(self, input_ids: Any, position_ids: Any = None, **options: Any) -> Any:
            return model(input_ids=input_ids, **options)

    with pytest.raises(Refused, match="attend to each other") as refusal:
        packing.require_apart(Leaking(), rows)
    assert "packing: false" in str(refusal.value)
