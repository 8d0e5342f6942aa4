"""Which documents leave the indexes at once."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import withdrawals
from pipeline.data.catalog import Current, Seen
from pipeline.data.documents import Document
from pipeline.usecase import CLASSIFICATIONS

pytestmark = pytest.mark.unit

SEEN = datetime(2026, 1, 1, tzinfo=UTC)
ROW = Document("f", 1, "limits", "Limits", "10 EUR", "main", "internal", ("staff", "risk"), "someone")


def current(row: Document) -> Current:
    return Current(
        row.digest, row.digest, row.status, row.tenant, row.classification, row.groups, row.fresh_until, SEEN
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"text": "20 EUR", "title": "Other", "owner": "another"}, None),
        ({"groups": ("staff", "risk", "legal")}, None),
        ({"classification": "public", "groups": ("nobody",)}, None),
        ({"status": "withdrawn"}, withdrawals.WITHDRAWN),
        ({"key": "renamed"}, withdrawals.GONE),
        ({"classification": "confidential"}, withdrawals.TIGHTENED),
        ({"groups": ("staff",)}, withdrawals.TIGHTENED),
        ({"groups": ("staff", "legal")}, withdrawals.TIGHTENED),
        ({"tenant": "other"}, withdrawals.TIGHTENED),
        ({"fresh_until": "2030-01-01"}, withdrawals.TIGHTENED),
    ],
)
def test_what_a_change_withdraws(change: dict[str, Any], reason: str | None) -> None:
    found = withdrawals.due({"limits": current(ROW)}, [replace(ROW, **change)])
    assert found == ({} if reason is None else {"limits": reason})


def test_what_was_withdrawn_is_not_withdrawn_again() -> None:
    gone = replace(ROW, status="withdrawn")
    assert withdrawals.due({"limits": current(gone)}, []) == {}
    assert withdrawals.due({"limits": current(gone)}, [ROW]) == {}


def reads(row: Document | Current, groups: set[str], clearance: int, tenant: str) -> bool:
    """Returns whether a caller may read a document, as rag.acl_ids has it."""
    cleared = CLASSIFICATIONS.index(row.classification) <= clearance
    return row.tenant == tenant and cleared and (row.classification == "public" or bool(groups & set(row.groups)))


VERSION = st.builds(
    lambda tenant, classification, groups: replace(
        ROW, tenant=tenant, classification=classification, groups=tuple(sorted(groups))
    ),
    st.sampled_from(["main", "other"]),
    st.sampled_from(CLASSIFICATIONS),
    st.sets(st.sampled_from(["a", "b", "c"]), min_size=1),
)


@given(
    VERSION, VERSION, st.sets(st.sampled_from(["a", "b", "c"])), st.integers(0, 3), st.sampled_from(["main", "other"])
)
def test_whoever_loses_the_right_to_read_loses_it_at_once(
    old: Document, new: Document, groups: set[str], clearance: int, tenant: str
) -> None:
    if reads(old, groups, clearance, tenant) and not reads(new, groups, clearance, tenant):
        assert withdrawals.due({"limits": current(old)}, [new]) == {"limits": withdrawals.TIGHTENED}


def test_a_version_that_was_seen_before_its_withdrawal_gets_another_digest() -> None:
    again = withdrawals.documents({}, [ROW], {"limits": Seen(True, 1)})
    later = withdrawals.documents({}, [ROW], {"limits": Seen(True, 2)})
    assert len({ROW.digest, *again.versions, *later.versions}) == 3
    assert list(withdrawals.documents({}, [ROW], {"limits": Seen(False, 1)}).versions) == [ROW.digest]
    assert list(withdrawals.documents({}, [ROW], {}).versions) == [ROW.digest]


def test_a_version_that_is_current_keeps_its_digest() -> None:
    came_back = replace(current(ROW), digest="f" * 64)
    found = withdrawals.documents({"limits": came_back}, [ROW], {"limits": Seen(True, 1)})
    assert list(found.versions) == ["f" * 64]
    assert withdrawals.returning({"limits": came_back}, [ROW]) == {}
