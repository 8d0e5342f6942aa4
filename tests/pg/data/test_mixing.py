"""How often rows are trained on, from the use case's file to the rows that a training reads."""

from collections import Counter
from typing import Any

import pytest
import yaml

from pipeline import data, database
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.errors import BadInput
from pipeline.training import mixing, rows
from pipeline.training.mixing import Mix
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg


def weigh(stage: Stage, **weights: float) -> None:
    """Makes files of examples with these weights the use case's."""
    path = stage.folder / "usecase.yaml"
    examples: list[dict[str, Any]] = [
        {"path": f"{name}.jsonl", "kind": "sft", "weight": weight} for name, weight in weights.items()
    ]
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "examples": examples}))


def test_rows_are_trained_on_as_often_as_their_source_says(stage: Stage) -> None:
    stage.put([question(n, "Of the one file.") for n in range(40)], "one.jsonl")
    stage.put([question(n, "Of the other file.") for n in range(100, 140)], "other.jsonl")
    weigh(stage, one=2.5, other=1)
    first = stage.commit()
    with database.connect(stage.settings, "trainer") as connection:
        weights = mixing.weights(connection, "demo", first.dataset.version)
        assert weights == {"one.jsonl": 2.5}
        plain = rows.read(connection, first.dataset.artifact, "sft")
        mixed = rows.read(connection, first.dataset.artifact, "sft", Mix(weights, 7))
    assert mixed["validation"] == plain["validation"]
    times = Counter(str(content) for content in mixed["train"])
    assert {str(content) for content in plain["train"]} == times.keys()
    assert {count for content, count in times.items() if "other" in content} == {1}
    assert {count for content, count in times.items() if "one file" in content} == {2, 3}
    card = data.card(Context(stage.settings, stage.usecase, stage.origin), first).card
    markdown = ArtifactStore(stage.settings.artifacts).read("card", card.digest, "card.md").decode()
    assert "| one.jsonl | sft | train, evaluate | 2.5 times |" in markdown


def test_another_weight_is_another_version_and_the_old_one_keeps_its_own(stage: Stage) -> None:
    stage.put([question(n) for n in range(20)], "one.jsonl")
    weigh(stage, one=2)
    assert stage.commit().dataset.version == 1
    weigh(stage, one=3)
    second = stage.commit().dataset
    assert (second.version, second.changed, second.added) == (2, True, 0)
    with database.connect(stage.settings, "trainer") as connection:
        assert [mixing.weights(connection, "demo", number) for number in (1, 2)] == [
            {"one.jsonl": 2.0},
            {"one.jsonl": 3.0},
        ]


@pytest.mark.parametrize("weight", [0, -1, 1000])
def test_a_weight_that_means_nothing_is_refused(stage: Stage, weight: float) -> None:
    stage.put([question(1)], "one.jsonl")
    weigh(stage, one=weight)
    with pytest.raises(BadInput, match="weight"):
        stage.commit()
