"""The rules of a release, attacked below the code that keeps them: by direct statements, and by two at once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from pipeline import database, deployments
from pipeline.database import Connection, Role
from pipeline.errors import BadInput, NightshiftError, Refused, Stale
from pipeline.results import Check
from pipeline.settings import Settings

if TYPE_CHECKING:
    from tests.pg.conftest import World

pytestmark = pytest.mark.pg

DIGEST = "0123456789abcdef" * 4
SUITES = [{"name": "facts", "file": "f", "limit": None}]
PASSED = [{"name": "correct.minimum", "verdict": "pass"}]
CONDITION = [*PASSED, {"name": "policy.sealed", "verdict": "condition"}]
FAILED = [*PASSED, {"name": "correct.minimum", "verdict": "fail"}]


@dataclass
class Ground:
    """One gate run in engineer's name, a sealed policy, and a model, as little as the rules need."""

    settings: Settings
    connection: Connection  # as gatekeeper
    run: UUID
    policy: int
    model: int
    inputs: dict[str, int]  # what the gate's run looks at

    def decide(
        self,
        checks: Any = CONDITION,
        policy: int | None = None,
        replaces: int | None = None,
        run: UUID | None = None,
    ) -> int:
        """Returns the id of a decision that waits for a person, or with `PASSED` of one that needs none."""
        (row,) = database.call(
            self.connection, "release.decide_model", run or self.run, policy or self.policy, replaces, Jsonb(checks)
        )
        return int(row["decide_model"])

    def row(self, decision: int) -> dict[str, Any]:
        found = self.connection.execute("select * from release.decision where decision_id = %s", [decision]).fetchone()
        assert found is not None
        return found

    def answer(self, decision: int, answer: str, person: str | None) -> str:
        with database.connect(self.settings, "approver") as connection:
            (row,) = database.call(connection, "release.answer", decision, answer, person, "because")
        return str(row["answer"])

    def promote(self, decision: int, role: Role = "approver") -> int:
        with database.connect(self.settings, role) as connection, database.translate_errors():
            (row,) = database.call(connection, "lineage.promote", decision)
        return int(row["promote"])

    def released(self, expected: int | None) -> int:
        """Returns the deployment of a new decision that needs no person, against what is live."""
        return self.promote(self.decide(PASSED, replaces=expected))


def begin(
    connection: Connection,
    use_case: str = "demo",
    by: str = "engineer",
    job: str = "release.gate",
    inputs: dict[str, int] | None = None,
    suites: list[Any] | None = None,
) -> tuple[UUID, int]:
    pinned = [{"role": role, "version_id": version} for role, version in (inputs or {}).items()]
    (row,) = database.call(
        connection, "lineage.begin_run", uuid4(), use_case, job, "cli", None, None, None, -1, by,
        Jsonb({"suites": suites}), Jsonb(pinned), "key", Jsonb({}), Jsonb({}),
    )  # fmt: skip
    return row["run_id"], row["fence"]


def make(connection: Connection, job: str, kind: str, digest: str = DIGEST, **told: Any) -> int:
    """Returns the version of an artifact of this kind, made by a run of the job."""
    run, fence = begin(connection, job=job, **told)
    output = {"role": "o", "kind": kind, "name": kind, "digest": digest, "size_bytes": 1, "private": True}
    (made,) = database.call(connection, "lineage.finish_run", run, fence, Jsonb([output]), Jsonb({}), None)
    return int(made["version_id"])


def seal(settings: Settings, digest: str, use_case: str = "demo", **told: Any) -> int:
    content = {"risk_tier": "limited", "asks_a_person": False, "suites": SUITES} | told
    with database.connect(settings, "pipeline") as connection:
        (row,) = database.call(connection, "release.seal_policy", use_case, digest, Jsonb(content), "engineer")
    return int(row["seal_policy"])


