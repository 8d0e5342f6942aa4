"""Commits: versions as intervals, splits for good, withdrawals at once, one after another."""

import json
import random
import threading
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import yaml

from pipeline import canonical, data, database
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import additions, catalog, commits, ledgers, membership, splits, withdrawals
from pipeline.errors import BadInput, Refused
from pipeline.operations import cookbook
from pipeline.steps import Origin, Version
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg


def test_from_files_to_a_version(stage: Stage) -> None:
    stage.put([question(n, subject="p-1", documents=["limits"]) for n in range(50)])
    stage.document("limits", groups="[staff, risk]", fresh_until="2030-01-01")
    told = stage.commit()
    dataset = told.dataset
    assert (dataset.version, dataset.changed, dataset.rows, dataset.added, dataset.removed) == (
        1,
        True,
        50,
        50,
        0,
    )
    assert told.corpus.splits == {"approved": 1}
    assert dataset.artifact.kind == "dataset"
    assert told.corpus.artifact.kind == "corpus"
    kept = stage.rows("select split, subject, documents, content from catalog.example")
    locked = stage.rows("select split, subject, documents, content from catalog.locked_example")
    assert membership.counts(row["split"] for row in kept + locked) == dataset.splits
    assert kept[0]["content"]["messages"][0]["role"] == "user"
    assert {(row["subject"], *row["documents"]) for row in kept + locked} == {("p-1", "limits")}
    (version,) = stage.rows("select * from catalog.document_version")
    assert (version["title"], version["groups"], version["body"]) == (
        "limits",
        ["staff", "risk"],
        "The limit is 10 EUR.",
    )


def test_the_trainer_cannot_read_test_rows(stage: Stage) -> None:
    stage.put([question(n) for n in range(50)])
    stage.commit()
    with database.connect(stage.settings, "trainer") as connection:
        assert connection.execute("select count(*) as n from catalog.example").fetchall()[0]["n"] > 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from catalog.locked_example")


def test_nothing_new_is_no_new_version(stage: Stage) -> None:
    first = stage.commit()
    second, third = stage.commit(), stage.commit()
    assert (first.dataset.changed, second.dataset.changed) == (True, False)
    assert not second.corpus.changed
    assert third.reused
    assert third.dataset == second.dataset
    assert second.dataset.artifact == first.dataset.artifact
    assert len(stage.rows("select * from catalog.dataset_version")) == 2


def test_rows_that_come_back_make_a_third_version(stage: Stage) -> None:
    told = []
    for answer in ("Yes.", "No.", "Yes."):
        stage.put([question(1, answer), question(2)])
        stage.document("limits", answer)
        told.append(stage.commit())
    for role in ("dataset", "corpus"):
        assert [getattr(each, role).version for each in told] == [1, 2, 3]
        assert [getattr(each, role).changed for each in told] == [True] * 3
        assert getattr(told[0], role).digest == getattr(told[2], role).digest != getattr(told[1], role).digest
        assert getattr(told[0], role).artifact == getattr(told[2], role).artifact
    assert (told[2].dataset.added, told[2].dataset.removed) == (1, 1)


def test_every_past_version_can_be_told_from_the_intervals(stage: Stage) -> None:
    dice = random.Random(7)
    history: list[dict[str, str]] = [{}]
    case, artifact = stage.usecase, stage.commit()
    outputs = {role: getattr(artifact, role).artifact.version_id for role in ("dataset", "corpus")}
    history.append(_members(stage, 1))
    for number in range(2, 8):
        rows = {f"{n:064x}": dice.choice(["train", "validation", "test"]) for n in range(12) if dice.random() < 0.6}
        _record(stage, number, membership.change(history[-1], rows), rows, outputs["dataset"])
        history.append(rows)
    for number, rows in enumerate(history):
        assert _members(stage, number) == rows
    for before in range(len(history)):
        for after in range(len(history)):
            told = data.diff(stage.settings, case, before, after)
            difference = membership.Change(dict(told.changes.added), dict(told.changes.removed))
            assert membership.apply(history[before], difference) == history[after]
            assert told.digest == membership.digest(history[after])
            assert (told.rows, told.version) == (len(history[after]), after)


