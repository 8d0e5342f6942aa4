"""Erasure: its impact, a person's agreement, the deed in one transaction, and nothing of the text anywhere."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pipeline import checkpoints, data, database, datasets, steps
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import erasure, impact
from pipeline.data.certificate import Certified
from pipeline.data.impact import Target
from pipeline.errors import BadInput, Refused
from pipeline.operations import cookbook, maintenance
from pipeline.services import postgres, rest
from pipeline.settings import ROOT, Settings
from pipeline.steps import Attempt, Origin, Outcome, Output, Result, Step
from tests.conftest import nightshift, superuser
from tests.pg.data.conftest import Stage, question

pytestmark = pytest.mark.pg

MARKER = "the heron of Lake Ammer paid 4711 crowns"
PERSON = "customer-4711"


def context(stage: Stage, who: str = "engineer") -> Context:
    return Context(stage.settings, stage.usecase, Origin("cli", who))


def fill(stage: Stage) -> data.Committed:
    """Commits sixty rows, five of them of a person and five of a document, and two documents."""
    rows = [question(n) for n in range(50)]
    rows += [question(50 + n, f"{MARKER}, case {n}.", data_subject=PERSON) for n in range(5)]
    rows += [question(60 + n, f"It says so in the note, case {n}.", documents=["note"]) for n in range(5)]
    stage.put(rows)
    stage.document("limits")
    stage.document("note", f"# A note\n\n{MARKER}, says the note. " + "It is long. " * 400)
    return stage.commit()


def agreed(stage: Stage, target: Target, reason: str = "she asked for it") -> int:
    """Returns an erasure that the engineer asked for and the reviewer agreed to."""
    asked = erasure.request(context(stage), target, reason)
    given = erasure.answer(stage.settings, stage.usecase, asked.erasure, "approve", "checked her id", "reviewer")
    assert given.answer == "approve"
    return asked.erasure


def erased(stage: Stage, target: Target) -> tuple[erasure.Erased, Certified]:
    number = agreed(stage, target)
    return erasure.erase(context(stage), number), data.certify(context(stage), number)


def train(stage: Stage, committed: data.Committed, name: str = "candidate") -> Outcome:
    """Returns a training's outcome, as far as the lineage sees it: an adapter, made of a dataset version."""

    def work(attempt: Attempt) -> Result:
        stored = attempt.store.put("adapter", {"adapter.json": json.dumps([name, committed.dataset.digest]).encode()})
        return Result({"adapter": Output.of(stored, name, private=True)})

    step = Step(
        stage.usecase.name,
        "training.sft",
        "trainer",
        ("pipeline.canonical",),
        params={"name": name},
        inputs={"dataset": committed.dataset.artifact},
    )
    return steps.run(stage.settings, Origin("cli", "engineer"), step, work)


def stands_in(stage: Stage, installation: Settings, text: str) -> list[str]:
    """Returns where a text stands: files of the installation, of its database and of the server's log, and a dump. The
    use case's own files and the write-ahead log are left out: the certificate names both."""
    needle, dbname = text.encode(), _name(stage)
    with superuser(installation, dbname) as connection:
        connection.execute("checkpoint")
        row = connection.execute("select oid from pg_database where datname = current_database()").fetchone()
        assert row is not None
    pgdata = installation.pgdata
    roots = (stage.settings.home, Path(stage.settings.artifacts), pgdata / "base" / str(row[0]), pgdata / "global")
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    places = [str(path) for path in [*files, pgdata / "log"] if needle in _content(path)]
    dsn = make_conninfo(database.superuser_dsn(installation), dbname=dbname)
    dump = subprocess.run([postgres.programs() / "pg_dump", dsn], capture_output=True, check=True)
    return places + (["dump"] if needle in dump.stdout else [])