@pytest.fixture
def ground(settings: Settings) -> Any:
    policy = seal(settings, "sealed")
    with (
        database.connect(settings, "trainer") as trainer,
        database.connect(settings, "evaluator") as evaluator,
        database.connect(settings, "gatekeeper") as connection,
    ):
        base = make(trainer, "training.preflight", "base_model")
        model = make(trainer, "training.dpo", "adapter")
        told: dict[str, Any] = {"job": "evaluation.evaluate", "kind": "evaluation", "suites": SUITES}
        # Of the base model, and of the candidate, which is the champion of the decisions after the first.
        evaluations = {
            "base": make(evaluator, digest="a" * 64, inputs={"base": base}, **told),
            "candidate": make(evaluator, digest="b" * 64, inputs={"base": base, "adapter": model}, **told),
        }
        inputs = {"candidate": model} | {f"evaluation.{name}": version for name, version in evaluations.items()}
        run, _ = begin(connection, inputs=inputs)
        yield Ground(settings, connection, run, policy, model, inputs)


@pytest.mark.parametrize("login", ["superuser", "approver", "pipeline"])
def test_nobody_writes_an_approval_of_his_own_run(
    ground: Ground, attacker: psycopg.Connection[Any], login: str
) -> None:
    decision = ground.decide()
    statement = (
        "insert into release.approval (decision_id, answer, person, reason) values (%s, 'approve', 'engineer', 'x')"
    )
    if login == "superuser":
        with pytest.raises(psycopg.Error) as caught:
            attacker.execute(statement, [decision])
        assert caught.value.sqlstate == "NS020"
        return
    with (
        database.connect(ground.settings, login) as connection,  # type: ignore[arg-type]
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement, [decision])


@pytest.mark.parametrize(
    ("login", "statement"),
    [
        ("pipeline", "insert into release.decision (use_case, kind) values ('demo', 'index')"),
        ("gatekeeper", "insert into release.decision (use_case, kind) values ('demo', 'model')"),
        ("approver", "insert into release.decision (use_case, kind) values ('demo', 'rollback')"),
        ("pipeline", "select release.decide_model(null, 1, null, '[]')"),
        ("pipeline", "select release.decide_rollback(1, 'engineer', 'x', '[]')"),
        ("gatekeeper", "select release.decide_index(null)"),
        ("gatekeeper", "select release.decide_rollback(1, 'engineer', 'x', '[]')"),
        ("gatekeeper", "select lineage.promote(1)"),
        ("trainer", "select lineage.promote(1)"),
        ("pipeline", "select lineage.promote(1)"),
        ("pipeline", "insert into rag.principal values ('demo', 'me', 'acme', '{}', 'restricted')"),
        ("pipeline", "update rag.principal set clearance = 'restricted'"),
        ("pipeline", "delete from rag.principal"),
        ("pipeline", "update release.decision set outcome = 'approve'"),
        ("pipeline", "delete from release.decision"),
        ("pipeline", "update release.policy set content = '{}'"),
        ("pipeline", "insert into release.policy (use_case, digest, content, sealed_by) values ('d', 'd', '{}', 'x')"),
        ("pipeline", "insert into release.sealing (policy_id, use_case, sealed_by) values (1, 'demo', 'x')"),
        ("pipeline", "select release.answer(1, 'approve', 'reviewer', 'x')"),
        ("pipeline", "insert into lineage.deployment (use_case, decision_id, promoted_by) values ('d', 1, 'x')"),
        ("pipeline", "update lineage.deployment set valid_to = now()"),
        ("approver", "update release.approval set answer = 'approve'"),
        ("approver", "delete from release.approval"),
        ("approver", "select release.seal_policy('demo', 'd', '{}', 'x')"),
        ("evaluator", "select release.supersede(1)"),
        ("trainer", "select release.seal_policy('demo', 'd', '{}', 'x')"),
        ("trainer", "select content from release.policy"),
        ("evaluator", "select lineage.promote(1)"),
        ("evaluator", "update eval.result set scores = '{}'"),
        ("evaluator", "update eval.evaluation set metrics = '{}'"),
        ("pipeline", "delete from eval.comparison"),
        ("reader", "select answer from eval.result"),
        ("approver", "select answer from eval.result"),
        ("auditor", "select question from eval.suite_case"),
    ],
)  # fmt: skip
def test_no_login_can_do_more_than_its_work(ground: Ground, login: Role, statement: str) -> None:
    ground.decide()
    with (
        database.connect(ground.settings, login) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    "checks",
    [
        [],
        [{"name": "x"}],
        [{"verdict": None}],
        [{"verdict": "PASS"}],
        [{"verdict": "inconclusive"}],
        [*PASSED, {"verdict": "fail"}],
        [*CONDITION, {"verdict": "inconclusive"}],
        [[], "pass", None],
    ],
)
def test_what_did_not_pass_is_blocked_whatever_else_is_said(ground: Ground, checks: list[Any]) -> None:
    decision = ground.decide(checks)
    assert ground.row(decision)["outcome"] == "block"
    with pytest.raises(Refused, match="blocked"):
        ground.promote(decision)
    assert ground.answer(decision, "approve", "reviewer") == "refused"