def _members(stage: Stage, number: int) -> dict[str, str]:
    with database.connect(stage.settings, "pipeline") as connection:
        return catalog.members(connection, "demo", "examples", number)


def _record(stage: Stage, number: int, change: membership.Change, rows: dict[str, str], artifact: int) -> None:
    """Writes a version down as a commit does, with whatever members."""
    output: Any = None
    made = commits.Next(number, rows, change, True, membership.digest(rows), output, [], {})
    with database.connect(stage.settings, "pipeline") as connection, connection.transaction():
        additions.version(connection, "demo", "examples", None, made, Version(artifact, "dataset", "examples", ""))


def test_a_split_never_moves(stage: Stage) -> None:
    stage.put([question(n) for n in range(40)])
    stage.commit()
    before = _members(stage, 1)
    # Other rows, other answers to the same questions, and other shares than those in force at first sight.
    stage.put([question(n) for n in range(80)] + [question(n, "No, never.") for n in range(40)])
    told = data.commit(
        Context(
            stage.settings,
            stage.usecase.model_copy(
                update={"splits": stage.usecase.splits.model_copy(update={"train": 0.1, "test": 0.8})}
            ),
            stage.origin,
        ),
        stage.check(),
    )
    after = _members(stage, told.dataset.version)
    assert {row: after[row] for row in before} == before
    groups = stage.rows("select group_digest, split from catalog.split_assignment")
    assert len(groups) == 80
    assert told.dataset.splits["test"] > 0.5 * 40
    # The new answers went where their questions were.
    old = membership.counts(before.values())
    fresh = [label for row, label in after.items() if row not in before]
    assert all(membership.counts(fresh).get(name, 0) >= n for name, n in old.items())


def withdrawn(stage: Stage) -> list[tuple[str, str]]:
    rows = stage.rows("select document_key, reason from rag.withdrawal order by seq")
    return [(row["document_key"], row["reason"]) for row in rows]


def test_a_withdrawn_document_stays_a_member_and_is_withdrawn_once(stage: Stage) -> None:
    stage.document("limits")
    stage.document("other", "Another.")
    stage.commit()
    stage.document("limits", status="withdrawn")
    told = stage.commit()
    assert told.corpus.splits == {"approved": 1, "withdrawn": 1}
    assert withdrawn(stage) == [("limits", "its source withdrew it")]
    assert told.withdrawn == 1
    stage.document("other", "Another still.")
    stage.commit()
    assert len(withdrawn(stage)) == 1


def test_a_document_whose_file_is_gone_is_withdrawn_and_one_whose_file_is_bad_stays(stage: Stage) -> None:
    gone, bad = stage.document("gone", "One."), stage.document("bad", "Two.")
    stage.document("limits")
    stage.commit()
    gone.unlink()
    bad.write_text(bad.read_text().replace("id: bad", "id: bad\nclassification: secret"))
    told = stage.commit()
    assert told.corpus.splits == {"approved": 2}
    assert [key for key, _ in withdrawn(stage)] == ["gone"]
    assert told.kept == 1


def test_a_document_that_comes_back_as_it_was_is_a_new_version(stage: Stage) -> None:
    stage.document("limits")
    first = stage.commit()
    stage.document("limits", status="withdrawn")
    stage.commit()
    stage.document("limits")
    third, fourth = stage.commit(), stage.commit()
    assert third.corpus.changed
    assert third.corpus.digest != first.corpus.digest
    assert not fourth.corpus.changed
    # A withdrawal counts for the versions seen by then: this one was first seen after it.
    (serves,) = stage.rows(
        """select v.first_seen_at > (select max(at) from rag.withdrawal) as serves
           from catalog.document_member m join catalog.document_version v using (document_version_id)
           where m.removed_in is null"""
    )
    assert serves == {"serves": True}


def test_a_document_that_was_withdrawn_by_hand_does_not_come_back_by_itself(stage: Stage) -> None:
    stage.document("limits")
    stage.commit()
    with database.connect(stage.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "limits", "a person said so")
    assert not stage.commit().corpus.changed


