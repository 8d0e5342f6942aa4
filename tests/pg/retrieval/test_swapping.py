"""Swaps beside releases: the model stays, and what goes live meanwhile is not lost."""

from typing import Any

import psycopg
import pytest

from pipeline import canonical, database, deployments, retrieval, steps
from pipeline.context import Context
from pipeline.errors import Stale
from pipeline.steps import Attempt, Origin, Output, Result, Step
from tests.pg.retrieval.conftest import DOCUMENTS, Library, changed, rows

pytestmark = [pytest.mark.pg, pytest.mark.usefixtures("hashed")]


def ready(library: Library, origin: Origin, text: str) -> tuple[retrieval.Built, retrieval.Gated]:
    """Returns a generation that is built, and its gates."""
    library.commit(changed(DOCUMENTS, "notice", text=text))
    planned = retrieval.plan(Context(library.settings, library.usecase, origin))
    for batch in range(planned.batches):
        retrieval.embed(Context(library.settings, library.usecase, origin), planned, batch)
    built = retrieval.build(Context(library.settings, library.usecase, origin), planned)
    return built, retrieval.check(Context(library.settings, library.usecase, origin), built)


def release(library: Library, attacker: psycopg.Connection[Any], name: str) -> int:
    """Makes a model live beside whatever index is. Returns the model's version. Written past the rules of a release,
    which are tested elsewhere: what counts here is that another deployment is live."""

    def work(attempt: Attempt) -> Result:
        return Result({"adapter": Output("adapter", name, canonical.digest_text(name), None, 0, False)})

    spec = Step("demo", "training.dpo", "trainer", ("pipeline.canonical",), {"name": name}, reuse="never")
    model = steps.run(library.settings, Origin("cli", "tester"), spec, work).outputs["adapter"].version_id
    with attacker.transaction():
        attacker.execute("set local session_replication_role = replica")
        attacker.execute(
            "with ended as (update lineage.deployment set valid_to = clock_timestamp() where valid_to is null"
            "               returning index_version_id)"
            " insert into lineage.deployment"
            " (use_case, model_version_id, index_version_id, decision_id, promoted_by, why)"
            " select 'demo', %s, (select index_version_id from ended), 0, 'engineer', 'a test'",
            [model],
        )
    return model


def test_the_model_stays(library: Library, origin: Origin, attacker: psycopg.Connection[Any]) -> None:
    model = release(library, attacker, "one")
    built, checked = ready(library, origin, "First.")
    assert retrieval.swap(Context(library.settings, library.usecase, origin), built, checked).swapped is True
    with database.connect(library.settings, "pipeline") as connection:
        live = deployments.live(connection, "demo")
    assert live is not None
    assert live.model_version_id == model
    assert live.index_digest == built.version.digest


def test_what_is_live_already_is_not_swapped(library: Library, origin: Origin) -> None:
    built, checked = ready(library, origin, "First.")
    first = retrieval.swap(Context(library.settings, library.usecase, origin), built, checked)
    second = retrieval.swap(Context(library.settings, library.usecase, origin), built, checked)
    assert (second.swapped, second.deployment, second.decision) == (False, first.deployment, None)


def test_a_release_at_the_same_moment_is_not_lost(
    library: Library, origin: Origin, attacker: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release goes live between the decision and the swap: it is decided anew, beside the new model."""
    built, checked = ready(library, origin, "First.")
    models: list[int] = []
    swap = deployments.swap

    def late(connection: database.Connection, decision: int) -> int:
        if not models:
            models.append(release(library, attacker, "one"))
        return swap(connection, decision)

    monkeypatch.setattr(deployments, "swap", late)
    assert retrieval.swap(Context(library.settings, library.usecase, origin), built, checked).swapped is True
    monkeypatch.undo()
    found = rows(attacker, "select model_version_id, index_version_id from lineage.deployment where valid_to is null")
    assert found == [(models[0], built.version.version_id)]
    assert rows(attacker, "select count(*) from release.decision where kind = 'index'") == [(1,)]


def test_what_never_comes_to_rest_is_reported(
    library: Library, origin: Origin, attacker: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built, checked = ready(library, origin, "First.")
    swap, models = deployments.swap, iter(("one", "two", "three", "four", "five"))

    def late(connection: database.Connection, decision: int) -> int:
        release(library, attacker, next(models))
        return swap(connection, decision)

    monkeypatch.setattr(deployments, "swap", late)
    with pytest.raises(Stale, match="which the decision was made against"):
        retrieval.swap(Context(library.settings, library.usecase, origin), built, checked)
    assert rows(attacker, "select count(*) from release.decision where kind = 'index'") == [(0,)]
    swaps = "select r.state from lineage.run r join lineage.job j using (job_id) where j.name = 'retrieval.swap'"
    assert rows(attacker, swaps) == [("failed",)]


def test_the_decision_names_its_evidence(library: Library, origin: Origin, attacker: psycopg.Connection[Any]) -> None:
    built, checked = ready(library, origin, "First.")
    retrieval.swap(Context(library.settings, library.usecase, origin), built, checked)
    ((kind, outcome, evidence, needs_person, requested_by),) = rows(
        attacker, "select kind, outcome, evidence, needs_person, requested_by from release.decision"
    )
    assert (kind, outcome, needs_person, requested_by) == ("index", "approve", False, "tester")
    assert evidence == {
        "generation": built.version.digest,
        "gates": checked.report.digest,
    }


def test_the_index_descends_from_its_corpus(library: Library, origin: Origin) -> None:
    built, _ = ready(library, origin, "First.")
    with database.connect(library.settings, "reader") as connection:
        up = database.call(connection, "lineage.ancestry", built.version.version_id)
    with database.connect(library.settings, "pipeline") as connection:
        kinds = {steps.version(connection, row["version_id"]).kind for row in up}
    assert kinds == {"index_generation", "index_plan", "corpus"}
