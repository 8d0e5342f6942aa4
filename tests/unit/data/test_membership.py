"""Dataset versions as values: digests and differences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import membership

pytestmark = pytest.mark.unit

MEMBERS = st.dictionaries(st.sampled_from("abcdefghij"), st.sampled_from(["train", "validation", "test"]))


@given(MEMBERS, st.randoms())
def test_the_digest_does_not_depend_on_the_order(rows: dict[str, str], random: object) -> None:
    shuffled = list(rows.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert membership.digest(dict(shuffled)) == membership.digest(rows)


@given(MEMBERS, MEMBERS)
def test_equal_digests_are_equal_members(one: dict[str, str], other: dict[str, str]) -> None:
    assert (membership.digest(one) == membership.digest(other)) == (one == other)


@given(MEMBERS, MEMBERS)
def test_a_difference_applied_gives_the_other_version(before: dict[str, str], after: dict[str, str]) -> None:
    there, back = membership.change(before, after), membership.change(after, before)
    assert membership.apply(before, there) == after
    assert membership.apply(after, back) == before
    assert bool(there) == (before != after)
    assert (there.added, there.removed) == (back.removed, back.added)


@given(st.lists(MEMBERS, max_size=8))
def test_differences_add_up_to_every_past_version(history: list[dict[str, str]]) -> None:
    now: dict[str, str] = {}
    for version in history:
        now = membership.apply(now, membership.change(now, version))
        assert now == version