@pytest.mark.parametrize("checks", [{}, {"verdict": "pass"}, "pass", None, 1])
def test_verdicts_that_are_no_list_are_refused(ground: Ground, checks: Any) -> None:
    with pytest.raises(Refused, match="are a list"):
        ground.decide(checks)


def test_a_decision_says_what_the_rows_say(ground: Ground) -> None:
    decision = ground.row(ground.decide(PASSED))
    assert (decision["use_case"], decision["model_version_id"], decision["requested_by"]) == (
        "demo", ground.model, "engineer",
    )  # fmt: skip
    assert (decision["outcome"], decision["needs_person"], decision["login"]) == ("approve", False, "gatekeeper")
    assert decision["evidence"] == {"policy": "sealed", "evaluation.base": "a" * 64, "evaluation.candidate": "b" * 64}
    assert ground.row(ground.decide())["needs_person"]


@pytest.mark.parametrize("wrong", ["policy", "no policy", "run", "no run", "login", "replaces", "no candidate"])
def test_a_decision_about_what_is_elsewhere_is_refused(ground: Ground, wrong: str) -> None:
    told: dict[str, Any] = {}
    if wrong == "policy":
        told["policy"] = seal(ground.settings, "elsewhere", "other")
        told["run"], _ = begin(ground.connection, inputs=ground.inputs)
    elif wrong == "no policy":
        told["policy"] = 404
    elif wrong == "no run":
        told["run"] = uuid4()
    elif wrong == "replaces":
        told["replaces"] = 404
    elif wrong == "no candidate":
        told["run"], _ = begin(ground.connection)
    else:
        job, role = ("evaluation.evaluate", "evaluator") if wrong == "login" else ("training.dpo", "trainer")
        with database.connect(ground.settings, role) as connection:  # type: ignore[arg-type]
            told["run"], _ = begin(connection, job=job, inputs=ground.inputs)
    with pytest.raises((NightshiftError, psycopg.Error)):
        ground.decide(PASSED, **told)
    rows = ground.connection.execute("select from release.decision").fetchall()
    assert rows == []


def test_the_table_keeps_its_rules_for_the_superuser_too(ground: Ground, attacker: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.Error) as caught:
        attacker.execute(
            "insert into release.decision (use_case, kind, policy_id, run_id, model_version_id, outcome, checks,"
            " evidence, needs_person, requested_by)"
            " values ('demo', 'model', %s, %s, %s, 'approve', %s, '{}', false, 'engineer')",
            [ground.policy, ground.run, ground.model, Jsonb(PASSED)],
        )
    assert caught.value.sqlstate == "NS030"


def test_a_policy_that_was_sealed_after_the_gate_began_is_none(ground: Ground) -> None:
    late = seal(ground.settings, "late")
    with pytest.raises(Refused, match="sealed after its gate began"):
        ground.decide(policy=late)


