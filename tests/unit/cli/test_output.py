"""What a person is shown: records as a table where one fits, as blocks where it does not; a graph a line each."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.cli.history import lines
from pipeline.cli.output import show
from pipeline.settings import ROOT

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


def test_a_fault_of_ours_ends_with_70_and_a_report_without_words(tmp_path: Path) -> None:
    """1 means that the answer is no; a crash is no answer."""
    code = (
        "import sys, typer; from pipeline.cli import output; app = typer.Typer();"
        "exec('@app.command()\\ndef crash(word: str):\\n    raise ValueError(\"the secret \" + word)');"
        "output.run(app)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "hunter2!"], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 70
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "a fault of Nightshift itself: ValueError" in done.stderr
    (report,) = tmp_path.glob("nightshift-fault-*.txt")
    assert str(report) in done.stderr
    assert "error: ValueError" in report.read_text()
    assert " crash" in report.read_text()
    for word in ("secret", "hunter2"):
        assert word not in report.read_text() + done.stderr
    assert report.stat().st_mode & 0o077 == 0


def test_the_version_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "--version"], capture_output=True, text=True, check=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == f"nightshift {version('nightshift')}\n"
