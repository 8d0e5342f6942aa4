"""What counts as added, changed, removed and unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.retrieval.planning import difference
from pipeline.retrieval.records import DocumentChanges

pytestmark = pytest.mark.unit

CORPORA = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("12"))


def test_each_document_counts_once() -> None:
    assert difference({"a": "1", "b": "1", "c": "1"}, {"b": "1", "c": "2", "d": "1"}) == DocumentChanges(1, 1, 1, 1)


@given(CORPORA, CORPORA)
def test_counts_add_up_both_ways(before: dict[str, str], after: dict[str, str]) -> None:
    there, back = difference(before, after), difference(after, before)
    assert there.added + there.changed + there.unchanged == len(after)
    assert there.removed + there.changed + there.unchanged == len(before)
    assert (there.added, there.removed) == (back.removed, back.added)