@pytest.mark.parametrize(
    "told", [{"asks_a_person": None}, {"risk_tier": None}, {"risk_tier": "high"}, {"asks_a_person": True}]
)
def test_a_policy_asks_a_person_unless_it_says_otherwise_and_may(ground: Ground, told: dict[str, Any]) -> None:
    policy = seal(ground.settings, "another", **told)
    with database.connect(ground.settings, "trainer") as trainer:
        model = make(trainer, "training.dpo", "adapter", "c" * 64)
    with database.connect(ground.settings, "evaluator") as evaluator:
        kind: dict[str, Any] = {"job": "evaluation.evaluate", "kind": "evaluation", "suites": SUITES}
        inputs = {
            "candidate": model,
            "evaluation.base": ground.inputs["evaluation.base"],
            "evaluation.candidate": make(evaluator, digest="d" * 64, inputs={"adapter": model}, **kind),
        }
    run, _ = begin(ground.connection, inputs=inputs)
    decision = ground.decide(PASSED, policy=policy, run=run)
    assert ground.row(decision)["needs_person"]
    with pytest.raises(Refused, match="no approval"):
        ground.promote(decision)


@pytest.mark.parametrize("order", ["lenient, strict, train, lenient", "train, lenient", "strict, train, lenient"])
def test_the_policy_that_counts_is_the_one_in_force_when_training_began(
    settings: Settings, ground: Ground, order: str
) -> None:
    """A policy of other times needs a person, however early it was sealed first."""
    policies = {"lenient": 0, "strict": 0}
    model = 0
    for step in order.split(", "):
        if step == "train":
            with database.connect(settings, "trainer") as trainer:
                model = make(trainer, "training.dpo", "adapter", "c" * 64)
        else:
            policies[step] = seal(settings, step)
    with database.connect(settings, "evaluator") as evaluator:
        told: dict[str, Any] = {"job": "evaluation.evaluate", "kind": "evaluation", "suites": SUITES}
        base = make(evaluator, digest="a" * 64, **told)
        found = make(evaluator, digest="d" * 64, inputs={"adapter": model}, **told)
    inputs = {"candidate": model, "evaluation.base": base, "evaluation.candidate": found}
    run, _ = begin(ground.connection, inputs=inputs)
    with pytest.raises(Refused, match="was not in force when the training of this model began"):
        ground.decide(PASSED, policy=policies["lenient"], run=run)
    assert ground.row(ground.decide(policy=policies["lenient"], run=run))["needs_person"]


def test_a_policy_between_two_trainings_of_a_candidate_is_not_the_first_one(settings: Settings, ground: Ground) -> None:
    with database.connect(settings, "trainer") as trainer:
        tuned = make(trainer, "training.sft", "adapter", "e" * 64)
        between = seal(settings, "between")
        make(trainer, "training.dpo", "adapter", "c" * 64, inputs={"adapter": tuned})
        rows = database.call(ground.connection, "release.trained_at", "demo", "c" * 64)
        (forced,) = database.call(ground.connection, "release.in_force", "demo", rows[0]["trained_at"])
    assert forced["in_force"] == ground.policy != between


@pytest.mark.parametrize("wrong", ["none", "suites", "no suites", "candidate alone", "base alone", "index", "forged"])
def test_a_model_is_not_approved_on_evaluations_of_something_else(
    ground: Ground, attacker: psycopg.Connection[Any], wrong: str
) -> None:
    if wrong == "forged":
        attacker.execute("update lineage.attempt set login = 'trainer' where login = 'evaluator'")
    elif wrong in ("suites", "no suites"):
        other = None if wrong == "no suites" else [{**SUITES[0], "file": "g"}]
        attacker.execute(
            "update lineage.run set params = %s where params ->> 'suites' <> ''", [Jsonb({"suites": other})]
        )
    elif wrong == "index":
        attacker.execute("update lineage.artifact set kind = 'index_generation' where kind = 'base_model'")
    else:
        gone = {"none": "base,candidate", "candidate alone": "base", "base alone": "candidate"}[wrong].split(",")
        roles = [f"evaluation.{name}" for name in gone]
        attacker.execute("delete from lineage.run_input where run_id = %s and role = any (%s)", [ground.run, roles])
    for checks in (PASSED, CONDITION):
        with pytest.raises(Refused, match="the decision can only block"):
            ground.decide(checks)
    assert ground.decide(FAILED) > 0


