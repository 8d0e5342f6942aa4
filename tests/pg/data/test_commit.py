"""The data stage from files to versions, against a real database."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import data, database, usecase
from pipeline.lineage import Origin
from pipeline.settings import Settings
from pipeline.usecase import UseCase

pytestmark = pytest.mark.pg

Folder = Callable[..., Path]


def question(n: int, answer: str = "Yes, by all means.", **more: Any) -> dict[str, Any]:
    """Returns an example that no other number has."""
    asked = {"role": "user", "content": f"Is it allowed in case {n}?"}
    return {"messages": [asked, {"role": "assistant", "content": answer}], **more}


def put(folder: Path, rows: list[dict[str, Any]], file: str = "sft.jsonl") -> None:
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))


def document(folder: Path, key: str, body: str = "The limit is 10 EUR.", **fields: str) -> None:
    front = "".join(f"{name}: {value}\n" for name, value in {"id": key, **fields}.items())
    (folder / "documents" / f"{key}.md").write_text(f"---\n{front}---\n{body}\n")


def run(settings: Settings, case: UseCase, origin: Origin) -> dict[str, Any]:
    """Runs the stage and returns what the commit told."""
    fetched = data.fetch(settings, case, origin)
    checked = data.check(settings, case, origin, fetched)
    committed = data.commit(settings, case, origin, checked)
    data.card(settings, case, origin, committed)
    return committed


def rows(settings: Settings, statement: str) -> list[dict[str, Any]]:
    with database.connect(settings, "pipeline") as connection:
        return connection.execute(statement.encode()).fetchall()


def test_from_files_to_a_version(settings: Settings, origin: Origin, usecase_folder: Folder) -> None:
    folder = usecase_folder()
    put(folder, [question(n) for n in range(50)])
    document(folder, "limits")
    case = usecase.find(settings, "demo")
    told = run(settings, case, origin)
    assert told["dataset"]["version"] == told["corpus"]["version"] == 1
    assert told["dataset"]["changed"]
    assert told["dataset"]["rows"] == told["dataset"]["added"] == 50
    assert sum(told["dataset"]["splits"].values()) == 50
    assert told["corpus"]["splits"] == {"approved": 1}
    splits = rows(settings, "select split, count(*) from catalog.example group by split order by split")
    locked = rows(settings, "select count(*) from catalog.locked_example")
    assert {row["split"]: row["count"] for row in splits} | {"test": locked[0]["count"]} == told["dataset"]["splits"]


def test_a_second_run_changes_nothing_and_is_reused(settings: Settings, origin: Origin, usecase_folder: Folder) -> None:
    put(usecase_folder(), [question(1)])
    case = usecase.find(settings, "demo")
    run(settings, case, origin)
    fetched = data.fetch(settings, case, origin)
    checked = data.check(settings, case, origin, fetched)
    second = data.commit(settings, case, origin, checked)
    third = data.commit(settings, case, origin, checked)
    assert fetched["reused"]
    assert checked["reused"]
    assert not second["dataset"]["changed"]
    assert third["reused"]
    assert third["dataset"] == second["dataset"]
