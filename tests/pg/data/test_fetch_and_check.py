"""Files become snapshots, and what breaks a rule is written down and left out."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline import data, database
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import entries, ledgers, snapshots, tombstones
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.settings import ROOT
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg

SECRET = "Ada Lovelace owes 12 EUR"


def test_bad_rows_are_findings_and_the_rest_goes_on(stage: Stage, tmp_path: Path) -> None:
    lines = [json.dumps(question(1)), "{broken", json.dumps(question(1)), json.dumps({"messages": []})]
    (stage.folder / "sft.jsonl").write_text("\n".join([*lines, *(json.dumps(question(n)) for n in range(2, 8))]))
    stage.document("limits")
    stage.document("other", clasification="restricted")
    stage.document("third", classification="secret")
    for n in range(4):
        stage.document(f"sound-{n}", f"Text {n}.")
    told = stage.check()
    assert stage.findings() == [
        ("documents/other.md", 1, "front_matter", "rejected"),
        ("documents/third.md", 1, "classification", "rejected"),
        ("sft.jsonl", 2, "malformed", "rejected"),
        ("sft.jsonl", 3, "duplicate", "rejected"),
        ("sft.jsonl", 4, "wrong_type", "rejected"),
    ]
    facts = told.facts
    assert (facts.rows, facts.accepted, facts.rejected) == (17, 12, 5)
    assert facts.by_rule == {"classification": 1, "duplicate": 1, "front_matter": 1, "malformed": 1, "wrong_type": 1}
    assert facts.examples.accepted == 7
    store = ArtifactStore(stage.settings.artifacts)
    accepted = entries.accepted(ledgers.read(store, told.examples, tmp_path).rows)
    assert accepted["line"].to_pylist() == [1, 5, 6, 7, 8, 9, 10]
    report = json.loads(store.read("check_report", told.report.digest, "report.json"))
    broken = {each["rule"]: each["broken"] for each in report["examples"]["rules"]}
    assert (broken["malformed"], broken["duplicate"], broken["roles"]) == (1, 1, 0)
    assert [(each["name"], each["success"]) for each in report["expectations"]] == [
        ("whole_files", True),
        ("max_rejected", True),
        ("min_examples", True),
        ("min_documents", True),
        ("mean_answer", True),
    ]
    assert report["checked_with"].startswith("great-expectations 1.")


def test_warnings_reject_nothing(stage: Stage) -> None:
    stage.put([question(1, documents=["gone"]), question(2, documents=["old"], more=1), question(3)])
    stage.document("old", "One text.", status="withdrawn")
    stage.document("twin", "One text.")
    told = stage.check()
    assert told.facts.rejected == 0
    assert sorted(stage.findings()) == [
        ("documents/twin.md", 1, "duplicate_text", "warning"),
        ("sft.jsonl", 1, "unknown_document", "warning"),
        ("sft.jsonl", 2, "unknown_keys", "warning"),
        ("sft.jsonl", 2, "withdrawn_document", "warning"),
    ]


def test_a_mostly_malformed_file_stops_and_leaves_its_findings_alone(stage: Stage) -> None:
    (stage.folder / "sft.jsonl").write_text(json.dumps(question(1)) + f'\n{{"{SECRET}"\n{{"{SECRET}"\n')
    with pytest.raises(Refused, match=r"mostly malformed(.|\n)*sft.jsonl(.|\n)*2 bad rows of 3") as refused:
        stage.check()
    assert SECRET not in str(refused.value)
    assert stage.findings() == [
        ("sft.jsonl", 2, "malformed", "rejected"),
        ("sft.jsonl", 3, "malformed", "rejected"),
    ]
    assert stage.rows("select * from catalog.dataset") == []
    (run,) = stage.rows(
        "select r.state from lineage.run r join lineage.job j using (job_id) where j.name = 'data.check'"
    )
    assert run == {"state": "failed"}


def test_a_share_of_bad_rows_that_the_use_case_allows_goes_on(stage: Stage) -> None:
    path = stage.folder / "usecase.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "checks": {"max_rejected": 0.7}}))
    (stage.folder / "sft.jsonl").write_text(json.dumps(question(1)) + "\n{\n{\n")
    assert stage.check().facts.accepted == 1


def test_a_truncated_array_stops_however_few_rows_are_bad(stage: Stage) -> None:
    text = json.dumps([question(n) for n in range(50)], indent=1)
    (stage.folder / "sft.jsonl").write_text(text[: text.rindex("},")])
    with pytest.raises(Refused, match="ends before its rows do"):
        stage.check()


def test_an_empty_file_is_told_of(stage: Stage) -> None:
    stage.put([])
    assert stage.check().facts.rows == 0
    assert stage.findings() == [("sft.jsonl", None, "empty_file", "warning")]


def test_a_file_that_is_missing_is_named(stage: Stage) -> None:
    case = stage.usecase
    (stage.folder / "sft.jsonl").unlink()
    with pytest.raises(NotAvailable, match=r"sft\.jsonl"):
        data.fetch(Context(stage.settings, case, stage.origin))
    with pytest.raises(BadInput, match="no such file"):
        stage.fetch()


def test_nothing_changed_is_answered_by_the_earlier_run(stage: Stage) -> None:
    stage.document("limits")
    first = stage.check()
    assert stage.check().reused
    assert stage.fetch().reused
    stage.document("limits", "The limit is 20 EUR.")
    assert not stage.fetch().reused
    changed = stage.check()
    assert not changed.reused
    assert changed.examples == first.examples
    assert changed.documents != first.documents


@pytest.mark.parametrize("by", ["digest", "content"])
def test_what_was_erased_does_not_come_back(stage: Stage, tmp_path: Path, by: str) -> None:
    stage.put([question(1, subject="p-1", answer=SECRET), question(2)])
    stage.document("limits", f"{SECRET}.")
    told = stage.check()
    store = ArtifactStore(stage.settings.artifacts)
    row = next(snapshots.read_examples(store, told.rows, tmp_path))
    text = snapshots.read_documents(store, told.documents)[0]
    with database.connect(stage.settings, "pipeline") as connection:
        for kind, digests in (
            ("example", [row.digest if by == "digest" else row.content_digest]),
            ("document", [text.digest if by == "digest" else text.text_digest]),
        ):
            where = (stage.settings, connection, "demo", kind, digests, "a person asked")
            assert tombstones.add(*where) == 1  # type: ignore[arg-type]
            assert tombstones.add(*where) == 0  # type: ignore[arg-type]
    fetched = stage.fetch()
    assert not fetched.reused
    told = stage.check()
    assert told.facts.by_rule == {"erased": 2}
    for version in (fetched.documents, fetched.examples, told.report, told.documents, told.examples):
        for name in store.manifest(version.kind, version.digest)["files"]:
            assert SECRET.encode() not in store.read(version.kind, version.digest, name)


def test_no_text_leaves_the_snapshots(stage: Stage) -> None:
    stage.put([question(1, answer=SECRET), {"messages": [{"role": SECRET, "content": SECRET}], SECRET: SECRET}])
    stage.document("limits", SECRET, title="Limits")
    stage.document("bad", SECRET, tenant=f'"{SECRET}"')
    committed = stage.commit()
    card = data.card(Context(stage.settings, stage.usecase, stage.origin), committed)
    assert SECRET not in str([committed, card])
    public = stage.rows(
        "select digest, kind from lineage.artifact_version join lineage.artifact using (artifact_id) where not private"
    )
    store = ArtifactStore(stage.settings.artifacts)
    assert {row["kind"] for row in public} == {"check_report", "dataset", "corpus", "card"}
    for row in public:
        for name in store.manifest(row["kind"], row["digest"])["files"]:
            assert SECRET.encode() not in store.read(row["kind"], row["digest"], name)
    recorded = stage.rows("select facts, params from lineage.run") + stage.rows("select * from catalog.finding")
    assert SECRET not in json.dumps(recorded, default=str)


def test_public_data_in_place(stage: Stage) -> None:
    public = ROOT.parent / "shared" / "data"
    if not public.is_dir():
        pytest.skip(f"the public data is not on this machine: {public}")
    path = stage.folder / "usecase.yaml"
    alpaca = {"path": str(public / "alpaca_en_demo.json"), "kind": "sft", "format": "alpaca", "licence": "CC BY-NC 4.0"}
    pairs = {"path": str(public / "dpo_en_demo.json"), "kind": "preference", "format": "sharegpt"}
    wiki = {"path": str(public / "wiki_demo.txt"), "format": "lines", "licence": "CC BY-SA"}
    keys = {**yaml.safe_load(path.read_text()), "documents": [wiki], "examples": [alpaca, pairs]}
    path.write_text(yaml.safe_dump(keys))
    committed = stage.commit()
    assert committed.dataset.rows == 983 + 208, (
        "beside duplicates, addresses in letters, one name in a wrong encoding, and pairs whose prompt alone has 1,024"
        " of the tiny model's tokens"
    )
    assert committed.corpus.rows == 30
    assert sum(severity != "warning" for *_, severity in stage.findings()) == 999 + 299 - 983 - 208
    assert all(0.05 < committed.dataset.splits[name] / 1191 < 0.15 for name in ("validation", "test"))
    card = data.card(Context(stage.settings, stage.usecase, stage.origin), committed).card
    markdown = ArtifactStore(stage.settings.artifacts).read("card", card.digest, "card.md").decode()
    for expected in (
        "CC BY-NC 4.0",
        "| duplicate | rejects |",
        "### How long they are",
        "| no file ends before its rows do | yes |  |",
        committed.dataset.digest,
        "alpaca_en_demo.json",
    ):
        assert expected in markdown
    assert not stage.commit().dataset.changed
