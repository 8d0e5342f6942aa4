"""What a source may be used for: in the splits, in searches, and in what is kept of answers."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import yaml

from pipeline import data, database, datasets
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.errors import Refused
from pipeline.steps import Origin
from tests.pg.conftest import World
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg


def write(stage: Stage, **keys: Any) -> None:
    """Writes keys of the use case's YAML anew."""
    path = stage.folder / "usecase.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


def source(uses: list[str] | None = None, file: str = "sft.jsonl", **more: Any) -> dict[str, Any]:
    """Returns an entry of `examples`."""
    return {"path": file, "kind": "sft", **({} if uses is None else {"uses": uses}), **more}


def splits_of(stage: Stage) -> dict[str, int]:
    """Returns the newest version's rows by split."""
    rows = stage.rows(
        "select split, count(*) as n from catalog.example_member where removed_in is null group by split order by split"
    )
    return {row["split"]: row["n"] for row in rows}


@pytest.mark.parametrize(
    ("uses", "expected"), [(["train"], {"train", "validation"}), (["evaluate"], {"test"}), (None, None)]
)
def test_new_rows_stand_where_they_may_be_used(stage: Stage, uses: list[str] | None, expected: set[str] | None) -> None:
    write(stage, examples=[source(uses)])
    stage.put([question(n) for n in range(120)])
    stage.commit()
    assert set(splits_of(stage)) == (expected or {"train", "validation", "test"})
    assert sum(splits_of(stage).values()) == 120


def test_a_source_that_may_not_be_trained_on_any_more_leaves_the_training_splits_at_once(stage: Stage) -> None:
    stage.put([question(n) for n in range(60)])
    first = stage.commit()
    write(stage, examples=[source(["evaluate"])])
    second = stage.commit()
    assert second.dataset.version == first.dataset.version + 1
    assert set(splits_of(stage)) == {"test"}, "and nobody was asked whether so many rows may go"
    left_out = [(line, rule, severity) for _, line, rule, severity in stage.findings() if rule == "use"]
    assert len(left_out) == 60 - splits_of(stage)["test"]
    assert {severity for *_, severity in left_out} == {"rejected"}
    write(stage, examples=[source()])
    assert stage.commit().dataset.rows == 60


def test_a_row_that_speaks_of_a_document_may_be_used_as_the_document_may(stage: Stage) -> None:
    stage.document("open-policy")
    stage.document("served-alone", uses="[rag, log]")
    stage.document("not-for-training", uses="[rag, evaluate]")
    keys = ["open-policy", "served-alone", "not-for-training"]
    rows = [question(n, documents=[keys[n % 3]]) for n in range(90)]
    stage.put(rows)
    stage.commit()
    held = stage.rows(
        "select e.documents[1] as key, e.split, count(*) as n from ("
        " select documents, split from catalog.example union all select documents, split from catalog.locked_example) e"
        " group by 1, 2"
    )
    splits = {key: {row["split"] for row in held if row["key"] == key} for key in keys}
    assert splits["open-policy"] == {"train", "validation", "test"}
    assert splits["served-alone"] == set(), "a split is trained on or evaluated on"
    assert splits["not-for-training"] == {"test"}
    assert sum(rule == "use" for *_, rule, _ in stage.findings()) == 30


def test_a_version_says_what_it_was_taken_from_and_a_new_description_is_a_new_version(stage: Stage) -> None:
    stage.document("policy")
    write(stage, examples=[source(licence="CC BY 4.0", owner="desk")])
    stage.put([question(n) for n in range(3)])
    first = stage.commit()
    assert stage.commit().dataset.changed is False
    write(stage, examples=[source(licence="CC BY-NC 4.0", owner="desk")])
    second = stage.commit()
    assert (second.dataset.version, second.dataset.changed) == (first.dataset.version + 1, True)
    assert second.dataset.artifact.digest == first.dataset.artifact.digest
    assert second.corpus.version == first.corpus.version
    told = stage.rows(
        "select s.kind, v.version, v.source, v.uses, v.description, v.rows from catalog.version_source v"
        " join catalog.dataset s using (dataset_id) order by s.kind, v.version"
    )
    assert [(row["kind"], row["version"], row["source"], row["rows"]) for row in told] == [
        ("documents", 1, "documents", 1),
        ("examples", 1, "sft.jsonl", 3),
        ("examples", 2, "sft.jsonl", 3),
    ]
    assert [row["description"]["licence"] for row in told] == [None, "CC BY 4.0", "CC BY-NC 4.0"]
    assert told[1]["uses"] == ["train", "evaluate"]