def _content(path: Path) -> bytes:
    """Returns a file's bytes: none where the running server has removed it since it was listed, so that it holds no
    text any more."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_nothing_of_the_text_is_left_anywhere(stage: Stage, installation: Settings) -> None:
    fill(stage)
    before = stands_in(stage, installation, MARKER)
    assert {"dump", "rows.jsonl"} <= {Path(place).name for place in before}
    assert any(str(installation.pgdata) in place for place in before)
    erased(stage, Target("subject", PERSON))
    erased(stage, Target("document", "note"))
    assert stands_in(stage, installation, MARKER) == []
    assert stands_in(stage, installation, "It is long. It is long.") == []


def test_a_person_s_documents_go_with_him_and_what_speaks_of_them(stage: Stage, installation: Settings) -> None:
    stage.put([question(n) for n in range(5)] + [question(9, f"{MARKER} too.", documents=["file", "limits"])])
    stage.document("limits")
    stage.document("file", f"# His file\n\n{MARKER}.", data_subject=PERSON)
    stage.commit()
    gone, _ = erased(stage, Target("subject", PERSON))
    assert (gone.document_versions, gone.examples + gone.locked_examples) == (1, 1)
    assert stands_in(stage, installation, MARKER) == []
    assert stage.rows("select * from catalog.document_version where subject is not null") == []
    after = stage.commit()
    assert (after.dataset.rows, after.corpus.rows) == (5, 1)
    stage.document("file", "# His file\n\nWritten anew.")
    assert stage.commit().corpus.rows == 1


def test_the_impact_is_shown_before_anything_goes(stage: Stage) -> None:
    committed = fill(stage)
    model = train(stage, committed)
    touched = erasure.touched(stage.settings, stage.usecase, Target("subject", PERSON))
    assert sum(touched.examples.values()) == 5
    assert [(each.dataset, each.version, each.rows) for each in touched.versions] == [("examples", 1, 5)]
    assert [(each.kind, each.trained) for each in touched.made if each.digest == model.outputs["adapter"].digest] == [
        ("adapter", set(touched.examples) != {"test"})
    ]
    assert len(touched.snapshots) == 2  # what was fetched, and its ledger
    assert touched.sources == ["sft.jsonl"]
    assert [each.name for each in touched.same_text] == []
    assert not touched.live
    with database.connect(stage.settings, "pipeline") as connection:
        (row,) = connection.execute("select count(*) as n from catalog.erasure").fetchall()
    assert row["n"] == 0
    text = "\n".join(impact.lines(touched))
    assert PERSON not in text
    assert "5 of its rows" in text


def test_a_row_that_holds_the_same_text_is_named(stage: Stage) -> None:
    answer = "Whoever pays in herons pays in full, and at once, says the keeper of the lake."
    stage.put([question(1, answer, data_subject=PERSON), question(2, answer), question(3)])
    stage.document("keeper", f"A line of its own.\n{answer}\n")
    stage.commit()
    touched = erasure.touched(stage.settings, stage.usecase, Target("subject", PERSON))
    assert [each.kind for each in touched.same_text] == ["document", "example"]


@pytest.mark.parametrize(
    ("target", "examples", "documents"),
    [
        (Target("subject", PERSON), 5, 0),
        (Target("document", "note"), 5, 1),
    ],
)
def test_rows_go_and_do_not_come_back(stage: Stage, target: Target, examples: int, documents: int) -> None:
    fill(stage)
    gone, _ = erased(stage, target)
    assert gone.examples + gone.locked_examples == examples
    assert gone.document_versions == documents
    after = stage.commit()
    assert (after.dataset.version, after.dataset.removed, after.dataset.added) == (2, examples, 0)
    assert after.corpus.removed == documents
    again = stage.commit()
    assert not again.dataset.changed
    assert not again.corpus.changed
    texts = stage.rows("select content::text as text, subject from catalog.example where content is not null")
    assert all(row["subject"] is None or target.kind != "subject" for row in texts)


VARIANTS = (
    ("as it was", lambda row: row),
    ("with a blank at its end", lambda row: _said(row, lambda text: text + " ")),
    ("decomposed", lambda row: _said(row, lambda text: text.replace("é", "e\u0301"))),
    ("with a soft hyphen", lambda row: _said(row, lambda text: text.replace("heron", "her\u00adon"))),
    ("under another name for the person", lambda row: {**row, "data_subject": f" {PERSON}\u200b"}),
    ("about nobody", lambda row: {key: value for key, value in row.items() if key != "data_subject"}),
    ("with another answer, about the same person", lambda row: _said(row, lambda _: "Quite another answer.")),
)


def _said(row: dict[str, Any], change: Any) -> dict[str, Any]:
    asked, answer = row["messages"]
    return {**row, "messages": [asked, {**answer, "content": change(answer["content"])}]}


@pytest.mark.parametrize(("variant", "written"), VARIANTS)
def test_no_other_way_to_write_it_brings_it_back(stage: Stage, variant: str, written: Any) -> None:
    row = question(1, f"{MARKER} at the café.", data_subject=PERSON)
    stage.put([row, question(2)])
    stage.commit()
    erased(stage, Target("subject", PERSON))
    stage.put([written(row), question(2)])
    after = stage.commit()
    assert after.dataset.rows == 1, variant
    assert ("sft.jsonl", 1, "erased", "rejected") in stage.findings()


def test_the_version_verifies_and_nothing_is_trained_on_it(stage: Stage, installation: Settings) -> None:
    committed = fill(stage)
    erased(stage, Target("subject", PERSON))
    with database.connect(stage.settings, "trainer") as connection:
        newest = datasets.newest(connection, stage.usecase.name)
        assert newest is not None
        assert newest.digest == committed.dataset.digest
        with pytest.raises(Refused, match="is redacted"):
            datasets.require_trainable(connection, stage.usecase.name, newest)
    stage.commit()
    with database.connect(stage.settings, "trainer") as connection:
        newest = datasets.newest(connection, stage.usecase.name)
        assert newest is not None
        datasets.require_trainable(connection, stage.usecase.name, newest)
    with superuser(installation, _name(stage)) as attacker:
        attacker.execute(
            "update catalog.example_member set removed_in = 2 where ctid ="
            " (select min(ctid) from catalog.example_member where removed_in is null)"
        )
    with (
        database.connect(stage.settings, "trainer") as connection,
        pytest.raises(Refused, match="does not give its digest"),
    ):
        datasets.require_trainable(connection, stage.usecase.name, newest)


def _name(stage: Stage) -> str:
    with database.connect(stage.settings, "reader") as connection:
        return connection.info.dbname


def test_a_model_that_was_trained_on_it_is_flagged_and_purged_once_it_is_not_live(stage: Stage) -> None:
    committed = fill(stage)
    model = train(stage, committed).outputs["adapter"]
    _, certified = erased(stage, Target("document", "note"))
    assert certified.to_retrain == 1
    (flagged,) = cookbook.run(stage.settings, "to_retrain", {"use_case": stage.usecase.name})
    assert flagged["digest"] == model.digest
    after = stage.commit()
    clean = train(stage, after, "retrained").outputs["adapter"]
    forgotten = data.forget(stage.settings, [stage.usecase], Origin("cli", "schedule"))
    assert (forgotten.models, forgotten.files) == (1, 1)
    store = ArtifactStore(stage.settings.artifacts)
    assert not store.exists("adapter", model.digest)
    assert store.exists("adapter", clean.digest)
    maintenance.verify_artifacts(stage.settings)
    story = cookbook.run(stage.settings, "erasure_story", {"erasure": "1"})
    assert {row["what"] for row in story} >= {
        "asked for",
        "agreed to",
        "row erased",
        "version redacted",
        "model purged",
    }
    (newest,) = [row for row in story if row["what"] == "newest model"]
    assert (newest["digest"], newest["erased_rows"]) == (clean.digest, 0)


def test_who_may_agree(stage: Stage) -> None:
    fill(stage)
    asked = erasure.request(context(stage), Target("subject", PERSON), "she asked for it")
    with pytest.raises(Refused, match="nobody has agreed"):
        erasure.erase(context(stage), asked.erasure)
    for person, why in (
        ("engineer", "another person has to agree"),
        ("os:engineer", "another person has to agree"),
        ("nobody", "no person who is known"),
        ("os:root", "no person who is known"),
    ):
        given = erasure.answer(stage.settings, stage.usecase, asked.erasure, "approve", "fine", person)
        assert given.answer == "refused"
        assert why in given.reason
    with pytest.raises(Refused, match="nobody has agreed"):
        erasure.erase(context(stage), asked.erasure)
    with pytest.raises(BadInput, match="needs a reason"):
        erasure.answer(stage.settings, stage.usecase, asked.erasure, "approve", " ", "reviewer")
    assert erasure.answer(stage.settings, stage.usecase, asked.erasure, "reject", None, "oncall").answer == "reject"
    with pytest.raises(Refused, match="has been answered"):
        erasure.answer(stage.settings, stage.usecase, asked.erasure, "approve", "fine", "reviewer")
    with pytest.raises(Refused, match="touches nothing any more"):
        erasure.erase(context(stage), asked.erasure)
    (row,) = stage.rows("select reference from catalog.erasure")
    assert row["reference"] is None


def test_the_worker_that_asks_persons_needs_no_other_login(stage: Stage, tmp_path: Path) -> None:
    fill(stage)
    asked = erasure.request(context(stage), Target("subject", PERSON), "she asked for it").erasure
    shutil.copytree(stage.settings.logins, tmp_path / "release", ignore=lambda _, names: set(names) - {"approver"})
    alone = replace(stage.settings, logins=tmp_path / "release")
    assert erasure.get(alone, stage.usecase, asked).state == "waiting"
    question = erasure.ask(alone, stage.usecase, asked)
    assert "reviewer" in question.eligible
    assert "engineer" not in question.eligible
    assert "5 of its rows" in question.body
    assert PERSON not in question.body
    assert erasure.answer(alone, stage.usecase, asked, "approve", "checked", "reviewer").answer == "approve"


@pytest.mark.parametrize(
    "role", ["pipeline", "trainer", "evaluator", "retriever", "reader", "auditor", "gatekeeper", "approver"]
)
def test_no_login_goes_around_it(stage: Stage, role: database.Role) -> None:
    fill(stage)
    asked = erasure.request(context(stage), Target("subject", PERSON), "she asked for it").erasure
    attempts = [
        "insert into catalog.erasure_answer (erasure_id, answer, person, reason)"
        f" values ({asked}, 'approve', 'reviewer', 'x')",
        "insert into catalog.erased_row (use_case, kind, digest, erasure_id) values ('u', 'example', 'd', 1)",
        "update catalog.erasure set basis = 'retention'",
        "insert into catalog.erasure (use_case, kind, basis, reference, reason, requested_by)"
        " values ('u', 'document', 'retention', 'note', 'x', 'schedule')",
        "delete from catalog.erased_row",
        f"select catalog.erase(gen_random_uuid(), 1, {asked})",
    ]
    if role != "approver":
        attempts.append(f"select catalog.answer_erasure({asked}, 'approve', 'reviewer', 'x', '{stage.usecase.name}')")
    with database.connect(stage.settings, role) as connection:
        for statement in attempts:
            with pytest.raises(psycopg.Error):
                connection.execute(statement.encode())


def test_an_erased_row_is_given_back_by_no_path(stage: Stage) -> None:
    fill(stage)
    before = stage.rows(f"select digest, content from catalog.example where subject = '{PERSON}'")
    bodies = stage.rows(
        "select body from catalog.document_version v join catalog.document using (document_id)"
        " where document_key = 'note'"
    )
    erased(stage, Target("subject", PERSON))
    erased(stage, Target("document", "note"))
    with database.connect(stage.settings, "pipeline") as connection:
        for row in before:
            with pytest.raises(psycopg.Error, match="was erased and does not come back"):
                connection.execute(
                    "update catalog.example set content = %s where digest = %s",
                    [psycopg.types.json.Jsonb(row["content"]), row["digest"]],
                )
        with pytest.raises(psycopg.Error, match="was erased and does not come back"):
            connection.execute("update catalog.document_version set body = %s where body is null", [bodies[0]["body"]])


def test_it_is_carried_out_once(stage: Stage) -> None:
    fill(stage)
    number = agreed(stage, Target("subject", PERSON))
    first, second = erasure.erase(context(stage), number), erasure.erase(context(stage), number)
    assert first == second
    unfinished = checkpoints.folder(stage.settings, stage.usecase.name, "training.sft", "ab" * 32)
    (unfinished / "checkpoint-8").mkdir(parents=True)
    (unfinished / "checkpoint-8" / "adapter_model.safetensors").write_bytes(b"learned from the rows that are erased")
    certificate = data.certify(context(stage), number).certificate
    assert certificate.kind == "certificate"
    assert not unfinished.exists()
    stored = ArtifactStore(stage.settings.artifacts).read("certificate", certificate.digest, "certificate.md")
    assert b"Checkpoints of unfinished trainings that were removed: 1." in stored
    assert data.certify(context(stage), number).certificate.kind == "certificate"
    with pytest.raises(Refused, match="touches nothing any more"):
        erasure.impact_of(stage.settings, stage.usecase, number)


@pytest.mark.parametrize(("table", "mode"), [("catalog.erased_row", "exclusive"), ("catalog.example", "access share")])
def test_whoever_is_killed_on_the_way_is_made_up_for(
    stage: Stage, installation: Settings, table: str, mode: str
) -> None:
    """In the transaction that erases, and while the tables are written anew."""
    fill(stage)
    number = agreed(stage, Target("subject", PERSON))
    command = (sys.executable, "-m", "pipeline", "erase", stage.usecase.name, "--request", str(number), "--json")
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **stage.settings.environment()}
    waits = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with superuser(installation, _name(stage)) as watcher, superuser(installation, _name(stage)) as holder:
        with holder.transaction():
            holder.execute(f"lock table {table} in {mode} mode".encode())
            process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert rest.wait(lambda: watcher.execute(waits).fetchall(), 120)
            process.kill()
            process.wait()
        assert rest.wait(lambda: not watcher.execute(waits).fetchall(), 60)
    answer = nightshift(stage.settings, "erase", stage.usecase.name, "--request", str(number))
    assert (answer["state"], answer["erased"]["examples"] + answer["erased"]["locked_examples"]) == ("erased", 5)
    assert answer["dataset"] == 2
    erased(stage, Target("document", "note"))
    assert stands_in(stage, installation, MARKER) == []
    maintenance.verify_artifacts(stage.settings)


def test_asked_for_twice_it_is_one(stage: Stage) -> None:
    fill(stage)
    first, second = (erasure.request(context(stage), Target("subject", PERSON), "she asked for it") for _ in range(2))
    assert first.erasure == second.erasure


@pytest.mark.parametrize(
    ("target", "reason", "wrong"),
    [
        (Target("subject", "nobody"), "she asked", "no row of .* is about this subject"),
        (Target("document", "../note"), "she asked", "no row of .* is about this document"),
        (Target("example", "0" * 64), "she asked", "no row of .* is about this example"),
        (Target("example", ""), "she asked", "no row of .* is about this example"),
        (Target("subject", PERSON), "  ", "has a reason"),
    ],
)
def test_what_cannot_be_asked_for(stage: Stage, target: Target, reason: str, wrong: str) -> None:
    fill(stage)
    with pytest.raises(BadInput, match=wrong):
        erasure.request(context(stage), target, reason)
    assert stage.rows("select * from catalog.erasure") == []


@pytest.mark.parametrize(
    "given", [{}, {"subject": "a", "document": "b"}, {"request": 1, "example": "c"}, {"subject": None, "reason": "x"}]
)
def test_one_thing_is_named(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="about one thing"):
        erasure.named(given)


def test_all_rows_of_a_file_and_most_of_a_dataset_may_be_erased(stage: Stage) -> None:
    stage.put([question(n, data_subject=PERSON) for n in range(20)] + [question(30)])
    stage.document("only")
    stage.commit()
    erased(stage, Target("subject", PERSON))
    erased(stage, Target("document", "only"))
    after = stage.commit()
    assert (after.dataset.rows, after.corpus.rows, after.waiting) == (1, 0, 0)


def test_a_document_whose_date_has_come_goes_by_itself(stage: Stage, installation: Settings) -> None:
    stage.document("old", f"{MARKER}, in the old rules.", retain_until="2020-01-01")
    stage.document("new", "The new rules.", retain_until="2199-01-01")
    stage.document("undated", "The other rules.")
    stage.commit()
    with pytest.raises(Refused, match="has still to be kept"):
        erasure.request(context(stage), Target("document", "undated"), "it is time", "retention")
    forgotten = data.forget(stage.settings, [stage.usecase], Origin("cli", "schedule"))
    assert len(forgotten.erasures) == 1
    assert data.forget(stage.settings, [stage.usecase], Origin("cli", "schedule")).erasures == []
    bodies = stage.rows(
        "select document_key, body is null as gone from catalog.document_version"
        " join catalog.document using (document_id) order by 1"
    )
    assert [(row["document_key"], row["gone"]) for row in bodies] == [("new", False), ("old", True), ("undated", False)]
    assert stands_in(stage, installation, MARKER) == []
    after = stage.commit()
    assert after.corpus.rows == 2


def test_the_certificate_says_no_text_and_no_name(stage: Stage) -> None:
    fill(stage)
    _, certified = erased(stage, Target("subject", PERSON))
    store = ArtifactStore(stage.settings.artifacts)
    version = certified.certificate
    written = b"".join(
        store.read(version.kind, version.digest, name) for name in ("certificate.md", "certificate.json")
    )
    assert PERSON.encode() not in written
    assert MARKER.encode() not in written
    assert b"she asked for it" in written
    assert b"reviewer" in written
    assert version.kind == "certificate"


def test_the_audit_trail_holds(stage: Stage) -> None:
    fill(stage)
    erased(stage, Target("subject", PERSON))
    erased(stage, Target("document", "note"))
    maintenance.seal_and_verify(stage.settings)