@pytest.mark.parametrize("login", ["pipeline", "approver", "trainer", "evaluator", "auditor"])
def test_the_gate_s_login_alone_decides_about_a_model(ground: Ground, login: Role) -> None:
    with database.connect(ground.settings, login) as connection:
        ground.connection, kept = connection, ground.connection
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ground.decide()
        ground.connection = kept


@pytest.mark.parametrize("gates", ["none", "failed", "leaks alone", "no verdict", "not an object"])
def test_an_index_that_did_not_pass_its_gates_is_blocked(
    world: "World", attacker: psycopg.Connection[Any], gates: str
) -> None:
    content: Any = {
        "none": None,
        "failed": {"recall": {"passed": True}, "leaks": {"passed": False}},
        "leaks alone": {"leaks": {"passed": True}},
        "no verdict": {"recall": {"passed": True}, "leaks": {"leaks": 0}},
        "not an object": None,
    }[gates]
    attacker.execute("update rag.generation set gates = %s", [Jsonb(content) if content else None])
    with database.connect(world.settings, "pipeline") as connection:
        run, _ = begin(
            connection, job="retrieval.swap", inputs={"generation": world.versions["index.generation"].version_id}
        )
        decision = deployments.decide_index(connection, run)
        row = connection.execute("select outcome from release.decision where decision_id = %s", [decision]).fetchone()
        assert row is not None
        assert row["outcome"] == "block"
        with pytest.raises(Refused):
            deployments.swap(connection, decision)
    with (
        database.connect(world.settings, "approver") as connection,
        pytest.raises(Refused, match="blocked what it looked at"),
    ):
        deployments.promote(connection, decision)


def test_a_new_index_keeps_the_model_and_names_a_generation(world: "World") -> None:
    with database.connect(world.settings, "pipeline") as connection:
        before = deployments.live(connection, "demo")
    swap_run = world.runs["index"].run_id
    with database.connect(world.settings, "pipeline") as connection:
        for run in (swap_run, uuid4(), world.runs["night-1.gate"].run_id):
            with pytest.raises(Refused, match="is no swap of an index"):
                deployments.decide_index(connection, run)
        run, _ = begin(connection, job="retrieval.swap", inputs={"generation": world.versions["card.card"].version_id})
        with pytest.raises(Refused):
            deployments.swap(connection, deployments.decide_index(connection, run))
        run, _ = begin(
            connection, job="retrieval.swap", inputs={"generation": world.versions["index.generation"].version_id}
        )
        decision = deployments.decide_index(connection, run)
        row = connection.execute("select * from release.decision where decision_id = %s", [decision]).fetchone()
    assert before is not None
    assert row is not None
    assert (row["model_version_id"], row["replaces"]) == (before.model_version_id, before.deployment_id)
    assert row["model_version_id"] is not None