def _written(stage: Stage, statements: Iterable[str]) -> None:
    with database.connect(stage.settings, "pipeline") as connection, connection.transaction():
        for statement in statements:
            connection.execute(statement.encode())


def test_the_database_takes_no_version_that_uses_a_row_otherwise(stage: Stage) -> None:
    stage.put([question(n) for n in range(30)])
    stage.commit()
    second = (
        "insert into catalog.dataset_version (dataset_id, version, digest, artifact_version_id, counts)"
        " select dataset_id, 2, digest, artifact_version_id, counts from catalog.dataset_version"
        " join catalog.dataset using (dataset_id) where kind = 'examples'",
        "insert into catalog.version_source (dataset_id, version, source, digest, uses, description, rows)"
        " select dataset_id, 2, source, digest, '{evaluate}', description, rows from catalog.version_source"
        " join catalog.dataset using (dataset_id) where kind = 'examples'",
    )
    with pytest.raises(psycopg.Error) as refusal:
        _written(stage, second)
    assert refusal.value.sqlstate == "NS043"
    assert "may be used to {evaluate}" in str(refusal.value)


def test_a_version_names_its_own_commit_alone(stage: Stage) -> None:
    committed = stage.commit()
    (earlier,) = stage.rows("select run_id from catalog.dataset_version where version = 1 limit 1")[:1]
    assert str(earlier["run_id"]) == str(committed.run)
    with database.connect(stage.settings, "pipeline") as connection, pytest.raises(psycopg.Error) as refusal:
        connection.execute(
            "insert into catalog.dataset_version (dataset_id, version, digest, artifact_version_id, counts, run_id)"
            " select dataset_id, 2, digest, artifact_version_id, counts, run_id from catalog.dataset_version limit 1"
        )
    assert refusal.value.sqlstate == "NS030", "that commit has ended: who asked for it has nothing to do with this"


def test_a_row_that_moves_to_another_file_is_used_as_that_file_may_be(stage: Stage) -> None:
    stage.put([question(n) for n in range(40)])
    stage.commit()
    (stage.folder / "sft.jsonl").rename(stage.folder / "licensed.jsonl")
    stage.put([question(99)])
    write(stage, examples=[source(["evaluate"]), source(file="licensed.jsonl")])
    assert stage.commit().dataset.rows == 41
    (row,) = stage.rows("select count(*) as n from catalog.example where source = 'licensed.jsonl'")
    assert row["n"] == splits_of(stage)["train"] + splits_of(stage)["validation"]


def test_a_document_may_be_used_for_more_once_a_person_agrees_and_for_less_at_once(stage: Stage) -> None:
    stage.document("policy", uses="[rag]")
    stage.commit()
    stage.document("policy", uses="[rag, train]")
    more = stage.commit()
    assert more.waiting == 1
    (finding,) = data.waiting(stage.settings, stage.usecase)
    assert (finding.rule, finding.detail) == ("rights_widened", "uses rag → rag, train")
    data.accept(stage.settings, stage.usecase, [finding.finding], "reviewer", "the licence covers it")
    assert stage.commit().waiting == 0
    stage.document("policy", uses="[train]")
    less = stage.commit()
    assert (less.waiting, less.withdrawn) == (0, 1), "every index that serves it stops at once"


def test_rows_of_a_document_are_trained_on_once_a_person_has_agreed_to_that_use(stage: Stage) -> None:
    stage.document("policy", uses="[rag]")
    stage.put([question(n, documents=["policy"]) for n in range(9)])
    assert stage.commit().dataset.rows == 0
    stage.document("policy", uses="[rag, train, evaluate]")
    waits = stage.commit()
    assert (waits.waiting, waits.dataset.rows) == (1, 0)
    (finding,) = data.waiting(stage.settings, stage.usecase)
    data.accept(stage.settings, stage.usecase, [finding.finding], "reviewer", "the licence covers it")
    assert stage.commit().dataset.rows == 9


def test_a_use_that_nobody_knows_is_refused_before_anything_is_read(stage: Stage) -> None:
    for uses in (["rag"], [], ["serve"], "train"):
        write(stage, examples=[{"path": "sft.jsonl", "kind": "sft", "uses": uses}])
        with pytest.raises(Exception, match="uses"):
            stage.commit()


