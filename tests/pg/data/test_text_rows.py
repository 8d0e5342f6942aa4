"""Plain texts through the data stage: read, checked, split, committed, erased with the document they name."""

from collections import Counter
from typing import Any

import pytest
import yaml

from pipeline.data import splits
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg


def with_texts(stage: Stage, *sources: dict[str, Any]) -> None:
    path = stage.folder / "usecase.yaml"
    keys = yaml.safe_load(path.read_text())
    keys["examples"] += [{"kind": "text", **source} for source in sources]
    path.write_text(yaml.safe_dump(keys))


def texts(count: int) -> list[dict[str, Any]]:
    return [{"text": f"The branch keeps file number {n} of a closed account for {n} years."} for n in range(count)]


def test_texts_are_committed_as_rows_of_their_kind(stage: Stage) -> None:
    stage.put([question(n) for n in range(20)])
    stage.put([*texts(30), texts(1)[0], {"text": "   "}, {"content": "a text by another name"}], "texts.jsonl")
    (stage.folder / "lines.txt").write_text("Vaults are opened by two persons.\n\nA vault has one log.\n")
    with_texts(stage, {"path": "texts.jsonl"}, {"path": "lines.txt"})
    committed = stage.commit()
    assert committed.dataset.changed
    rows = stage.rows(
        "select kind, split from catalog.example union all select kind, split from catalog.locked_example"
    )
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["text"] == 32
    assert {row["split"] for row in rows if row["kind"] == "text"} <= set(splits.SPLITS)
    findings = [(file, line, rule) for file, line, rule, _ in stage.findings() if "texts" in file]
    assert ("texts.jsonl", 31, "duplicate") in findings
    assert ("texts.jsonl", 32, "empty_answer") in findings
    assert ("texts.jsonl", 33, "missing_field") in findings
    assert len({line for _, line, _ in findings}) == 3

    again = stage.commit()
    assert not again.dataset.changed


def test_a_text_that_is_switched_off_is_committed_and_not_measured(stage: Stage) -> None:
    stage.put(texts(4), "texts.jsonl")
    with_texts(stage, {"path": "texts.jsonl"})
    path = stage.folder / "usecase.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"training": {"pretrain": {"enabled": False}}}))
    stage.commit()
    (row,) = stage.rows(
        "select count(*) as texts from catalog.example_member m join (select digest, kind from catalog.example"
        " union all select digest, kind from catalog.locked_example) e on e.digest = m.example_digest"
        " where e.kind = 'text'"
    )
    assert row["texts"] == 4
