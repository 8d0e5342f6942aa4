"""Claims: what templates may print, how values are put into words, and that nothing else can be stated."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.governance import claims
from pipeline.governance.claims import Ledger, Node

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_every_leaf_is_found_again_by_its_pointer(content: Any) -> None:
    for path, leaf in Node("record", "", content).leaves():
        assert claims.find(content, leaf.pointer) == leaf.value
        assert path.pointer == leaf.pointer


@given(st.text())
def test_words_are_one_line_and_no_markup(text: str) -> None:
    words = claims.words("plain", "", text)
    assert "\n" not in words
    assert "[^" not in words
    assert not claims.escape(text).replace("\\|", "").count("|")


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_a_document_states_exactly_its_claims(values: list[str]) -> None:
    ledger = Ledger("report.md")
    body = "\n".join(f"- {ledger(node)}" for node in Node("record", "", values))
    notes = "\n".join(figure.footnote("f" * 64) for figure in ledger.figures)
    text = f"{body}\n\n---\n\n{notes}\n"
    assert claims.check("report.md", text, ledger.figures, {"record": "f" * 64}) == []
    more = text.replace("\n\n---", "\n- and 5 more\n\n---", 1)
    assert claims.check("report.md", more, ledger.figures, {"record": "f" * 64})


@pytest.mark.parametrize(
    ("form", "value", "told"),
    [
        ("plain", None, "none"),
        ("plain", True, "yes"),
        ("plain", 0.1234567891, "0.123457"),
        ("plain", 12345678, "12345678"),
        ("plain", [1, "a|b"], "1, a\\|b"),
        ("plain", "two\nlines", "two lines"),
        ("interval", {"value": 0.5, "low": 0.25, "high": 0.75, "n": 10}, "0.500 (0.250 to 0.750, n = 10)"),
        ("interval", {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}, "not measured"),
        ("difference", {"difference": -0.1, "low": -0.2, "high": 0.0, "n": 3}, "-0.100 (-0.200 to +0.000, n = 3)"),
        ("digest", "ab" * 32, "`abababababababab`"),
        ("digest", None, "none"),
        ("time", "2026-01-02T03:04:05.678+00:00", "2026-01-02 03:04:05 UTC"),
        ("time", None, "never"),
        ("share", 0.5, "0.500"),
    ],
)
def test_words(form: str, value: Any, told: str) -> None:
    assert claims.words(form, "/a", value) == told


def test_keys_and_paths_are_claims_too() -> None:
    node = Node("record", "", {"a/b": {"c_d": 1}})
    ((key, _),) = node.entries()
    assert claims.words(key.form, key.pointer, key.value) == "a/b"
    ((path, _),) = node.leaves()
    assert path.pointer == "/a~1b/c_d"
    assert claims.words(path.form, path.pointer, path.value) == "a/b › c\\_d"
    ((inner, _),) = node["a/b"].leaves()
    assert claims.words(inner.form, inner.pointer, inner.value) == "c\\_d"
    assert claims.find(node.value, path.pointer) == 1


def test_leaves_can_leave_keys_out() -> None:
    node = Node("record", "", {"a": {"b": 1, "c": 2}, "d": 3})
    assert [leaf.pointer for _, leaf in node.leaves("a", "unknown")] == ["/d"]


@pytest.mark.parametrize("value", [1, "text", None, 0.5, ["a"]])
def test_a_template_prints_nothing_without_a_source(value: Any) -> None:
    with pytest.raises(TypeError, match="has no source"):
        Ledger("report.md")(value)


@pytest.mark.parametrize("pointer", ["/x", "/a/b", "/a/0/1", "/a/9", "/a/-1"])
def test_a_pointer_to_nothing(pointer: str) -> None:
    with pytest.raises(LookupError):
        claims.find({"a": [1]}, pointer)
