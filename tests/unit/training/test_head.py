"""The loss over supervised positions against the one over all of them."""

from typing import Any

import pytest

from pipeline import models
from pipeline.settings import ROOT
from pipeline.training import head
from pipeline.training.head import IGNORED

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def model() -> Any:
    return models.load(ROOT / "models" / "tiny", trainable=True)[0]


def batch(*rows: tuple[int, list[tuple[int, int]]]) -> dict[str, Any]:
    """Rows of so many tokens, supervised in these spans, padded on the right."""
    import torch

    torch.manual_seed(5)
    width = max(length for length, _ in rows)
    ids = torch.randint(5, 3000, (len(rows), width))
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for place, (length, spans) in enumerate(rows):
        mask[place, :length] = 1
        for begin, end in spans:
            labels[place, begin:end] = ids[place, begin:end]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


BATCHES = [
    batch((30, [(20, 30)])),
    batch((30, [(5, 9), (20, 30)])),
    batch((30, [(20, 30)]), (12, [(9, 12)]), (24, [(3, 5), (23, 24)])),
    batch((2, [(1, 2)])),
]


@pytest.mark.parametrize("inputs", BATCHES, ids=range(len(BATCHES)))
@pytest.mark.parametrize("items", [None, 57])
def test_it_is_the_loss_of_the_model_itself_and_its_gradient(model: Any, inputs: dict[str, Any], items: Any) -> None:
    import torch

    weight = model.get_output_embeddings().weight

    def gradient(value: Any) -> Any:
        model.zero_grad()
        value.backward()
        return weight.grad.clone()

    ours = head.loss(model, inputs, items)
    whole = model(**inputs, **({} if items is None else {"num_items_in_batch": torch.tensor(items)})).loss
    assert float(ours.detach()) == pytest.approx(float(whole.detach()), rel=1e-5)
    one, other = gradient(ours), gradient(whole)
    assert float((one - other).norm() / other.norm()) < 1e-4


def test_only_the_supervised_positions_are_scored(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = []
    layer = model.get_output_embeddings()
    forward = layer.forward

    def counted(hidden: Any) -> Any:
        scored.append(hidden.shape[1])
        return forward(hidden)

    monkeypatch.setattr(layer, "forward", counted)
    head.loss(model, BATCHES[1])
    assert scored == [14]


def test_a_batch_without_a_supervised_token_costs_nothing(model: Any) -> None:
    inputs = batch((10, []))
    assert float(head.loss(model, inputs).detach()) == 0.0


def test_it_knows_what_it_can_ask_for(model: Any) -> None:
    class Plain:
        def forward(self, input_ids: Any) -> Any: ...

    assert head.keeps_logits(model)
    assert not head.keeps_logits(Plain())
