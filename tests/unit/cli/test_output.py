"""What a person is shown: records as a table where one fits, as blocks where it does not; a graph a line each."""

import pytest

from pipeline.cli.output import show
from pipeline.cli.records import lines

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_narrow_records_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    show({"rows": [{"document": "leave", "score": 0.25}, {"document": "notice", "score": None}]})
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["document", "score"] in told
    assert ["leave", "0.25"] in told
    assert ["notice", "-"] in told


def test_wide_records_are_blocks_and_no_value_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    row = {f"a_long_name_{place}": f"a value of its own {place}" for place in range(9)}
    show({"rows": [row, row]})
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "rows:"
    assert told[1].strip() == "1:"
    assert told.count("    a_long_name_8: a value of its own 8") == 2


def test_a_graph_is_an_artifact_a_line_the_root_first() -> None:
    made = {"job": "training.sft", "login": "trainer", "requested_by": "engineer", "started_at": "2026-11-01T02:03:04"}
    dataset = {"version_id": 7, "kind": "dataset", "name": "examples", "digest": "d" * 64, **made, "job": None}
    adapter = {"version_id": 9, "kind": "adapter", "name": "sft", "digest": "a" * 64, **made}
    graph = {
        "root": adapter,
        "roots": [9],
        "direction": "up",
        "nodes": [dataset, adapter],
        "edges": [{"source": 7, "target": 9, "run_id": "x"}],
    }
    assert lines(graph)["artifacts"] == [
        f"   9  adapter sft {'a' * 12}: training.sft as trainer for engineer, 2026-11-01 02:03, out of 7",
        f"   7  dataset examples {'d' * 12}: -",
    ]
    assert lines({**graph, "direction": "down"})["artifacts"][0].startswith("   7  dataset")