def test_a_file_that_gives_no_rows_any_more_stops(stage: Stage) -> None:
    stage.commit()
    stage.put([])
    with pytest.raises(Refused, match=r"gives none any more(.|\n)*sft\.jsonl"):
        stage.commit()
    assert len(_members(stage, 1)) == 1


def test_a_commit_that_fails_leaves_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = stage.check()

    def fails(*_: object) -> None:
        raise RuntimeError("stopped before the end")

    monkeypatch.setattr(additions, "version", fails)
    with pytest.raises(RuntimeError):
        data.commit(Context(stage.settings, stage.usecase, stage.origin), checked)
    for table in ("dataset", "example", "locked_example", "split_assignment", "document", "dataset_version"):
        assert stage.rows(f"select * from catalog.{table}") == []
    monkeypatch.undo()
    told = data.commit(Context(stage.settings, stage.usecase, stage.origin), checked)
    assert told.dataset.version == 1


def test_a_task_that_is_run_again_still_says_that_its_version_is_new(stage: Stage) -> None:
    task = replace(stage, origin=Origin("airflow", "engineer", "demo_data", "manual__1", "commit"))
    checked = stage.check()
    first = data.commit(Context(stage.settings, stage.usecase, task.origin), checked)
    again = data.commit(Context(stage.settings, stage.usecase, task.origin), checked)
    other = data.commit(Context(stage.settings, stage.usecase, stage.origin), checked)
    assert first.run != again.run
    assert again.dataset == first.dataset
    assert again.dataset.changed
    assert not other.dataset.changed


