"""Erasure as the database has it: what was live stays until it is trained again, and nobody goes back to it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.types.json import Jsonb

from pipeline import data, database, deployments, release, usecase
from pipeline.context import Context
from pipeline.data import erasure
from pipeline.data.impact import Target
from pipeline.errors import Refused
from pipeline.operations import cookbook
from pipeline.steps import Origin
from tests.pg.conftest import USE_CASE, World, _night

pytestmark = pytest.mark.pg


@pytest.fixture
def context(world: World, usecase_folder: Callable[..., Path]) -> Context:
    """The context of an engineer's work on the use case."""
    usecase_folder(name=USE_CASE)
    return Context(world.settings, usecase.find(world.settings, USE_CASE), Origin("cli", "engineer"))


def forget(context: Context, document: str) -> erasure.Erased:
    asked = erasure.request(context, Target("document", document), "its author asked for it")
    erasure.answer(context.settings, context.usecase, asked.erasure, "approve", "he is right", "reviewer")
    gone = erasure.erase(context, asked.erasure)
    data.certify(context, asked.erasure)
    return gone


def say(world: World) -> None:
    """Lets the models answer a question, the base model from two documents."""
    with database.connect(world.settings, "evaluator") as connection:
        connection.execute(
            "insert into eval.suite_case (suite_id, case_key, digest, question, expect)"
            " select min(suite_id), 'a', 'd', null, null from eval.suite"  # as a case of the locked test split
        )
        for subject, document, answer, at_most in (
            ("candidate", "notice", "as it was trained", 2),
            ("base", "leave", "from the document", 1),
        ):
            connection.execute(
                "insert into eval.result (evaluation_id, case_id, scores, answer, answer_digest, documents, seconds)"
                " select evaluation_id, case_id, '{\"correct\": 1}', %s, 'd', array[%s], 1 from ("
                " select distinct on (model_version_id) evaluation_id from eval.evaluation"
                " where subject = %s and index_version_id is not null order by model_version_id, evaluation_id limit %s"
                ") e, (select max(case_id) as case_id from eval.suite_case) c",
                [answer, document, subject, at_most],
            )
        connection.execute(
            "insert into eval.result (evaluation_id, case_id, scores, answer, answer_digest, documents, seconds)"
            " select max(evaluation_id), (select max(case_id) from eval.suite_case), '{\"correct\": 1}',"
            " 'from another document', 'd', array['notice'], 1 from eval.evaluation where subject = 'base'"
        )


def to_nothing(world: World, context: Context) -> None:
    """Rolls back to the pair without a model, which a second person agrees to."""
    arguments = (world.settings, context.usecase, world.deployments["index"], "reviewer", "the model is wrong")
    waits = release.rollback(*arguments, to_nothing=True)
    with database.connect(world.settings, "approver") as connection:
        database.call(connection, "release.answer", waits.decision_id, "approve", "engineer", "it is", USE_CASE)
        deployments.promote(connection, waits.decision_id)


def test_chunks_embeddings_and_answers_go(world: World, context: Context) -> None:
    say(world)
    touched = erasure.touched(world.settings, context.usecase, Target("document", "leave"))
    assert touched.live
    assert list(touched.chunks.values()) == [1]
    assert [each.live for each in touched.made if each.trained] == [True, False]
    assert touched.answers == 3  # two by models that were trained on it, one by the base model that had read it
    gone = forget(context, "leave")
    assert (gone.chunks, gone.document_versions, gone.examples) == (1, 1, 1)
    assert gone.answers == touched.answers
    with database.connect(world.settings, "pipeline") as connection:
        left = database.fetch(connection, "retrieval", "generation_keys", generation=world.generation)
        assert sorted(row["document_key"] for row in left) == ["hazard", "notice"]
        answers = connection.execute("select answer, scores from eval.result order by answer nulls first").fetchall()
    assert [row["answer"] for row in answers] == [None, None, None, "from another document"]
    assert all(row["scores"] == {"correct": 1} for row in answers)


def test_the_champion_is_flagged_and_answers_on(world: World, context: Context) -> None:
    forget(context, "leave")
    flagged = cookbook.run(world.settings, "to_retrain", {"use_case": USE_CASE})
    assert [(row["erased_rows"], row["live"]) for row in flagged] == [(1, True), (1, False)]
    live = cookbook.run(world.settings, "in_production", {})
    assert live[0]["model_digest"] == flagged[0]["digest"]
    assert data.forget(world.settings, [context.usecase], Origin("cli", "schedule")).models == 1  # not the champion


def test_nobody_goes_back_to_it(world: World, context: Context) -> None:
    released = world.deployments["model"]
    to_nothing(world, context)
    forget(context, "leave")
    with pytest.raises(Refused, match="trained on rows that were erased since"):
        release.rollback(world.settings, context.usecase, released, "reviewer", "it was better")


def test_a_candidate_that_was_trained_on_it_is_not_released(world: World, context: Context) -> None:
    to_nothing(world, context)
    _night(world, "night-3", quality=0.95, outcome="approve_with_conditions", needs_person=True)
    decision = world.decisions["night-3"]
    with database.connect(world.settings, "approver") as connection:
        database.call(connection, "release.answer", decision, "approve", "reviewer", "looks fine", USE_CASE)
        forget(context, "leave")
        with pytest.raises(Refused, match="trained on rows that were erased since"):
            deployments.promote(connection, decision)


def test_a_document_that_nobody_trained_on_flags_nothing(world: World, context: Context) -> None:
    forget(context, "hazard")
    assert cookbook.run(world.settings, "to_retrain", {"use_case": USE_CASE}) == []
    (version,) = cookbook.run(world.settings, "redacted_versions", {"use_case": USE_CASE})
    assert (version["kind"], version["erased"]) == ("documents", 1)


def test_a_build_that_had_staged_it_starts_again(world: World, context: Context) -> None:
    with database.connect(world.settings, "pipeline") as connection:
        (created,) = database.call(connection, "rag.create_version", USE_CASE, "0" * 64, Jsonb({}), ["acme"])
    forget(context, "leave")
    with (
        database.connect(world.settings, "pipeline") as connection,
        pytest.raises(Refused, match="is dropped, not building"),
    ):
        database.call(connection, "rag.seal_version", created["generation_id"])
