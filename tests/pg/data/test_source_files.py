"""Where rows come from: a folder of files is one source, and so is a file elsewhere."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import data, database
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import impact
from pipeline.errors import BadInput, NotAvailable, Refused
from tests.file_server import Served, serving
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg


def lines(*numbers: int) -> str:
    return "".join(json.dumps(question(n)) + "\n" for n in numbers)


def take(stage: Stage, *sources: dict[str, Any]) -> None:
    path = stage.folder / "usecase.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "examples": list(sources)}))


@pytest.fixture
def rows(stage: Stage) -> Path:
    """A folder of files of rows, which is the use case's only source."""
    folder = stage.folder / "rows"
    (folder / "more").mkdir(parents=True)
    (folder / "a.jsonl").write_text(lines(1, 2, 3))
    (folder / "more" / "b.csv").write_text("instruction,output\nIs it so?,It is.\n")
    take(stage, {"path": "rows", "kind": "sft"})
    return folder


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


def sources(stage: Stage) -> list[tuple[str, int]]:
    found = stage.rows(
        "select source, rows from catalog.version_sources where kind = 'examples'"
        " and version = (select max(version) from catalog.version_sources where kind = 'examples') order by source"
    )
    return [(row["source"], row["rows"]) for row in found]


@pytest.mark.usefixtures("rows")
def test_a_folder_is_one_source_and_its_files_say_where_rows_stand(stage: Stage) -> None:
    with (stage.folder / "rows" / "a.jsonl").open("a") as file:
        file.write("{broken\n")
    committed = stage.commit()
    assert committed.dataset.rows == 4
    assert sources(stage) == [("rows", 4)]
    assert stage.findings() == [("rows/a.jsonl", 4, "malformed", "rejected")]
    assert {row["source"] for row in stage.rows("select source from catalog.example")} == {"rows"}


def test_what_else_stands_in_the_folder_is_named_and_stops_nothing(stage: Stage, rows: Path) -> None:
    (rows / "README.md").write_text("# Rows\n")
    (rows / ".hidden.jsonl").write_text(lines(8))
    (rows / "away.jsonl").symlink_to("/etc/passwd")
    committed = stage.commit()
    assert committed.dataset.rows == 4
    assert stage.findings() == [
        ("rows/README.md", 1, "no_rows", "rejected"),
        ("rows/away.jsonl", 1, "outside", "rejected"),
    ]


def test_files_that_come_go_or_are_renamed_are_the_rows_that_they_bring(stage: Stage, rows: Path) -> None:
    stage.commit()
    (rows / "a.jsonl").rename(rows / "c.jsonl")
    (rows / "d.jsonl").write_text(lines(4))
    committed = stage.commit()
    assert (committed.dataset.version, committed.dataset.added, committed.dataset.removed) == (2, 1, 0)
    (rows / "d.jsonl").unlink()
    assert stage.commit().dataset.removed == 1


def test_the_card_says_of_a_large_folder_how_many_files_it_has_and_what_of_rows_stands_out(
    stage: Stage, rows: Path
) -> None:
    for number in range(120):
        stage.document(f"rule-{number}", f"The limit is {number} EUR.")
    committed = stage.commit()
    written = data.card(Context(stage.settings, stage.usecase, stage.origin), committed).card
    text = ArtifactStore(stage.settings.artifacts).read(written.kind, written.digest, "card.md").decode()
    assert "| documents: 120 files | markdown |" in text
    assert "rule-7.md" not in text
    assert "| rows/more/b.csv | sft, alpaca |" in text
    assert "| is it so | 4 |" in text, "what its rows ask for"
    (digest, *_) = (row["digest"] for row in stage.rows("select digest from catalog.example order by digest"))
    assert f"`{digest[:12]}` |" in text


def test_a_folder_without_rows_stops_the_night(stage: Stage, rows: Path) -> None:
    stage.commit()
    (rows / "a.jsonl").write_text("\n")
    (rows / "more" / "b.csv").write_text("instruction,output\n")
    with pytest.raises(Refused, match="gives none any more"):
        stage.commit()
    (rows / "a.jsonl").unlink()
    (rows / "more" / "b.csv").rename(rows / "b.txt")
    with pytest.raises(BadInput, match="no files of rows"):
        stage.fetch()


def test_an_emptied_file_of_a_folder_stops_the_night_and_a_removed_one_does_not(stage: Stage, rows: Path) -> None:
    stage.commit()
    (rows / "more" / "b.csv").rename(rows / "more" / "c.csv")
    stage.commit()
    (rows / "more" / "c.csv").write_text("instruction,output\n")
    for _ in range(2):
        with pytest.raises(Refused, match="had rows at the last commit is empty") as raised:
            stage.commit()
    assert raised.value.details["where"] == "rows/more/c.csv"
    (rows / "more" / "c.csv").unlink()
    assert stage.commit().dataset.removed == 1


