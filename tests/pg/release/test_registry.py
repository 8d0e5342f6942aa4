"""Promotion and rollback: bound to a decision, against what was live then, once."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import release
from pipeline.errors import BadInput, Refused, Stale

if TYPE_CHECKING:
    from tests.pg.release.conftest import House

pytestmark = pytest.mark.pg


def test_a_decision_is_promoted_once(house: "House") -> None:
    decision = house.night("one")["decision_id"]
    first = release.promote(house.settings, decision)
    again = release.promote(house.settings, decision)
    assert again == first | {"already": True}
    assert len(house.rows("select from lineage.deployment")) == 1


def test_a_decision_about_what_is_not_live_any_more_is_stale(house: "House") -> None:
    one, two = house.night("one")["decision_id"], house.night("two")["decision_id"]
    assert house.rows("select from release.approval where decision_id = %s and answer = 'superseded'", one)
    house.index("new documents")
    with pytest.raises(Stale, match="which the decision was made against"):
        release.promote(house.settings, two)
    assert [row["model_digest"] for row in house.rows("select model_digest from lineage.live")] == [None]


def test_the_model_goes_live_with_the_index_it_was_evaluated_on(house: "House") -> None:
    index = house.index("documents")
    promoted = house.release("one")
    assert promoted["index"] == index.digest
    (live,) = house.rows("select index_digest, model_digest, promoted_by from lineage.live")
    assert (live["index_digest"], live["promoted_by"]) == (index.digest, "engineer")


def test_unchanged_is_told_by_the_weights(house: "House") -> None:
    other = house.adapter("two")
    assert release.unchanged(house.settings, house.usecase, other) == {
        "unchanged": False,
        "candidate": other["digest"],
        "champion": None,
    }
    house.release("one")
    assert release.unchanged(house.settings, house.usecase, house.adapter("one"))["unchanged"]
    assert not release.unchanged(house.settings, house.usecase, other)["unchanged"]


def test_a_rollback_brings_the_earlier_pair_back_in_a_persons_name(house: "House") -> None:
    index = house.index("documents")
    first = house.release("one")
    house.release("two", right=55)
    back = release.rollback(house.settings, house.usecase, first["deployment_id"], "oncall", "complaints at night")
    assert (back["model"], back["index"]) == (first["model"], index.digest)
    (decision,) = house.rows("select * from release.decision where decision_id = %s", back["decision_id"])
    assert (decision["kind"], decision["requested_by"]) == ("rollback", "oncall")
    newest = release.history(house.settings, house.usecase)[0]
    assert (newest["by"], newest["why"], newest["to"]) == ("oncall", "complaints at night", None)


def test_a_rollback_to_what_is_live_or_elsewhere_is_refused(house: "House") -> None:
    promoted = house.release("one")
    with pytest.raises(Refused, match="live already"):
        release.rollback(house.settings, house.usecase, promoted["deployment_id"], "oncall", "why not")
    with pytest.raises(BadInput, match="no deployment of demo"):
        release.rollback(house.settings, house.usecase, 404, "oncall", "why not")
    with pytest.raises(BadInput, match="for a reason"):
        release.rollback(house.settings, house.usecase, promoted["deployment_id"], "oncall", "")


def test_a_rollback_to_a_model_that_does_not_stand_any_more_is_refused(house: "House", attacker: Any) -> None:
    first = house.release("one")
    house.release("two", right=55)
    digest = first["model"]
    file = Path(house.settings.artifacts) / "private" / "trainer" / "adapter" / digest[:2] / digest / "adapter.txt"
    kept = file.read_bytes()
    file.write_bytes(b"other weights")
    with pytest.raises(Refused, match="does not hash as recorded"):
        release.rollback(house.settings, house.usecase, first["deployment_id"], "oncall", "complaints")
    file.write_bytes(kept)
    attacker.execute("update lineage.artifact_version set purged_at = now() where digest = %s", [digest])
    with pytest.raises(Refused, match="purged"):
        release.rollback(house.settings, house.usecase, first["deployment_id"], "oncall", "complaints")
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
