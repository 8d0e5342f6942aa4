"""The reference's values: what they are addressed by, and that a value depends on its own pair alone."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import models
from pipeline.settings import ROOT
from pipeline.training import reference

pytestmark = pytest.mark.unit

IDS = st.lists(st.integers(5, 2000), min_size=2, max_size=12)
PAIRS = st.fixed_dictionaries({"prompt_ids": IDS, "chosen_ids": IDS, "rejected_ids": IDS})
ADDRESSED = {"adapter": "ab" * 32, "base": "cd" * 32, "dtype": "float32"}


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    return models.load(ROOT / "models" / "tiny")


def values(loaded: tuple[Any, Any], pairs: list[dict[str, list[int]]], known: reference.Values) -> reference.Values:
    keys = [reference.key(pair, ADDRESSED) for pair in pairs]
    return reference.complete(*loaded, pairs, keys, known, "cpu")


@given(PAIRS, st.sampled_from(sorted(ADDRESSED)))
def test_a_value_is_addressed_by_all_that_it_depends_on(pair: dict[str, list[int]], part: str) -> None:
    own = reference.key(pair, ADDRESSED)
    assert own == reference.key(dict(reversed(pair.items())), dict(reversed(ADDRESSED.items())))
    assert own != reference.key(pair, {**ADDRESSED, part: "another"})
    for side, ids in pair.items():
        assert own != reference.key({**pair, side: [*ids, 7]}, ADDRESSED)
    moved = {**pair, "prompt_ids": pair["prompt_ids"][:-1], "chosen_ids": [pair["prompt_ids"][-1], *pair["chosen_ids"]]}
    assert own != reference.key(moved, ADDRESSED), "where the answer begins counts"


@settings(max_examples=15, deadline=None)
@given(st.lists(PAIRS, min_size=1, max_size=5))
def test_a_value_is_the_models_and_does_not_depend_on_the_other_pairs(
    loaded: tuple[Any, Any], pairs: list[dict[str, list[int]]]
) -> None:
    import torch

    together = values(loaded, pairs, {})
    for pair in pairs:
        name = reference.key(pair, ADDRESSED)
        assert values(loaded, [pair], {})[name] == together[name]
        for side, own in zip(("chosen_ids", "rejected_ids"), together[name], strict=True):
            ids = torch.tensor([pair["prompt_ids"] + pair[side]])
            with torch.no_grad():
                scores = torch.log_softmax(loaded[0](input_ids=ids).logits.float(), dim=-1)[0]
            begin = len(pair["prompt_ids"])
            expected = sum(float(scores[at - 1, ids[0, at]]) for at in range(begin, ids.shape[1]))
            assert own == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_what_is_known_is_not_asked_again(loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [{"prompt_ids": [9, 8, 7], "chosen_ids": [6, n], "rejected_ids": [5, n]} for n in range(10, 14)]
    known = values(loaded, pairs[:3], {})
    asked: list[int] = []
    collate = reference.collate

    def counted(own: Any, *rest: Any) -> Any:
        asked.append(len(own))
        return collate(own, *rest)

    monkeypatch.setattr(reference, "collate", counted)
    both = values(loaded, pairs, known | {"of another adapter": (0.0, 0.0)})
    assert asked == [1]
    assert len(both) == 4, "what no pair needs is not carried on"
    assert {name: both[name] for name in known} == known
