"""Every query of the cookbook, asked by the reader's login of two nights whose answers are known."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pipeline import database, sql
from pipeline.context import Context
from pipeline.data import erasure
from pipeline.data.impact import Target
from pipeline.errors import BadInput
from pipeline.evaluation import recording
from pipeline.operations import cookbook
from pipeline.steps import Origin
from pipeline.usecase import Retention, UseCase

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg
Rows = list[dict[str, Any]]

DEMO = {"use_case": "demo"}


def in_production(world: "World", rows: Rows) -> None:
    (row,) = rows
    assert row["deployment_id"] == world.deployments["model"]
    assert row["model_digest"] == world.versions["night-1.sft.adapter"].digest
    assert row["index_digest"] == world.versions["index.generation"].digest
    assert (row["promoted_by"], row["why"]) == ("reviewer", "approved by reviewer")


def produced_by(world: "World", rows: Rows) -> None:
    found = {row["digest"]: row for row in rows}
    wanted = ["night-1.sft.adapter", "night-1.preflight.base", "dataset-2.dataset", "corpus.corpus", "index.generation",
              "fetch.documents"]  # fmt: skip
    assert {world.versions[name].digest for name in wanted} <= found.keys()
    assert world.versions["night-2.sft.adapter"].digest not in found
    adapter = found[world.versions["night-1.sft.adapter"].digest]
    assert (adapter["login"], adapter["job"], adapter["requested_by"]) == ("trainer", "training.sft", "engineer")
    assert adapter["run_id"] == str(world.runs["night-1.sft"].run_id)


def let_through_by(world: "World", rows: Rows) -> None:
    (row,) = rows
    told = [(answer["answer"], answer["person"]) for answer in row["answers"]]
    assert told == [("refused", "engineer"), ("approve", "reviewer")]
    answered_at = row["answers"][-1]["answered_at"]
    assert row["checks"]
    assert all(re.match(r"[a-z_.]+: (pass|fail|condition|inconclusive)", check) for check in row["checks"])
    assert row["decision_id"] == world.decisions["night-1"]
    assert row["outcome"] == "approve_with_conditions"
    assert row["evidence"]["report"] == world.versions["night-1.gate.report"].digest
    assert row["sealed_at"] < row["decided_at"] < answered_at <= row["valid_from"]


def readable_by_principal(world: "World", rows: Rows) -> None:
    assert [row["document_key"] for row in rows] == ["leave", "notice"]


def readable_by_groups(world: "World", rows: Rows) -> None:
    assert [row["document_key"] for row in rows] == ["hazard", "notice"]


def readers_of_document(world: "World", rows: Rows) -> None:
    assert [row["principal"] for row in rows] == ["inspector"]


def document_impact(world: "World", rows: Rows) -> None:
    found = {row["digest"]: row for row in rows}
    live = world.versions["night-1.sft.adapter"].digest
    assert found[live]["live"], "an example of this model's data speaks of the document"
    assert not found[live]["through_corpus"]
    index = found[world.versions["index.generation"].digest]
    assert index["live"]
    assert index["through_corpus"]
    snapshot = found[world.versions["fetch.documents"].digest]
    assert snapshot["private"]
    assert not snapshot["made_from_it"]
    assert world.versions["dataset-2.dataset"].digest in found
    assert world.versions["dataset-1.dataset"].digest not in found, "the example came with the second version"
    assert world.versions["night-1.gate.report"].digest in found
    assert world.versions["night-1.preflight.base"].digest not in found


def document_versions(world: "World", rows: Rows) -> None:
    assert [(row["kind"], row["version"], row["members"]) for row in rows] == [("documents", 1, 1), ("examples", 2, 1)]


def what_was_live(world: "World", rows: Rows) -> None:
    (row,) = rows
    assert row["deployment_id"] == world.deployments["index"]
    assert row["model_digest"] is None
    assert row["valid_to"] is not None


def nightly_results(world: "World", rows: Rows) -> None:
    assert [(row["night"], row["outcome"], row["deployment_id"]) for row in rows] == [
        ("night-2", "block", None),
        ("night-1", "approve_with_conditions", world.deployments["model"]),
    ]
    assert rows[1]["person"] == "reviewer"


def nights(world: "World", rows: Rows) -> None:
    assert [(row["night"], row["state"], row["failed"]) for row in rows] == [
        ("night-2", "finished", 0),
        ("night-1", "finished", 0),
    ]
    assert rows[0]["reused"] == 1, "the base model is pinned by the run before"
    assert rows[0]["decision_id"] == world.decisions["night-2"]


def gate_checks(world: "World", rows: Rows) -> None:
    (row,) = rows
    assert row["check_result"]["metric"] == "correct"
    assert row["check_result"]["verdict"] == "condition"


def sealed_before_training(world: "World", rows: Rows) -> None:
    assert [row["decision_id"] for row in rows] == [world.decisions["night-1"], world.decisions["night-2"]]
    assert all(row["sealed_first"] for row in rows)


def pending_approvals(world: "World", rows: Rows) -> None:
    assert rows == [], "the first night was answered and the second needs nobody"


def refused_approvals(world: "World", rows: Rows) -> None:
    assert [(row["person"], row["login"]) for row in rows] == [("engineer", "approver")]


def evaluations_of_model(world: "World", rows: Rows) -> None:
    assert [row["retrieval"] for row in rows] == [True, False]
    assert {row["metrics"]["correct"]["value"] for row in rows} == {0.9}
    assert {row["subject"] for row in rows} == {"candidate"}


def rejected_by_rule(world: "World", rows: Rows) -> None:
    assert [(row["rule"], row["findings"], row["files"]) for row in rows] == [
        ("answer_present", 2, 1),
        ("duplicate", 1, 1),
    ]


def open_findings(world: "World", rows: Rows) -> None:
    assert [row["line"] for row in rows] == [3, 9, 12]


def forgotten(world: "World") -> str:
    """Returns the number of the erasure of a document that the live model was trained on."""
    keys: dict[str, Any] = {"name": DEMO["use_case"], "retention": Retention()}
    case = UseCase.model_construct(**keys)
    context = Context(world.settings, case, Origin("cli", "engineer"))
    known = cookbook.run(world.settings, "erasures", DEMO)
    if known:
        return str(known[0]["erasure_id"])
    number = erasure.request(context, Target("document", "leave"), "its author asked").erasure
    erasure.answer(world.settings, case, number, "approve", "he is right", "reviewer")
    erasure.erase(context, number)
    return str(number)


def erasures(world: "World", rows: Rows) -> None:
    (row,) = rows
    assert (row["kind"], row["state"], row["requested_by"], row["person"]) == (
        "document",
        "erased",
        "engineer",
        "reviewer",
    )
    assert (row["counts"]["examples"], row["counts"]["document_versions"], row["counts"]["chunks"]) == (1, 1, 1)


def erasure_story(world: "World", rows: Rows) -> None:
    told = {row["what"]: row for row in rows}
    assert told["asked for"]["who"] == "engineer"
    assert told["agreed to"]["who"] == "reviewer"
    assert sum(row["what"] == "row erased" for row in rows) == 2
    champion = world.versions["night-1.sft.adapter"].digest
    assert [row["digest"] for row in rows if row["what"] == "live, to be trained again"] == [champion]
    assert told["newest model"]["digest"] == world.versions["night-2.sft.adapter"].digest
    assert told["newest model"]["erased_rows"] == 1


def redacted_versions(world: "World", rows: Rows) -> None:
    assert [(row["kind"], row["version"], row["erased"]) for row in rows] == [("documents", 1, 1), ("examples", 2, 1)]


def to_retrain(world: "World", rows: Rows) -> None:
    nights = [world.versions[f"night-{n}.sft.adapter"].digest for n in (1, 2)]
    assert [(row["digest"], row["live"]) for row in rows] == [(nights[0], True), (nights[1], False)]


def waived(world: "World") -> dict[str, str]:
    """Accepts the oldest finding, and returns the use case."""
    with database.connect(world.settings, "pipeline") as connection:
        connection.execute(
            "insert into catalog.steward_decision (finding_id, decision, person, reason)"
            " select min(finding_id), 'accept', 'steward', 'it is short and right' from catalog.finding"
        )
    return DEMO


def waivers(world: "World", rows: Rows) -> None:
    assert [(row["line"], row["person"], row["until"], row["in_force"]) for row in rows] == [(3, "steward", None, True)]


def signoffs(world: "World", rows: Rows) -> None:
    told = [(row["version"], row["role"], row["answer"], row["person"], row["state"]) for row in rows]
    assert told == [(1, "data_owner", "approve", "reviewer", "signed")]


def with_a_reading(world: "World") -> dict[str, str]:
    """Reads the locked rows of the second version, and returns the use case."""
    with database.connect(world.settings, "evaluator") as connection:
        assert len(recording.locked_rows(connection, world.versions["dataset-2.dataset"])) == 2
    return DEMO


def locked_readings(world: "World", rows: Rows) -> None:
    assert [(row["version"], row["login"], row["rows"]) for row in rows] == [(2, "evaluator", 2)]
    assert rows[0]["announced_at"] <= rows[0]["read_at"]


def with_a_row_read(world: "World") -> dict[str, str]:
    """Has a person read a row, and returns the use case."""
    with database.connect(world.settings, "pipeline") as connection:
        connection.execute(
            "insert into catalog.example_reading (use_case, digest, reader)"
            " select use_case, min(digest), 'maria' from catalog.example where use_case = 'demo' group by use_case"
        )
    return DEMO


def rows_read(world: "World", rows: Rows) -> None:
    assert [(row["reader"], row["how"], len(row["digest"])) for row in rows] == [("maria", "shown", 64)]


def training_curve(world: "World", rows: Rows) -> None:
    assert [(row["step"], row["loss"], row["eval_loss"]) for row in rows] == [
        (0, None, 3.0),
        (1, 2.5, None),
        (2, 2.0, 1.5),
    ]
    assert {(row["job"], row["state"]) for row in rows} == {("training.sft", "succeeded")}


def trainings(world: "World", rows: Rows) -> None:
    assert [row["run_id"] for row in rows] == [str(world.runs[f"night-{n}.sft"].run_id) for n in (2, 1)]
    assert {(row["steps"], row["planned"], row["best_step"], row["resumed_from"]) for row in rows} == {(40, 60, 20, 15)}
    assert {(row["eval_loss_before"], row["eval_loss"], row["overfitted"], row["seconds"]) for row in rows} == {
        (3.0, 1.5, True, 30.0)
    }


def sources_of_models(world: "World", rows: Rows) -> None:
    told = {(row["source"], tuple(row["uses"]), row["licence"], row["owner"]) for row in rows}
    assert told == {("sft.jsonl", ("train", "evaluate"), "CC0", "desk")}
    assert world.versions["night-1.sft.adapter"].digest in {row["model"] for row in rows}


def generated(world: "World") -> dict[str, str]:
    """Says of a row of the newest version that a model wrote it, and returns the use case."""
    with database.connect(world.settings, "pipeline") as connection:
        connection.execute(
            "insert into catalog.generated_row (use_case, digest, made_by, made_on)"
            " select 'demo', min(m.example_digest), 'model-8', '2026-11-01' from catalog.example_member m"
            " join catalog.dataset d using (dataset_id) where d.use_case = 'demo' and m.removed_in is null"
        )
    return DEMO


def generated_share(world: "World", rows: Rows) -> None:
    assert [(row["made_by"], row["rows"], row["checked"], str(row["first_day"])) for row in rows] == [
        ("model-8", 1, 0, "2026-11-01")
    ]


def dataset_growth(world: "World", rows: Rows) -> None:
    assert [(row["kind"], row["version"], row["added"], row["removed"], row["members"]) for row in rows] == [
        ("documents", 1, 3, 0, 3),
        ("examples", 1, 16, 0, 16),
        ("examples", 2, 4, 1, 19),
    ]


def reused_runs(world: "World", rows: Rows) -> None:
    (row,) = rows
    assert row["reused_from"] == str(world.runs["night-1.preflight"].run_id)


def broken_jobs(world: "World", rows: Rows) -> None:
    assert rows == []


def attempts_by_login(world: "World", rows: Rows) -> None:
    assert {row["login"] for row in rows} == {"pipeline", "trainer", "evaluator", "gatekeeper"}
    assert not any(row["superuser"] or row["owner"] for row in rows)
    assert sum(row["attempts"] for row in rows) == len(world.runs)


def retrievals_of_document(world: "World", rows: Rows) -> None:
    (row,) = rows
    assert (row["principal"], row["chunks"], row["deployment_id"]) == ("clerk", 1, world.deployments["model"])


def refused_retrievals(world: "World", rows: Rows) -> None:
    (row,) = rows
    assert row["reason"] == "unknown token"


def stale_documents(world: "World", rows: Rows) -> None:
    assert [(row["document_key"], row["owner"]) for row in rows] == [("leave", "steward")]


def audit_of_deployment(world: "World", rows: Rows) -> None:
    assert [(row["object"], row["operation"]) for row in rows] == [
        ("release.decision", "INSERT"),
        ("release.approval", "INSERT"),
        ("release.approval", "INSERT"),
        ("lineage.deployment", "INSERT"),
    ]
    assert all(row["block_no"] is not None for row in rows[:1])
    assert {row["login"] for row in rows} == {"gatekeeper", "approver"}


def audit_chain(world: "World", rows: Rows) -> None:
    assert [row["block_no"] for row in rows] == [1]
    assert rows[0]["events"] > 20


# query: its parameters, which may depend on the world, and what its answer must be
ANSWERS: dict[str, tuple[Callable[["World"], dict[str, str]], Callable[["World", Rows], None]]] = {
    "in_production": (lambda world: {}, in_production),
    "produced_by": (lambda world: DEMO, produced_by),
    "let_through_by": (lambda world: DEMO, let_through_by),
    "readable_by_principal": (lambda world: DEMO | {"principal": "clerk"}, readable_by_principal),
    "readable_by_groups": (
        lambda world: DEMO | {"tenant": "acme", "groups": "safety,visitors", "clearance": "restricted"},
        readable_by_groups,
    ),
    "readers_of_document": (lambda world: DEMO | {"document": "hazard"}, readers_of_document),
    "document_impact": (lambda world: DEMO | {"document": "leave"}, document_impact),
    "document_versions": (lambda world: DEMO | {"document": "leave"}, document_versions),
    "what_was_live": (lambda world: {"at": str(world.before_release)}, what_was_live),
    "nightly_results": (lambda world: DEMO, nightly_results),
    "nights": (lambda world: DEMO, nights),
    "gate_checks": (lambda world: {"decision": str(world.decisions["night-1"])}, gate_checks),
    "sealed_before_training": (lambda world: {}, sealed_before_training),
    "pending_approvals": (lambda world: {}, pending_approvals),
    "refused_approvals": (lambda world: {}, refused_approvals),
    "evaluations_of_model": (
        lambda world: {"digest": world.versions["night-1.sft.adapter"].digest[:10]},
        evaluations_of_model,
    ),
    "rejected_by_rule": (lambda world: DEMO, rejected_by_rule),
    "open_findings": (lambda world: DEMO, open_findings),
    "dataset_growth": (lambda world: DEMO, dataset_growth),
    "reused_runs": (lambda world: DEMO, reused_runs),
    "broken_jobs": (lambda world: {}, broken_jobs),
    "attempts_by_login": (lambda world: {}, attempts_by_login),
    "retrievals_of_document": (lambda world: DEMO | {"document": "leave"}, retrievals_of_document),
    "refused_retrievals": (lambda world: {}, refused_retrievals),
    "stale_documents": (lambda world: DEMO | {"day": "2024-01-01"}, stale_documents),
    "audit_of_deployment": (lambda world: {"deployment": str(world.deployments["model"])}, audit_of_deployment),
    "audit_chain": (lambda world: {}, audit_chain),
    # Last, for they begin with an erasure of what the live model was trained on.
    "erasures": (lambda world: DEMO if forgotten(world) else {}, erasures),
    "erasure_story": (lambda world: {"erasure": forgotten(world)}, erasure_story),
    "redacted_versions": (lambda world: DEMO, redacted_versions),
    "to_retrain": (lambda world: DEMO, to_retrain),
    "waivers": (waived, waivers),
    "locked_readings": (with_a_reading, locked_readings),
    "rows_read": (with_a_row_read, rows_read),
    "training_curve": (lambda world: DEMO, training_curve),
    "trainings": (lambda world: DEMO, trainings),
    "signoffs": (lambda world: DEMO, signoffs),
    "generated_share": (generated, generated_share),
    "sources_of_models": (lambda world: DEMO, sources_of_models),
}


def test_every_query_answers(world: "World") -> None:
    with database.connect(world.settings, "pipeline") as connection:
        (session,) = database.call(connection, "rag.open_session", "demo", "clerk")
        near = "[" + ",".join("1" if axis == 1 else "0" for axis in range(384)) + "]"
        statement = "select * from rag.search(%s, %s::halfvec, %s, 1)"
        assert connection.execute(statement, [session["open_session"], near, "a question"]).fetchall()
        (refused,) = connection.execute(statement, ["not a token", near, "a question"]).fetchall()
        assert (refused["route"], refused["chunk_ids"]) == ("refused", [])
        database.call(connection, "audit.seal")
    for name, (params, check) in ANSWERS.items():
        try:
            check(world, cookbook.run(world.settings, name, params(world)))
        except Exception as error:
            error.add_note(f"in the query {name}")
            raise


def test_every_query_of_the_file_has_its_answer_here() -> None:
    assert set(ANSWERS) == set(sql.load("cookbook"))
    assert all(entry["about"] for entry in cookbook.names().values())


def test_no_answer_holds_text(world: "World") -> None:
    for name, (params, _) in ANSWERS.items():
        assert "secret" not in str(cookbook.run(world.settings, name, params(world))), name


def test_a_withdrawn_document_is_served_to_nobody(world: "World") -> None:
    with database.connect(world.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "leave", "replaced")
    rows = cookbook.run(world.settings, "readable_by_principal", DEMO | {"principal": "clerk"})
    assert [row["document_key"] for row in rows] == ["notice"]


def test_another_tenant_reads_nothing(world: "World") -> None:
    assert cookbook.run(world.settings, "readable_by_principal", DEMO | {"principal": "stranger"}) == []


def test_access_agrees_with_the_function_that_retrieval_uses(world: "World", attacker: psycopg.Connection[Any]) -> None:
    found = attacker.execute(
        "select p.name, array_agg(k.document_key order by k.document_key) from rag.principal p"
        " join rag.chunk k on k.tenant = p.tenant"
        " and k.acl_id = any (rag.acl_ids(p.use_case, p.tenant, p.groups, p.clearance, 'rag')) group by p.name"
    ).fetchall()
    told = {
        name: [
            row["document_key"]
            for row in cookbook.run(world.settings, "readable_by_principal", DEMO | {"principal": name})
        ]
        for name, _ in found
    }
    assert told == dict(found)


def test_nights_before_and_after_the_gate(world: "World") -> None:
    before = cookbook.run(world.settings, "what_was_live", {"at": str(world.before_release)})
    assert before
    assert world.before_release is not None
    early = cookbook.run(world.settings, "what_was_live", {"at": str(world.before_release - timedelta(days=1))})
    assert early == []


@pytest.mark.parametrize(
    ("name", "params", "told"),
    [
        ("in_produktion", {}, "did you mean in_production?"),
        ("produced_by", {}, "--param use_case=…"),
        ("produced_by", {"usecase": "demo"}, "did you mean use_case?"),
        ("what_was_live", {"at": "yesterday-ish"}, "invalid input syntax"),
    ],
)
def test_wrong_questions_say_what_is_allowed(world: "World", name: str, params: dict[str, str], told: str) -> None:
    with pytest.raises(BadInput, match=told.replace("?", r"\?")) as error:
        cookbook.run(world.settings, name, params)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("name", ["dmo", "", "Demo", "demo "])
def test_a_use_case_that_is_not_there_is_an_error_and_no_empty_answer(world: "World", name: str) -> None:
    for query in ("nightly_results", "open_findings"):
        with pytest.raises(BadInput, match="unknown use case"):
            cookbook.run(world.settings, query, {"use_case": name})
