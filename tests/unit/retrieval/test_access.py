"""The rule of who may read what, and the callers that the leak test makes up."""

import pytest

from pipeline.retrieval.access import UNKNOWN, Caller, callers, may_read
from pipeline.retrieval.loading import Right

pytestmark = pytest.mark.unit

STAFF = Right("acme", "internal", ("safety", "staff"))
PUBLIC = Right("acme", "public", ("staff",))
SERVED = Right("acme", "public", ("staff",), ("rag", "log"))


@pytest.mark.parametrize(
    ("caller", "right", "expected"),
    [
        (Caller("acme", ("staff",), "internal"), STAFF, True),
        (Caller("acme", ("staff",), "restricted"), STAFF, True),
        (Caller("acme", ("staff",), "public"), STAFF, False),
        (Caller("acme", ("sales",), "restricted"), STAFF, False),
        (Caller("acme", (), "restricted"), STAFF, False),
        (Caller("other", ("staff",), "restricted"), STAFF, False),
        (Caller("acme", (), "public"), PUBLIC, True),
        (Caller("other", (), "restricted"), PUBLIC, False),
        (Caller("acme", ("staff",), UNKNOWN), PUBLIC, False),
        (Caller("acme", ("staff",), "restricted", "evaluate"), PUBLIC, True),
        (Caller("acme", ("staff",), "restricted", "rag"), SERVED, True),
        (Caller("acme", ("staff",), "restricted", "evaluate"), SERVED, False),
        (Caller("acme", ("staff",), "restricted", "train"), SERVED, False),
        (Caller("acme", ("staff",), "restricted", "rag"), Right("acme", "public", ("staff",), ("evaluate",)), False),
        (Caller("acme", ("staff",), "restricted", "rag"), Right("acme", "public", ("staff",), ()), False),
    ],
)
def test_who_may_read(caller: Caller, right: Right, expected: bool) -> None:
    assert may_read(caller, right) is expected


def test_generated_callers_are_the_same_for_the_same_seed() -> None:
    assert callers([STAFF, PUBLIC], 50, "a") == callers([PUBLIC, STAFF, STAFF], 50, "a")
    assert callers([STAFF, PUBLIC], 50, "a") != callers([STAFF, PUBLIC], 50, "b")


def test_generated_callers_reach_every_right_and_beyond() -> None:
    made = callers([STAFF, PUBLIC], 200, "seed")
    assert len(made) == 200
    made = callers([STAFF, PUBLIC, SERVED, Right("acme", "public", ("staff",), ("train",))], 200, "seed")
    for right in (STAFF, PUBLIC, SERVED, Right("acme", "public", ("staff",), ("train",))):
        assert any(may_read(caller, right) for caller in made)
        assert any(not may_read(caller, right) for caller in made)
    assert any(caller.tenant == UNKNOWN for caller in made)
    assert any(caller.clearance == UNKNOWN for caller in made)
    assert any(UNKNOWN in caller.groups for caller in made)
    assert any(not caller.groups for caller in made)


def test_an_index_of_nothing_still_has_callers() -> None:
    assert len(callers([], 5, "seed")) == 5
