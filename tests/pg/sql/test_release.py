"""The rules of a release, attacked below the code that keeps them: by direct statements, and by two at once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from pipeline import database
from pipeline.database import Connection, Role
from pipeline.errors import BadInput, NightshiftError, Refused, Stale
from pipeline.settings import Settings

pytestmark = pytest.mark.pg

DIGEST = "0123456789abcdef" * 4
SUITES = [{"name": "facts", "file": "f", "limit": None}]
PASSED = [{"name": "correct.minimum", "verdict": "pass"}]


@dataclass
class Ground:
    """One gate run in engineer's name, a sealed policy, and a model, as little as the rules need."""

    settings: Settings
    connection: Connection  # as gatekeeper
    run: UUID
    policy: int
    model: int
    inputs: dict[str, int]  # what the gate's run looks at

    def decide(self, **told: Any) -> int:
        """Returns the id of a decision that is in order, but for what is told."""
        keys: dict[str, Any] = {
            "use_case": "demo", "kind": "model", "policy_id": self.policy, "run_id": self.run,
            "model_version_id": self.model, "index_version_id": None, "replaces": None, "outcome": "approve",
            "checks": PASSED, "evidence": {}, "needs_person": True, "requested_by": "engineer",
        } | told  # fmt: skip
        names = ", ".join(keys)
        places = ", ".join(f"%({name})s" for name in keys)
        keys |= {"checks": Jsonb(keys["checks"]), "evidence": Jsonb(keys["evidence"])}
        row = self.connection.execute(
            f"insert into release.decision ({names}) values ({places}) returning decision_id".encode(),
            keys,
        ).fetchone()
        assert row is not None
        return int(row["decision_id"])

    def answer(self, decision: int, answer: str, person: str | None) -> str:
        with database.connect(self.settings, "approver") as connection:
            (row,) = database.call(connection, "release.answer", decision, answer, person, "because")
        return str(row["answer"])

    def promote(self, decision: int, expected: int | None, model: int | None = None, role: Role = "approver") -> int:
        with database.connect(self.settings, role) as connection, database.told():
            row = connection.execute(
                "select lineage.promote('demo', 'live', %s::bigint, null, %s::bigint, %s::bigint, 'x', 'because') id",
                [self.model if model is None else model, expected, decision],
            ).fetchone()
        assert row is not None
        return int(row["id"])

    def released(self, expected: int | None) -> int:
        """Returns the deployment of a new decision that needs no person, against what is live."""
        return self.promote(self.decide(replaces=expected, **self.free), expected)

    @property
    def free(self) -> dict[str, Any]:
        """Returns what makes a decision one that nobody is asked about."""
        return {"needs_person": False}


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
        inputs = {"model": model} | evaluations
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
        ("evaluator", "select lineage.promote('demo', 'live', 1, null, null, 1, 'x', 'x')"),
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
    ("told", "reason"),
    [
        ({"outcome": "approve_with_conditions", "needs_person": False}, "a person has to answer"),
        ({"requested_by": "somebody else"}, "asked for by engineer"),
        ({"checks": []}, "did not pass"),
        ({"checks": [{"name": "x"}]}, "did not pass"),
        ({"checks": [{"verdict": "inconclusive"}]}, "did not pass"),
        ({"checks": [*PASSED, {"verdict": "fail"}]}, "did not pass"),
        ({"checks": [{"verdict": "condition"}]}, "did not pass"),
        ({"checks": [{"verdict": "inconclusive"}], "outcome": "approve_with_conditions"}, "did not pass"),
        ({"use_case": "other"}, "none of use case other"),
    ],
)
def test_a_decision_that_breaks_a_rule_is_not_written(ground: Ground, told: dict[str, Any], reason: str) -> None:
    with pytest.raises(psycopg.Error, match=reason) as caught:
        ground.decide(**told)
    assert caught.value.sqlstate == "NS024"


def test_a_block_may_say_anything(ground: Ground) -> None:
    decision = ground.decide(outcome="block", checks=[], needs_person=False)
    with pytest.raises(Refused, match="blocked"):
        ground.promote(decision, None)


def test_a_policy_that_was_sealed_after_the_gate_began_is_none(ground: Ground) -> None:
    late = seal(ground.settings, "late")
    with pytest.raises(psycopg.Error, match="sealed after its gate began"):
        ground.decide(policy_id=late)