def test_commits_at_once_wait_for_each_other(stage: Stage) -> None:
    checked = []
    for n in range(3):
        stage.put([question(i) for i in range(n * 10, n * 10 + 10)])
        stage.document("limits", f"The limit is {n} EUR.")
        checked.append(stage.check())
    case, told, start = stage.usecase, [], threading.Barrier(6)

    def run(one: data.Checked) -> None:
        start.wait()
        told.append(data.commit(Context(stage.settings, case, stage.origin), one))

    threads = [threading.Thread(target=run, args=[one]) for one in checked * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 6
    for role, kind in (("dataset", "examples"), ("corpus", "documents")):
        fresh = sorted(getattr(each, role).version for each in told if not each.reused and getattr(each, role).changed)
        assert fresh == list(range(1, len(fresh) + 1))
        with database.connect(stage.settings, "pipeline") as connection:
            for each in told:
                held = catalog.members(connection, "demo", kind, getattr(each, role).version)  # type: ignore[arg-type]
                assert membership.digest(held) == getattr(each, role).digest


def test_versions_and_diff(stage: Stage) -> None:
    stage.put([question(n) for n in range(5)])
    stage.document("limits")
    stage.commit()
    stage.put([question(n) for n in range(2, 9)])
    told = stage.commit()
    listed = data.versions(stage.settings, stage.usecase).versions
    examples = [row for row in listed if row.dataset == "examples"]
    assert [(row.version, row.rows, row.added, row.removed) for row in examples] == [
        (2, 7, 4, 2),
        (1, 5, 5, 0),
    ]
    assert examples[0].digest == told.dataset.digest
    assert examples[0].splits == told.dataset.splits
    found = data.diff(stage.settings, stage.usecase, 1, 2)
    assert (found.dataset, found.version, found.rows, found.added, found.removed) == (
        "examples",
        2,
        7,
        4,
        2,
    )
    assert data.diff(stage.settings, stage.usecase, 0, 1, "documents").splits == {"approved": 1}
    with pytest.raises(BadInput, match="1 to 2"):
        data.diff(stage.settings, stage.usecase, 1, 3)


def test_a_difference_says_what_changed_and_no_word_of_it(stage: Stage) -> None:
    stage.put([question(n, "It is, in any case.") for n in range(4)])
    stage.document("limits", "The limit is 10 EUR.")
    stage.document("fees", "The fee is 3 EUR.")
    stage.commit()
    stage.put(
        [
            question(0, "It is, in any case."),
            question(1, "By no means is it."),
            question(2, "It is, in any case.", documents=["limits"]),
            question(9, "It is, in any case."),
        ]
    )
    stage.document("limits", "The limit is 20 EUR.", title="Limits")
    stage.commit()
    found = data.diff(stage.settings, stage.usecase, 1, 2)
    assert (found.added, found.removed) == (3, 3)
    assert sorted(list(each.fields) for each in found.changed) == [["documents"], ["messages"]]
    assert {each.before for each in found.changed} < dict(found.changes.removed).keys()
    assert {each.after for each in found.changed} < dict(found.changes.added).keys()
    (document,) = data.diff(stage.settings, stage.usecase, 1, 2, "documents").changed
    assert document.fields == ["text", "title"]
    assert "means" not in str(found)
    back = data.diff(stage.settings, stage.usecase, 2, 1)
    assert {(each.after, each.before) for each in back.changed} == {(e.before, e.after) for e in found.changed}


def test_a_document_that_fewer_may_read_leaves_the_indexes_at_once_and_its_new_version_may_come(stage: Stage) -> None:
    # To and fro, so that a version comes back which was seen before the withdrawal that it brings about.
    stage.allow_widening(1)
    for classification in ("internal", "confidential", "internal", "confidential"):
        stage.document("limits", classification=classification)
        stage.commit()
        (version,) = stage.rows(
            """select v.classification,
                      not exists (select from rag.withdrawal w where w.at >= v.first_seen_at) as served
               from catalog.document_member m join catalog.document_version v using (document_version_id)
               where m.removed_in is null"""
        )
        assert version == {"classification": classification, "served": True}
    assert [reason for _, reason in withdrawn(stage)] == [withdrawals.TIGHTENED] * 2


def test_a_commit_that_would_take_most_examples_waits_for_a_person(stage: Stage) -> None:
    """As after a broken export: the version stays as it was, and its model's data with it."""
    stage.put([question(n) for n in range(30)])
    first = stage.commit()
    stage.put([question(n) for n in (1, 2, 99)])
    held = stage.commit()
    assert (held.dataset.changed, held.dataset.rows, held.waiting) == (False, 30, 1)
    assert held.dataset.digest == first.dataset.digest
    (finding,) = data.waiting(stage.settings, stage.usecase)
    assert (finding.rule, finding.detail.split(";")[0]) == (
        "examples_removed",
        "28 of 30 examples are not there any more",
    )
    assert (
        stage.rows(
            "select 1 from catalog.split_assignment where group_digest not in"
            " (select group_digest from catalog.split_assignment limit 30)"
        )
        == []
    )
    data.accept(stage.settings, stage.usecase, [finding.finding], "steward", "the rest was retired")
    taken = stage.commit()
    assert (taken.dataset.version, taken.dataset.rows, taken.dataset.removed, taken.waiting) == (2, 3, 28, 0)
    assert data.waiting(stage.settings, stage.usecase) == []


def test_a_few_examples_may_go_and_a_limit_may_be_raised(stage: Stage) -> None:
    stage.put([question(n) for n in range(12)])
    stage.commit()
    stage.put([question(n) for n in range(3)])
    assert stage.commit().dataset.rows == 3, "nine are few"
    stage.put([question(n) for n in range(40)])
    stage.commit()
    path = stage.folder / "usecase.yaml"
    path.write_text(f"{path.read_text()}\nchecks: {{max_removed: 1.0}}\n")
    stage.put([question(1)])
    assert stage.commit().dataset.rows == 1


def test_what_was_mended_is_no_open_finding_any_more(stage: Stage) -> None:
    def still_open() -> list[int]:
        return [row["line"] for row in cookbook.run(stage.settings, "open_findings", {"use_case": "demo"})]

    broken = {"messages": [{"role": "user", "content": "Why?"}]}
    stage.put([question(1), broken, question(2), {"messages": 3}])
    stage.commit()
    assert still_open() == [2, 4]
    stage.commit()
    assert still_open() == [2, 4], "a night on which nothing changed is answered by the one before"
    stage.put([question(1), question(3), question(2), broken])
    stage.commit()
    assert still_open() == [4]
    stage.put([question(1), question(3), question(2)])
    stage.commit()
    assert still_open() == []


def test_one_source_of_another_form_is_read_by_its_columns(stage: Stage) -> None:
    path = stage.folder / "usecase.yaml"
    text = path.read_text()
    assert "sft.jsonl" in text
    (stage.folder / "sft.csv").write_text("frage;antwort\nWarum?;Darum.\nWer?;Ada.\n")
    keys = yaml.safe_load(text)
    keys["examples"] = [
        {"path": "sft.csv", "kind": "sft", "columns": {"instruction": "frage", "output": "antwort"}},
        *keys["examples"],
    ]
    path.write_text(yaml.safe_dump(keys))
    told = stage.commit()
    assert told.dataset.rows == 3
    report = json.loads(ArtifactStore(stage.settings.artifacts).read("check_report", told.report.digest, "report.json"))
    assert [file["format"] for file in report["examples"]["files"]] == ["alpaca", "messages"]


def _wording(n: int, *changed: int) -> dict[str, Any]:
    """Returns an example of sixty words, those at some places exchanged."""
    words = [f"other{n}at{k}" if k in changed else f"word{n}at{k}" for k in range(60)]
    turns = [{"role": "user", "content": " ".join(words[:30])}, {"role": "assistant", "content": " ".join(words[30:])}]
    return {"messages": turns}


def _splits_by_wording(stage: Stage) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for row in stage.rows(
        "select content, split from catalog.example union all select content, split from catalog.locked_example"
    ):
        first = row["content"]["messages"][0]["content"].split("at")[0]
        number = int(first.removeprefix("word"))
        found.setdefault(number, []).append(row["split"])
    return found


def test_near_duplicates_never_straddle(stage: Stage) -> None:
    stage.put([row for n in range(60) for row in (_wording(n), _wording(n, 20), _wording(n, 40))])
    assert stage.commit().dataset.rows == 180
    found = _splits_by_wording(stage)
    assert {len(splits) for splits in found.values()} == {3}
    assert all(len(set(splits)) == 1 for splits in found.values())
    assert len({splits[0] for splits in found.values()}) > 1


def test_a_row_that_links_train_and_test_is_out(stage: Stage) -> None:
    path = stage.folder / "usecase.yaml"
    path.write_text(f"{path.read_text()}\nsplits: {{train: 0.5, validation: 0.0, test: 0.5}}\n")
    apart = [row for n in range(12) for row in (_wording(n), _wording(n, 10, 20, 40))]
    stage.put(apart)
    stage.commit()
    straddling = {n for n, splits in _splits_by_wording(stage).items() if len(set(splits)) > 1}
    assert straddling
    assert straddling != set(range(12))
    stage.put([*apart, *(_wording(n, 10) for n in range(12))])
    assert stage.commit().dataset.rows == 36 - len(straddling)
    lines = {25 + n for n in straddling}
    assert {line for _, line, rule, _ in stage.findings() if rule == "bridges_splits"} == lines
    still_open = cookbook.run(stage.settings, "open_findings", {"use_case": "demo"})
    assert {(row["line"], row["rule"]) for row in still_open} == {(line, "bridges_splits") for line in lines}
    for n, own in _splits_by_wording(stage).items():
        assert n in straddling or len(set(own)) == 1


def test_rows_that_share_a_key_share_a_split_and_keep_it(stage: Stage) -> None:
    path = stage.folder / "usecase.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"splits": {"group_by": ["fact", "documents"]}}))
    rows = [question(n, fact=n % 7) for n in range(70)]
    stage.put(rows)
    stage.commit()
    splits_of = _splits_by_fact(stage)
    assert set(splits_of) == set(range(7))
    assert all(len(each) == 1 for each in splits_of.values())
    stage.put([question(200 + n, fact=n % 7) for n in range(70)])  # other questions, and none of the old
    stage.commit()
    assert {fact: set(each) for fact, each in _splits_by_fact(stage).items()} == splits_of


def _splits_by_fact(stage: Stage) -> dict[int, set[str]]:
    rows = stage.rows(
        "select content, split from catalog.example_member m join (select digest, content from catalog.example"
        " union all select digest, content from catalog.locked_example) e on e.digest = m.example_digest"
        " where removed_in is null"
    )
    found: dict[int, set[str]] = {}
    for row in rows:
        number = int(row["content"]["messages"][0]["content"].rpartition(" ")[2].rstrip("?"))
        found.setdefault((number - 200 if number >= 200 else number) % 7, set()).add(row["split"])
    return found


def test_a_key_that_joins_rows_of_old_takes_the_others_out_of_training(stage: Stage) -> None:
    rows = [question(n, fact=n // 35) for n in range(70)]
    stage.put(rows)
    before = stage.commit().dataset
    assert set(before.splits) == {"train", "validation", "test"}
    path = stage.folder / "usecase.yaml"
    keys = yaml.safe_load(path.read_text()) | {"splits": {"group_by": ["fact"]}, "checks": {"max_removed": 1}}
    path.write_text(yaml.safe_dump(keys))
    after = stage.commit().dataset
    assert set(after.splits) == {"test"}
    assert after.splits["test"] == before.splits["test"]
    rules = {rule for _, _, rule, severity in stage.findings() if severity == "rejected"}
    assert rules == {"straddles_splits"}


SAID = {
    "licence": "CC0",
    "owner": "steward@example.org",
    "rights": "our own writing",
    "sensitivity": "none",
}


def test_another_grouping_moves_no_row_and_what_is_asked_again_goes_with_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another release may normalise questions otherwise: rows of old have groups then that have no split yet."""

    def splits_of() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for table in ("example", "locked_example"):
            for row in stage.rows(f"select split, content from catalog.{table}"):
                found.setdefault(row["content"]["messages"][0]["content"], set()).add(row["split"])
        return found

    stage.put([question(n) for n in range(40)])
    stage.commit()
    before, grouped = splits_of(), splits.group
    assert len({*map(tuple, before.values())}) == 3
    monkeypatch.setattr(splits, "group", lambda content: canonical.digest_text(f"another {grouped(content)}"))
    monkeypatch.setattr(ledgers, "newest", lambda *_: None)
    stage.put([question(n) for n in range(40)] + [question(n, "No, and do not ask again.") for n in range(40)])
    assert stage.commit().dataset.rows == 80
    assert splits_of() == before
    stage.put([question(n) for n in range(40)] + [question(n, "Never, whoever asks.") for n in range(40)])
    assert stage.commit().dataset.rows == 80
    assert splits_of() == before


def test_nothing_is_committed_without_what_the_data_card_must_say(stage: Stage) -> None:
    path = stage.folder / "usecase.yaml"
    keys = yaml.safe_load(path.read_text())
    card: dict[str, Any] = {"required": [*SAID, "deletion_path", "known_issues"]}
    path.write_text(yaml.safe_dump(keys | {"data_card": card}))
    with pytest.raises(BadInput) as refusal:
        stage.commit()
    missing = str(refusal.value.details["found"])
    for name in ("documents.0.licence", "examples.0.sensitivity", "data_card.deletion_path", "data_card.known_issues"):
        assert name in missing
    assert stage.rows("select * from catalog.dataset_version") == []
    for part in ("documents", "examples"):
        keys[part] = [source | SAID for source in keys[part]]
    path.write_text(
        yaml.safe_dump(keys | {"data_card": card | {"deletion_path": "ask the steward", "known_issues": []}})
    )
    committed = stage.commit()
    made = data.card(Context(stage.settings, stage.usecase, stage.origin), committed)
    text = ArtifactStore(stage.settings.artifacts).read(made.card.kind, made.card.digest, "card.md").decode()
    for said in (*SAID.values(), "ask the steward", "Known issues: none.", "Personal data: quarantine"):
        assert said in text