def test_the_card_says_what_each_source_may_be_used_for(stage: Stage) -> None:
    stage.document("policy")
    write(stage, examples=[source(["train"])], documents=[{"path": "documents", "uses": ["rag", "log"]}])
    committed = stage.commit()
    context = Context(stage.settings, stage.usecase, stage.origin)
    card = data.card(context, committed)
    text = ArtifactStore(stage.settings.artifacts).read(card.card.kind, card.card.digest, "card.json")
    assert {each["path"]: each["uses"] for each in json.loads(text)["sources"]} == {
        "documents": ["rag", "log"],
        "sft.jsonl": ["train"],
    }


def test_a_signed_version_is_not_trained_on_once_its_source_may_not_be(stage: Stage) -> None:
    stage = replace(stage, origin=Origin("cli", "engineer"))
    write(stage, risk_tier="high", examples=[source(owner="desk")])
    stage.put([question(n) for n in range(20)])
    stage.commit()
    with database.connect(stage.settings, "approver") as connection:
        database.call(connection, "catalog.answer_signoff", "demo", 1, "data_owner", "approve", "reviewer", "read")
    stage.put([question(n) for n in range(100, 120)], "more.jsonl")
    write(stage, examples=[source(["evaluate"], owner="desk"), source(file="more.jsonl")])
    stage.commit()
    with database.connect(stage.settings, "trainer") as connection:
        older = datasets.newest_signed(connection, "demo")
        assert older is not None
        assert (older.number, older.waiting, older.revoked) == (1, 2, ["sft.jsonl"])
        with pytest.raises(Refused, match="not be trained on any more"):
            datasets.require_trainable(connection, "demo", older)


def test_what_wrote_a_row_is_on_record_and_on_the_card(stage: Stage) -> None:
    made = {"by": "model-8", "written_on": "2026-11-01"}
    stage.put([question(0), question(1, generated=made), question(2, generated=made), question(3, generated="x")])
    committed = stage.commit()
    context = Context(stage.settings, stage.usecase, stage.origin)
    card = data.card(context, committed).card
    store = ArtifactStore(stage.settings.artifacts)
    report = json.loads(store.read(card.kind, card.digest, "card.json"))["report"]
    assert report["generated"] == {"rows": 2, "checked": 0, "by": {"model-8": 2}}
    text = store.read(card.kind, card.digest, "card.md").decode()
    assert "Written by a model or a program: 2 rows, 66.7 % of all (model-8 2); a person read 0 of them." in text
    stage.put([question(0), question(1, generated=made | {"checked_by": "maria"}), question(2)])
    assert stage.commit().dataset.changed is False
    rows = stage.rows("select made_by, checked_by from catalog.generated_rows")
    assert [(row["made_by"], row["checked_by"]) for row in rows] == [("model-8", "maria")]
    (count,) = stage.rows("select count(*) as n from catalog.generated_row")
    assert count["n"] == 4, "two were written, one was read, one is a person's after all"


def test_the_text_of_an_answer_is_kept_where_its_documents_may_be_logged(own_world: World) -> None:
    name = "insert into eval.result (evaluation_id, case_id, scores, answer, answer_digest, documents, seconds)"
    with database.connect(own_world.settings, "pipeline") as connection:
        connection.execute(
            "insert into catalog.document_version (document_id, digest, text_digest, title, tenant, classification,"
            " groups, owner, status, uses) select document_id, 'new', 't', 'T', 'acme', 'internal', '{staff}', 'o',"
            " 'approved', '{rag}' from catalog.document where document_key = 'leave'"
        )
    with database.connect(own_world.settings, "evaluator") as connection, connection.transaction(force_rollback=True):
        (evaluation,) = connection.execute("select max(evaluation_id) as id from eval.evaluation").fetchall()
        cases = connection.execute(
            "insert into eval.suite_case (suite_id, case_key, digest)"
            " select s.suite_id, k, k from eval.suite s, unnest('{a,b}'::text[]) k returning case_id"
        ).fetchall()
        for case, documents in zip(cases, (["leave", "notice"], ["notice"]), strict=True):
            connection.execute(
                f"{name} values (%s, %s, '{{}}', 'the answer', 'd', %s, 1)".encode(),
                [evaluation["id"], case["case_id"], documents],
            )
        rows = connection.execute(
            "select answer, answer_digest from eval.result where answer_digest = 'd' order by case_id"
        ).fetchall()
    assert [(row["answer"], row["answer_digest"]) for row in rows] == [(None, "d"), ("the answer", "d")]