@pytest.mark.parametrize(
    "told", [{"asks_a_person": None}, {"risk_tier": None}, {"risk_tier": "high"}, {"asks_a_person": True}]
)
def test_a_policy_asks_a_person_unless_it_says_otherwise_and_may(ground: Ground, told: dict[str, Any]) -> None:
    policy = seal(ground.settings, "another", **told)
    run, _ = begin(ground.connection)
    with pytest.raises(psycopg.Error, match="a person has to answer"):
        ground.decide(policy_id=policy, run_id=run, needs_person=False)


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
    run, _ = begin(ground.connection, inputs={"model": model, "base": base, "candidate": found})
    told = {"policy_id": policies["lenient"], "run_id": run, "model_version_id": model}
    with pytest.raises(psycopg.Error, match="was not in force when the training of this model began"):
        ground.decide(**told, needs_person=True)
    assert ground.decide(**told, outcome="approve_with_conditions", needs_person=True) > 0


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
        attacker.execute("delete from lineage.run_input where run_id = %s and role = any (%s)", [ground.run, gone])
    with pytest.raises(psycopg.Error, match="the decision can only block"):
        ground.decide()
    assert ground.decide(outcome="block") > 0


@pytest.mark.parametrize("login", ["pipeline", "approver", "trainer", "evaluator", "auditor"])
def test_the_gate_s_login_alone_decides_about_a_model(ground: Ground, login: Role) -> None:
    with database.connect(ground.settings, login) as connection:
        ground.connection, kept = connection, ground.connection
        with pytest.raises(psycopg.Error) as caught:
            ground.decide()
        ground.connection = kept
    assert caught.value.sqlstate in ("NS030", "42501")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({}, "keeps the model of what it replaces"),
        ({"model_version_id": None}, "has passed its gates"),
        ({"model_version_id": None, "replaces": 404}, "none of use case"),
    ],
)
def test_an_index_decision_brings_in_neither_a_model_nor_an_ungated_index(
    ground: Ground, told: dict[str, Any], reason: str
) -> None:
    with database.connect(ground.settings, "pipeline") as connection:
        ground.connection = connection
        index = {"index_version_id": ground.model, "kind": "index", "needs_person": False}
        with pytest.raises(psycopg.Error, match=reason):
            ground.decide(**index, **told)


def test_pipeline_records_no_gates(ground: Ground) -> None:
    with (
        database.connect(ground.settings, "pipeline") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select rag.record_gates(1, '{}')")


def test_what_was_never_live_is_nothing_to_roll_back_to(ground: Ground) -> None:
    with database.connect(ground.settings, "approver") as connection:
        ground.connection = connection
        with pytest.raises(psycopg.Error, match="never live"):
            ground.decide(kind="rollback")


def test_promotion_needs_the_approval_it_asks_for(ground: Ground) -> None:
    decision = ground.decide()
    with pytest.raises(Refused, match="no approval"):
        ground.promote(decision, None)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ground.promote(decision, None, role="pipeline")
    assert ground.answer(decision, "approve", "engineer") == "refused"
    with pytest.raises(Refused, match="no approval"):
        ground.promote(decision, None)
    assert ground.answer(decision, "approve", "reviewer") == "approve"
    assert ground.promote(decision, None) > 0


def test_promotion_is_of_what_was_decided_alone(ground: Ground) -> None:
    decision = ground.decide(**ground.free)
    with pytest.raises(Refused, match="another pair"):
        ground.promote(decision, None, model=ground.model + 1)
    with pytest.raises(Refused, match="another pair"):
        ground.promote(decision, 77)
    with pytest.raises(BadInput, match="none of use case"):
        ground.promote(404, None)


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


@pytest.mark.parametrize("live", [False, True], ids=["nothing live", "one live"])
def test_of_promotions_at_once_exactly_one_wins(ground: Ground, live: bool) -> None:
    expected = ground.released(None) if live else None
    decisions = [ground.decide(replaces=expected, **ground.free) for _ in range(6)]
    found = at_once(*(lambda d=decision: ground.promote(d, expected) for decision in decisions))
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
    blocked = ground.decide(outcome="block")
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
        decision = ground.decide(replaces=live, outcome="block" if step == "blocked" else "approve", **ground.free)
        if step == "two at once":
            other = ground.decide(replaces=live, **ground.free)
            found = at_once(lambda: ground.promote(decision, live), lambda: ground.promote(other, live))  # noqa: B023
            assert sum(isinstance(one, int) for one in found) == 1
        elif step == "blocked":
            with pytest.raises(Refused):
                ground.promote(decision, live)
        elif step == "stale":
            ground.promote(decision, live)
            with pytest.raises(Stale):
                ground.promote(decision, live)
        elif step == "fail":  # the transaction is lost after the promotion: nothing of it may stay
            with database.connect(ground.settings, "approver") as connection:
                connection.autocommit = False
                connection.execute(
                    "select lineage.promote('demo', 'live', %s::bigint, null, %s::bigint, %s::bigint, 'x', 'x')",
                    [ground.model, live, decision],
                )
                connection.rollback()
        else:
            ground.promote(decision, live)
        history_is_whole(ground)