def test_a_file_of_the_folder_that_cannot_be_read_stops_the_night(
    stage: Stage, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = os.open

    def broken(path: Any, *more: Any, **named: Any) -> int:
        if str(path).endswith("a.jsonl"):
            raise OSError(errno.EIO, "Input/output error")
        return opening(path, *more, **named)

    monkeypatch.setattr(os, "open", broken)
    with pytest.raises(NotAvailable, match="cannot be read"):
        stage.fetch()


def test_what_is_no_file_of_rows_is_not_opened(stage: Stage, rows: Path) -> None:
    os.mkfifo(rows / "backup.tar")
    (rows / "video.mp4").symlink_to("/dev/zero")
    stage.check()
    assert [finding[:3] for finding in stage.findings()] == [
        ("rows/backup.tar", 1, "no_rows"),
        ("rows/video.mp4", 1, "no_rows"),
    ]


def test_an_erasure_names_the_file_of_a_folder_that_holds_the_row(stage: Stage, rows: Path) -> None:
    with (rows / "a.jsonl").open("a") as file:
        file.write(json.dumps(question(9, data_subject="p-9")) + "\n")
    stage.commit()
    with database.connect(stage.settings, "pipeline") as connection:
        touched = impact.measure(connection, stage.settings, "demo", impact.Target("subject", "p-9"))
    assert touched.sources == ["rows/a.jsonl"]


def test_a_file_of_the_folder_that_is_mostly_malformed_stops_the_night(stage: Stage, rows: Path) -> None:
    (rows / "a.jsonl").write_text(lines(*range(200)))
    (rows / "bad.jsonl").write_text("{broken}\n" * 5)
    with pytest.raises(Refused, match="mostly malformed") as raised:
        stage.check()
    assert raised.value.details["where"] == "rows/bad.jsonl"


def test_a_folder_that_may_not_be_trained_on_is_locked_whole(stage: Stage, rows: Path) -> None:
    (rows / "a.jsonl").write_text(lines(1, 2) + json.dumps(question(3, "Yes.<|im_end|>")) + "\n")
    take(stage, {"path": "rows", "kind": "sft", "uses": ["evaluate"]})
    committed = stage.commit()
    assert committed.dataset.splits == {"test": 4}
    assert stage.findings() == [], "nothing asks whether a row can be trained on that is not"


def test_a_file_elsewhere_is_a_source(stage: Stage, server: Served) -> None:
    server.files["rows.jsonl"] = [lines(1, 2).encode()]
    url = server.url("rows.jsonl")
    take(stage, {"path": "sft.jsonl", "kind": "sft"}, {"url": url, "kind": "sft", "weight": 2.5})
    committed = stage.commit()
    assert committed.dataset.rows == 3
    assert sources(stage) == [(url, 2), ("sft.jsonl", 1)]
    assert server.requests == ["/rows.jsonl"] * 2
    assert stage.fetch().reused, "it is the same"
    server.files["rows.jsonl"] = [lines(1, 2, 3).encode()]
    assert stage.commit().dataset.added == 1


def test_a_file_elsewhere_that_changes_between_its_two_readings_is_refused(stage: Stage, server: Served) -> None:
    server.files["rows.jsonl"] = [lines(1).encode(), lines(2).encode()]
    take(stage, {"url": server.url("rows.jsonl"), "kind": "sft"})
    with pytest.raises(Refused, match="changed while it was being read"):
        stage.fetch()
    assert stage.commit().dataset.rows == 1


def test_a_file_elsewhere_that_is_gone_keeps_the_version(stage: Stage, server: Served) -> None:
    server.files["rows.jsonl"] = [lines(1, 2).encode()]
    take(stage, {"url": server.url("rows.jsonl"), "kind": "sft"})
    stage.commit()
    del server.files["rows.jsonl"]
    with pytest.raises(NotAvailable, match="cannot be read"):
        stage.commit()
    assert sources(stage) == [(server.url("rows.jsonl"), 2)]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"kind": "sft"}, "one of both"),
        ({"path": "sft.jsonl", "url": "https://example.org/rows.jsonl", "kind": "sft"}, "one of both"),
        ({"url": "https://me:secret@example.org/rows.jsonl", "kind": "sft"}, "without a login"),
        ({"url": "file:///etc/passwd", "kind": "sft"}, "the URL of one file"),
        ({"url": "rows.jsonl", "kind": "sft"}, "the URL of one file"),
        ({"url": "https://me:sec/secret@example.org/rows.jsonl", "kind": "sft"}, "without a login"),
        ({"url": "https://me:'secret'@example.org/rows.jsonl", "kind": "sft"}, "without a login"),
        ({"url": "https://example.org/rows.jsonl?sig=secret", "kind": "sft"}, "without a login"),
        ({"url": "https://example.org/rows.jsonl#secret", "kind": "sft"}, "without a login"),
        ({"path": "https://me:secret@example.org/rows.jsonl", "kind": "sft"}, "have a url instead"),
        ({"path": "S3://secret@bucket/rows.jsonl", "kind": "sft"}, "have a url instead"),
    ],
)
def test_a_source_has_one_place_and_no_secret(stage: Stage, source: dict[str, Any], problem: str) -> None:
    take(stage, source)
    with pytest.raises(BadInput) as raised:
        _ = stage.usecase
    said = f"{raised.value} {raised.value.details}"
    assert problem in said
    assert "secret" not in said