def test_pipeline_records_no_gates(ground: Ground) -> None:
    with (
        database.connect(ground.settings, "pipeline") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select rag.record_gates(1, '{}')")


def roll_back(ground: Ground, to: int, person: str | None = "engineer", why: str = "it is broken", **keys: Any) -> Any:
    """Returns the row of a decision to roll back, as the worker that hands on Airflow's logins makes it."""
    checks = [Check("registry.model", keys.get("verdict", "pass"), "the model exists")]
    checks += [Check("registry.to_nothing", "pass", "it was asked for")] if keys.get("to_nothing") else []
    with database.connect(ground.settings, "approver") as connection:
        return ground.row(deployments.decide_rollback(connection, to, person, why, checks))  # type: ignore[arg-type]


@pytest.mark.parametrize("to", [404, -1, 0])
def test_what_was_never_live_is_nothing_to_roll_back_to(ground: Ground, to: int) -> None:
    ground.released(None)
    with pytest.raises(BadInput, match="there is no deployment"):
        roll_back(ground, to)


@pytest.mark.parametrize("person", ["mallory", "", None, "Engineer", "engineer ", "schedule", "os:nobody", "unknown:x"])
def test_nobody_rolls_back_who_is_not_known(ground: Ground, person: str | None) -> None:
    first = ground.released(None)
    ground.released(first)
    with pytest.raises(Refused, match="no person who may roll back"):
        roll_back(ground, first, person)
    assert roll_back(ground, first, "os:engineer")["requested_by"] == "engineer"


def test_who_has_left_rolls_back_no_more(ground: Ground, attacker: psycopg.Connection[Any]) -> None:
    first = ground.released(None)
    ground.released(first)
    attacker.execute("select release.end_person('engineer')")
    with pytest.raises(Refused, match="no person who may roll back"):
        roll_back(ground, first)


@pytest.mark.parametrize("why", ["", "  ", None])
def test_a_rollback_has_a_reason_and_something_that_stands(ground: Ground, why: Any) -> None:
    first = ground.released(None)
    ground.released(first)
    with pytest.raises(Refused, match="has a reason"):
        roll_back(ground, first, why=why)
    with pytest.raises(Refused, match="does not stand"):
        roll_back(ground, first, verdict="fail")


def test_promotion_needs_the_approval_it_asks_for(ground: Ground) -> None:
    decision = ground.decide()
    with pytest.raises(Refused, match="no approval"):
        ground.promote(decision)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ground.promote(decision, role="pipeline")
    assert ground.answer(decision, "approve", "engineer") == "refused"
    with pytest.raises(Refused, match="no approval"):
        ground.promote(decision)
    assert ground.answer(decision, "approve", "reviewer") == "approve"
    deployment = ground.promote(decision)
    (row,) = ground.connection.execute("select promoted_by, why, login from lineage.deployment").fetchall()
    assert (row["promoted_by"], row["why"], row["login"]) == ("reviewer", "approved by reviewer", "approver")
    assert deployment > 0


def test_promotion_is_of_a_decision_alone(ground: Ground, attacker: psycopg.Connection[Any]) -> None:
    with pytest.raises(BadInput, match="there is no decision"):
        ground.promote(404)
    decision = ground.decide(PASSED)
    attacker.execute(
        "update lineage.artifact_version set purged_at = clock_timestamp() where version_id = %s", [ground.model]
    )
    with pytest.raises(Refused, match="does not stand any more"):
        ground.promote(decision)


@pytest.mark.parametrize("what", ["decided", "live"])
def test_a_clock_that_went_back_is_refused_before_anything_is_committed(
    ground: Ground, attacker: psycopg.Connection[Any], what: str
) -> None:
    first = ground.released(None)
    decision = ground.decide(PASSED, replaces=first)
    if what == "decided":
        attacker.execute("update release.decision set decided_at = clock_timestamp() + interval '1 hour'")
    else:
        attacker.execute("update lineage.deployment set valid_from = clock_timestamp() + interval '1 hour'")
    with pytest.raises(Refused, match="the clock went back"):
        ground.promote(decision)
    rows = ground.connection.execute("select deployment_id, valid_to from lineage.deployment").fetchall()
    assert [(row["deployment_id"], row["valid_to"]) for row in rows] == [(first, None)]


def test_a_gate_whose_clock_went_back_decides_nothing(ground: Ground, attacker: psycopg.Connection[Any]) -> None:
    attacker.execute(
        "update lineage.run set started_at = clock_timestamp() + interval '1 hour' where run_id = %s", [ground.run]
    )
    with pytest.raises(Refused, match="the clock went back"):
        ground.decide(PASSED)


def test_one_deployment_is_live_even_by_direct_insert(ground: Ground, attacker: psycopg.Connection[Any]) -> None:
    first = ground.released(None)
    with pytest.raises(psycopg.errors.UniqueViolation):
        attacker.execute(
            "insert into lineage.deployment (use_case, model_version_id, decision_id, promoted_by, why)"
            " select use_case, model_version_id, decision_id, promoted_by, why from lineage.deployment"
            " where deployment_id = %s",
            [first],
        )


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Returns what each call returned or raised, all begun at the same moment."""
    gate, found = threading.Barrier(len(calls)), [None] * len(calls)

    def run(place: int, call: Callable[[], Any]) -> None:
        gate.wait()
        try:
            found[place] = call()
        except NightshiftError as error:
            found[place] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("champion", [False, True], ids=["nothing live", "one live"])
def test_of_promotions_at_once_exactly_one_wins(ground: Ground, champion: bool) -> None:
    expected = ground.released(None) if champion else None
    decisions = [ground.decide(PASSED, replaces=expected) for _ in range(6)]
    found = at_once(*(lambda d=decision: ground.promote(d) for decision in decisions))
    assert sum(isinstance(one, int) for one in found) == 1
    assert sum(isinstance(one, Stale) for one in found) == 5
    history_is_whole(ground)


def test_of_answers_at_once_exactly_one_counts(ground: Ground) -> None:
    decision = ground.decide()
    found = at_once(
        *(
            lambda a=answer, p=person: ground.answer(decision, a, p)
            for answer, person in [
                ("approve", "reviewer"),
                ("reject", "second"),
                ("timeout", None),
                ("approve", "second"),
            ]
        )
    )
    assert sum(isinstance(one, str) for one in found) == 1
    assert sum(isinstance(one, Refused) for one in found) == 3


def test_an_answer_and_a_supersession_at_once_do_not_both_count(ground: Ground) -> None:
    old, new = ground.decide(), ground.decide()

    def supersede() -> list[int]:
        with database.connect(ground.settings, "gatekeeper") as connection:
            return [row["supersede"] for row in database.call(connection, "release.supersede", new)]

    answered, superseded = at_once(lambda: ground.answer(old, "approve", "reviewer"), supersede)
    assert (answered == "approve") == (superseded == [])
    rows = ground.connection.execute("select answer from release.approval where decision_id = %s", [old]).fetchall()
    assert len(rows) == 1


def test_supersession_reaches_older_waiting_decisions_of_the_same_use_case_alone(ground: Ground) -> None:
    blocked = ground.decide(FAILED)
    answered, waiting = ground.decide(), ground.decide()
    ground.answer(answered, "reject", "reviewer")
    ground.answer(waiting, "approve", "engineer")  # refused: it waits on
    newest = ground.decide()
    rows = database.call(ground.connection, "release.supersede", newest)
    assert [row["supersede"] for row in rows] == [waiting]
    assert database.call(ground.connection, "release.supersede", newest) == []
    assert database.call(ground.connection, "release.supersede", blocked) == []


def history_is_whole(ground: Ground) -> None:
    """The history neither overlaps nor has a gap, and what each replaced is what was live before it."""
    rows = ground.connection.execute("select * from lineage.deployment order by deployment_id").fetchall()
    for before, after in pairwise(rows):
        assert after["replaces"] == before["deployment_id"]
        assert after["valid_from"] == before["valid_to"]
    assert [row["valid_to"] is None for row in rows] == [False] * (len(rows) - 1) + [True] * min(len(rows), 1)
    for row in rows:
        (live,) = database.call(ground.connection, "lineage.what_was_live", row["valid_from"])
        assert live["deployment_id"] == row["deployment_id"]


@effort(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["promote", "stale", "blocked", "two at once", "fail"]), min_size=1, max_size=6))
def test_the_history_of_deployments_has_no_overlap_and_no_gap(ground: Ground, steps: list[str]) -> None:
    for step in steps:
        row = ground.connection.execute(
            "select deployment_id id from lineage.deployment where valid_to is null"
        ).fetchone()
        live = None if row is None else row["id"]
        decision = ground.decide(FAILED if step == "blocked" else PASSED, replaces=live)
        if step == "two at once":
            other = ground.decide(PASSED, replaces=live)
            found = at_once(lambda: ground.promote(decision), lambda: ground.promote(other))  # noqa: B023
            assert sum(isinstance(one, int) for one in found) == 1
        elif step == "blocked":
            with pytest.raises(Refused):
                ground.promote(decision)
        elif step == "stale":
            ground.promote(decision)
            with pytest.raises(Stale):
                ground.promote(decision)
        elif step == "fail":  # the transaction is lost after the promotion: nothing of it may stay
            with database.connect(ground.settings, "approver") as connection:
                connection.autocommit = False
                database.call(connection, "lineage.promote", decision)
                connection.rollback()
        else:
            ground.promote(decision)
        history_is_whole(ground)
