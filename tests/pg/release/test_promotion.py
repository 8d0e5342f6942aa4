"""Promotion and rollback: bound to a decision, against what was live then, once."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import release
from pipeline.errors import BadInput, Refused, Stale
from pipeline.release.records import Unchanged

if TYPE_CHECKING:
    from tests.pg.release.conftest import House

pytestmark = pytest.mark.pg


def test_a_decision_is_promoted_once(house: "House") -> None:
    decision = house.night("one").decision_id
    first = release.promote(house.settings, decision)
    again = release.promote(house.settings, decision)
    assert again == replace(first, already=True)
    assert len(house.rows("select from lineage.deployment")) == 1


def test_a_decision_about_what_is_not_live_any_more_is_stale(house: "House") -> None:
    one, two = house.night("one").decision_id, house.night("two").decision_id
    assert house.rows("select from release.approval where decision_id = %s and answer = 'superseded'", one)
    house.index("new documents")
    with pytest.raises(Stale, match="which the decision was made against"):
        release.promote(house.settings, two)
    assert [row["model_digest"] for row in house.rows("select model_digest from lineage.live")] == [None]


def test_the_model_goes_live_with_the_index_it_was_evaluated_on(house: "House") -> None:
    index = house.index("documents")
    promoted = house.release("one")
    assert promoted.index == index.digest
    (live,) = house.rows("select index_digest, model_digest, promoted_by from lineage.live")
    assert (live["index_digest"], live["promoted_by"]) == (index.digest, "engineer")


def test_the_weights_say_what_is_unchanged(house: "House") -> None:
    other = house.adapter("two")
    assert release.unchanged(house.settings, house.usecase, other) == Unchanged(False, other.digest, None)
    house.release("one")
    assert release.unchanged(house.settings, house.usecase, house.adapter("one")).unchanged
    assert not release.unchanged(house.settings, house.usecase, other).unchanged


def test_a_rollback_brings_the_earlier_pair_back_in_a_persons_name(house: "House") -> None:
    index = house.index("documents")
    first = house.release("one")
    house.release("two", right=55)
    back = release.rollback(house.settings, house.usecase, first.deployment_id, "oncall", "complaints at night")
    assert isinstance(back, release.Promoted)
    assert (back.model, back.index) == (first.model, index.digest)
    (decision,) = house.rows("select * from release.decision where decision_id = %s", back.decision_id)
    assert (decision["kind"], decision["requested_by"]) == ("rollback", "oncall")
    newest = release.history(house.settings, house.usecase)[0]
    assert (newest.by, newest.why, newest.until) == ("oncall", "complaints at night", None)


def test_a_rollback_to_what_is_live_or_elsewhere_is_refused(house: "House") -> None:
    promoted = house.release("one")
    with pytest.raises(Refused, match="live already"):
        release.rollback(house.settings, house.usecase, promoted.deployment_id, "oncall", "why not")
    with pytest.raises(BadInput, match="no deployment of demo"):
        release.rollback(house.settings, house.usecase, 404, "oncall", "why not")
    with pytest.raises(BadInput, match="for a reason"):
        release.rollback(house.settings, house.usecase, promoted.deployment_id, "oncall", "")


def test_a_rollback_to_a_model_that_does_not_stand_any_more_is_refused(house: "House", attacker: Any) -> None:
    first = house.release("one")
    house.release("two", right=55)
    digest = first.model
    assert digest is not None
    file = Path(house.settings.artifacts) / "private" / "trainer" / "adapter" / digest[:2] / digest / "adapter.txt"
    kept = file.read_bytes()
    file.write_bytes(b"other weights")
    with pytest.raises(Refused, match="does not match its recorded hash"):
        release.rollback(house.settings, house.usecase, first.deployment_id, "oncall", "complaints")
    file.write_bytes(kept)
    attacker.execute("update lineage.artifact_version set purged_at = now() where digest = %s", [digest])
    with pytest.raises(Refused, match="purged"):
        release.rollback(house.settings, house.usecase, first.deployment_id, "oncall", "complaints")
    assert len(house.rows("select from lineage.deployment")) == 2


def test_withdrawn_documents_stay_withdrawn_over_a_rollback(world: Any, house: "House", attacker: Any) -> None:
    """Back to the pair from before the withdrawal: its generation serves the document to nobody."""
    from pipeline import database

    before = world.deployments["model"]
    house.index("an index without it")
    with database.connect(house.settings, "pipeline") as connection:
        database.call(connection, "rag.withdraw", "demo", "notice", "the firm moved")
    release.rollback(house.settings, house.usecase, before, "oncall", "the new index is broken")
    served = attacker.execute("select document_key from rag.served_documents order by document_key").fetchall()
    assert served == [("hazard",), ("leave",)]
    states = attacker.execute("select state from rag.generation order by generation_id").fetchall()
    assert states == [("live",), ("retired",)]


def test_a_rollback_that_names_no_deployment_lists_the_earlier_pairs(house: "House") -> None:
    with pytest.raises(BadInput, match="names the earlier deployment") as caught:
        release.rollback(house.settings, house.usecase, None, "oncall", "complaints")
    assert caught.value.details["allowed"] == "none"
    first = house.release("one")
    house.release("two", right=55)
    for to in (None, 404):
        with pytest.raises(BadInput) as caught:
            release.rollback(house.settings, house.usecase, to, "oncall", "complaints")
        allowed = caught.value.details["allowed"]
        assert isinstance(allowed, list)
        (pair,) = allowed
        assert pair.startswith(f"{first.deployment_id}: model {(first.model or '')[:12]}")


@pytest.mark.parametrize("tier", ["house", "strict"])
def test_a_rollback_to_nothing_has_to_say_so_and_in_a_high_tier_asks_a_second_person(
    request: pytest.FixtureRequest, tier: str
) -> None:
    place: House = request.getfixturevalue(tier)
    place.index("documents")
    (empty,) = place.rows("select deployment_id from lineage.live")
    decision = place.night("one").decision_id
    if tier == "strict":
        release.answer(place.settings, place.usecase, decision, "approve", "reviewer", "it is good")
    promoted = release.promote(place.settings, decision)
    roll = (place.settings, place.usecase, empty["deployment_id"], "oncall", "it says terrible things")
    with pytest.raises(Refused, match="nothing would answer") as caught:
        release.rollback(*roll)
    assert "--to-nothing" in str(caught.value)
    back = release.rollback(*roll, to_nothing=True)
    if tier == "house":
        assert isinstance(back, release.Promoted)
        assert back.model is None
        return
    assert isinstance(back, release.RollbackWaits)
    assert back.waits == "for a second person's approval"
    (live,) = place.rows("select deployment_id from lineage.live")
    assert live["deployment_id"] == promoted.deployment_id, "nothing changed yet"
    with pytest.raises(Refused, match="no approval"):
        release.promote(place.settings, back.decision_id)
    assert (
        release.answer(place.settings, place.usecase, back.decision_id, "approve", "oncall", "me").answer == "refused"
    )
    answered = release.answer(place.settings, place.usecase, back.decision_id, "approve", "reviewer", "I agree")
    assert answered.answer == "approve"
    assert release.promote(place.settings, back.decision_id).model is None


def test_what_a_rollback_took_out_comes_back_by_two_persons_alone(house: "House") -> None:
    """Also in a tier that asks nobody, and also by one who may approve."""
    first = house.release("one")
    second = house.release("two", right=55)
    release.rollback(house.settings, house.usecase, first.deployment_id, "oncall", "complaints")
    again = release.rollback(house.settings, house.usecase, second.deployment_id, "reviewer", "they were wrong")
    assert isinstance(again, release.RollbackWaits)
    with pytest.raises(Refused, match="no approval"):
        release.promote(house.settings, again.decision_id)
    own = release.answer(house.settings, house.usecase, again.decision_id, "approve", "reviewer", "mine")
    assert own.answer == "refused"
    release.answer(house.settings, house.usecase, again.decision_id, "approve", "engineer", "agreed")
    promoted = release.promote(house.settings, again.decision_id)
    assert promoted.model == second.model
    (live,) = house.rows("select why from lineage.deployment where valid_to is null")
    assert live["why"] == "they were wrong; approved by engineer"


@pytest.mark.parametrize("damage", ["missing", "changed", "manifest", "purged"])
def test_a_model_that_is_not_there_is_not_promoted(house: "House", attacker: Any, damage: str) -> None:
    decision = house.night("one").decision_id
    (row,) = house.rows(
        "select v.digest from release.decision d join lineage.artifact_version v on v.version_id = d.model_version_id"
        " where d.decision_id = %s",
        decision,
    )
    digest = row["digest"]
    folder = Path(house.settings.artifacts) / "private" / "trainer" / "adapter" / digest[:2] / digest
    if damage == "missing":
        (folder / "adapter.txt").unlink()
    elif damage == "changed":
        (folder / "adapter.txt").write_bytes(b"other weights")
    elif damage == "manifest":
        (folder / "manifest.json").unlink()
    else:
        attacker.execute("update lineage.artifact_version set purged_at = now() where digest = %s", [digest])
    with pytest.raises(Refused, match="no longer exists"):
        release.promote(house.settings, decision)
    assert house.rows("select from lineage.deployment") == []
