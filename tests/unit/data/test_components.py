"""Components: closed under their links, and nothing joined that is not linked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.components import components

pytestmark = pytest.mark.unit


@given(st.integers(1, 30), st.data())
def test_they_are_closed_and_the_order_does_not_count(size: int, data: st.DataObject) -> None:
    place = st.integers(0, size - 1)
    linked = data.draw(st.lists(st.tuples(place, place), max_size=40))
    first = components(size, linked)
    assert all(first[one] == first[other] for one, other in linked)
    assert all(first[each] == each for each in set(first))
    assert all(each <= number for number, each in enumerate(first))
    assert len(set(first)) >= size - len(linked), "a link joins two at most"
    assert first == components(size, [*reversed(linked)])
