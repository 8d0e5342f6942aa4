"""Persons' answers: not one's own, final, and silence is no."""

from typing import TYPE_CHECKING

import pytest

from pipeline import release
from pipeline.errors import BadInput, Refused
from pipeline.steps import Origin

if TYPE_CHECKING:
    from tests.pg.release.conftest import House

pytestmark = pytest.mark.pg

ENGINEER = Origin("cli", "engineer")


def answers(house: "House", decision: int) -> list[tuple[str, str | None, str]]:
    rows = house.rows("select * from release.approval where decision_id = %s order by approval_id", decision)
    return [(row["answer"], row["person"], row["login"]) for row in rows]


def answer(house: "House", decision: int, given: str, person: str | None, reason: str | None) -> str:
    return release.answer(house.settings, house.usecase, decision, given, person, reason).answer


def live(house: "House") -> list[str]:
    return [row["model_digest"] for row in house.rows("select model_digest from lineage.live")]


def test_a_person_approves_and_the_pair_goes_live(strict: "House") -> None:
    decision = strict.night("one").decision_id
    with pytest.raises(Refused, match="no approval"):
        release.promote(strict.settings, decision)
    assert answer(strict, decision, "approve", "reviewer", "the checks are sound") == "approve"
    promoted = release.promote(strict.settings, decision)
    assert live(strict) == [promoted.model]
    assert answers(strict, decision) == [("approve", "reviewer", "approver")]


def test_ones_own_approval_is_refused_and_recorded_and_somebody_else_may_still_answer(strict: "House") -> None:
    decision = strict.night("one").decision_id
    assert answer(strict, decision, "approve", "engineer", "mine is good") == "refused"
    with pytest.raises(Refused, match="no approval"):
        release.promote(strict.settings, decision)
    (waiting,) = release.waiting(strict.settings, strict.usecase)
    assert waiting.refused == 1
    assert answer(strict, decision, "approve", "reviewer", "it is") == "approve"
    assert [given for given, _, _ in answers(strict, decision)] == ["refused", "approve"]


def test_one_may_reject_ones_own_run(strict: "House") -> None:
    decision = strict.night("one").decision_id
    assert answer(strict, decision, "reject", "engineer", "wrong data") == "reject"


@pytest.mark.parametrize("person", ["reviewer", "Reviewer ", None])
def test_a_rejection_counts_without_a_reason(strict: "House", person: str | None) -> None:
    decision = strict.night("one").decision_id
    assert answer(strict, decision, "reject", person, " ") == "reject"
    with pytest.raises(Refused, match="its answer was: reject"):
        release.choose(strict.settings, strict.usecase, decision)


@pytest.mark.parametrize("first", ["approve", "reject", "timeout"])
def test_an_answer_is_final(strict: "House", first: str) -> None:
    decision = strict.night("one").decision_id
    answer(strict, decision, first, None if first == "timeout" else "reviewer", "first")
    for second in ("approve", "reject"):
        with pytest.raises(Refused, match=f"has been answered: {first}"):
            answer(strict, decision, second, "somebody", "second")
    assert len(answers(strict, decision)) == 1


@pytest.mark.parametrize("no", ["reject", "timeout"])
def test_no_and_silence_leave_the_champion_live(strict: "House", no: str) -> None:
    first = strict.night("one").decision_id
    answer(strict, first, "approve", "reviewer", "good")
    champion = release.promote(strict.settings, first)
    second = strict.night("two", right=55).decision_id
    answer(strict, second, no, None if no == "timeout" else "reviewer", "no")
    with pytest.raises(Refused):
        release.promote(strict.settings, second)
    assert live(strict) == [champion.model]
    with pytest.raises(Refused, match=no):
        release.choose(strict.settings, strict.usecase, second)
    assert release.choose(strict.settings, strict.usecase) is None


def test_what_the_gate_blocked_no_person_lets_through(strict: "House") -> None:
    decision = strict.night("one", right=3).decision_id
    assert answer(strict, decision, "approve", "reviewer", "I like it") == "refused"
    with pytest.raises(Refused, match="blocked"):
        release.promote(strict.settings, decision)
    with pytest.raises(Refused, match="the gate blocked it"):
        release.choose(strict.settings, strict.usecase, decision)


def test_a_superseded_question_is_closed(strict: "House") -> None:
    old = strict.night("one").decision_id
    new = strict.night("two").decision_id
    with pytest.raises(Refused, match="has been answered: superseded"):
        answer(strict, old, "approve", "reviewer", "the old one")
    assert release.supersede(strict.settings, new) == []
    chosen = release.choose(strict.settings, strict.usecase)
    assert chosen is not None
    assert chosen.decision_id == new


def test_an_approved_decision_is_not_superseded(strict: "House") -> None:
    old = strict.night("one").decision_id
    answer(strict, old, "approve", "reviewer", "good")
    assert strict.night("two").superseded == []
    assert release.promote(strict.settings, old).replaces is None


def test_what_is_live_cannot_be_rejected_any_more(house: "House") -> None:
    promoted = house.release("one")
    with pytest.raises(Refused, match="carried out"):
        answer(house, promoted.decision_id, "reject", "reviewer", "too late")


@pytest.mark.parametrize(
    ("given", "person", "reason", "told"),
    [
        ("perhaps", "reviewer", "hm", "unknown answer"),
        ("superseded", None, "hm", "unknown answer"),
        ("approve", None, "good", "named person"),
        ("approve", "", "good", "named person"),
        ("timeout", "reviewer", "late", "nobody's"),
    ],
)
def test_answers_that_are_none(strict: "House", given: str, person: str | None, reason: str, told: str) -> None:
    decision = strict.night("one").decision_id
    with pytest.raises(BadInput, match=told):
        answer(strict, decision, given, person, reason)
    assert answers(strict, decision) == []


def test_there_is_no_such_decision(strict: "House") -> None:
    with pytest.raises(BadInput, match="no such decision"):
        answer(strict, 404, "approve", "reviewer", "good")
    with pytest.raises(BadInput, match="no such decision"):
        release.choose(strict.settings, strict.usecase, 404)


def test_choosing_what_to_ask(strict: "House") -> None:
    assert release.choose(strict.settings, strict.usecase) is None
    decision = strict.night("one").decision_id
    chosen = release.choose(strict.settings, strict.usecase)
    assert chosen is not None
    assert (chosen.decision_id, chosen.needs_person) == (decision, True)
    asked = release.ask(strict.settings, strict.usecase, decision)
    assert "correct.minimum" in asked.body
    assert "secret" not in asked.body
    assert asked.eligible == {"reviewer": "reviewer"}, (
        "not the engineer, who asked for it, nor who has no id at Airflow"
    )
    answer(strict, decision, "approve", "reviewer", "good")
    chosen = release.choose(strict.settings, strict.usecase)
    assert chosen is not None
    assert not chosen.needs_person
    release.promote(strict.settings, decision)
    assert release.choose(strict.settings, strict.usecase, decision) is None
    assert release.choose(strict.settings, strict.usecase) is None


def test_a_stale_decision_is_listed_as_such_and_not_chosen(strict: "House") -> None:
    decision = strict.night("one").decision_id
    strict.index("new documents")
    (waiting,) = release.waiting(strict.settings, strict.usecase)
    assert (waiting.decision_id, waiting.stale) == (decision, True)
    assert release.choose(strict.settings, strict.usecase) is None
