"""What comes from outside is read within bounds, and no key's value is lost in silence."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.parsing import Bounds, ParseError, parse_json, parse_yaml

pytestmark = pytest.mark.unit

KEYS = st.text("abcxyz_", min_size=1, max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc: #'\"\n", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_yaml(yaml.safe_dump(value)) == value


@given(st.dictionaries(KEYS, st.integers(), min_size=1, max_size=5), st.integers(0, 3), st.data())
def test_a_repeated_key_is_refused_wherever_it_stands(mapping: dict[str, int], level: int, data: st.DataObject) -> None:
    twice = data.draw(st.sampled_from(sorted(mapping)))
    pairs = [*mapping.items(), (twice, 0)]
    written = "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in pairs) + "}"
    for _ in range(level):
        written = f'[{{"outer": {written}}}]'
    for parse in (parse_json, parse_yaml):
        with pytest.raises(ParseError, match="stands twice"):
            parse(written)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "a: 1\n'a': 2",
        'a: 1\n"\\u0061": 2',
        "classification: restricted\nowner: x\nclassification: public",
        "release:\n  min_cases: 1\nrelease: {}",
        "x: {a: 1, a: 1}",
        "1: a\n1: b",
        "? a\n: 1\n? a\n: 2",
        "true: 1\nyes: 2",
        "classification: restricted\nclassification\t: public",
    ],
)
def test_a_key_in_other_clothes_is_the_same_key(text: str) -> None:
    with pytest.raises(ParseError, match="stands twice"):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("groups: &a [*a]", "anchors and aliases"),
        ("a: &x 1\nb: *x", "anchors and aliases"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "anchors and aliases"),
        ("a:\n  <<: {b: 1}", "merge keys"),
        ("a: !!python/object/apply:os.system [ls]", "tags"),
        ("a: !!binary aGk=", "tags"),
        ("a: !secret x", "tags"),
        ("!!map {a: 1}", "tags"),
        ("[" * 5_000 + "]" * 5_000, "levels"),
        ("\n".join(" " * n + "a:" for n in range(5_000)), "levels|bytes"),
        ("- " * 5_000 + "a", "levels"),
        ("a: [" + "1," * 200_000 + "]", "100000 values"),
        ("a: " + "x" * (2 << 20), "bytes"),
        ("id: " + "9" * 10_000, "too large"),
        ("when: 2026-02-30", "does not exist"),
        ("a: 1\n---\na: 2", "not YAML"),
        ("{a: 1}: 2", "plain name"),
        ("a: b: c", "not YAML"),
        ("classification: restricted\n\ufeffclassification: public", "not YAML"),
        ("\ta: 1", "not YAML"),
        ("a: \x00", "not YAML"),
    ],
)
def test_yaml_is_bounded(text: str, problem: str) -> None:
    with pytest.raises(ParseError, match=problem):
        parse_yaml(text)


@pytest.mark.parametrize("text", ["a:\tb", "a: b\t", "a: b\t# of it", "a: [b,\tc]\t"])
def test_a_tab_is_a_blank_within_a_line(text: str) -> None:
    assert parse_yaml(text) in ({"a": "b"}, {"a": ["b", "c"]})


@pytest.mark.parametrize("bomb", ["lol", "quadratic"])
def test_a_bomb_of_aliases_is_refused_at_once(bomb: str) -> None:
    if bomb == "lol":
        lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    else:
        lines = ["a: &a [" + "x," * 10_000 + "]", "b: [" + "*a," * 10_000 + "]"]
    with pytest.raises(ParseError, match="anchors and aliases"):
        parse_yaml("\n".join(lines))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": NaN}', "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[1e999]", "larger than any"),
        ("[" + "9" * 10_000 + "]", "too large"),
        ("[" * 100_000 + "]" * 100_000, "too deep|levels"),
        ("[" * 65 + "]" * 65, "levels"),
        ('{"a":' * 70 + "1" + "}" * 70, "levels"),
        ("[" + "0," * 200_000 + "0]", "100000 values"),
        ('"' + "x" * (2 << 20) + '"', "bytes"),
        ("{'a': 1}", "not JSON"),
        ('{"a": 1} {"a": 2}', "not JSON"),
        ("", "not JSON"),
    ],
)
def test_json_is_bounded(text: str, problem: str) -> None:
    with pytest.raises(ParseError, match=problem):
        parse_json(text)


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
@pytest.mark.parametrize("data", [b"\xff\xfea", "ä: 1".encode("latin-1"), b"a: \xed\xa0\x80", b"\n\n\xc3("])
def test_bytes_that_are_not_utf8_name_their_line(parse: Any, data: bytes) -> None:
    with pytest.raises(ParseError, match="is not UTF-8") as error:
        parse(data)
    assert error.value.line == (3 if data.startswith(b"\n") else 1)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == parse_yaml(b"\xef\xbb\xbfa: 1") == {"a": 1}


def test_the_place_is_told() -> None:
    with pytest.raises(ParseError) as error:
        parse_yaml("a: 1\nb:\n  c: 1\n  c: 2")
    assert (error.value.line, error.value.column) == (4, 3)
    with pytest.raises(ParseError) as error:
        parse_json('{"a": 1,\n  "b" 2}')
    assert error.value.line == 2


def test_bounds_can_be_wider() -> None:
    deep = "[" * 100 + "]" * 100
    assert parse_json(deep, Bounds(depth=100)) == json.loads(deep)
