"""YAML and JSON from outside, read within bounds and without repeated keys: where a key stands twice, one of its values
would be lost in silence, and it might be the one that restricts."""

import json
import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import Composer

MAX_BYTES = 1 << 20
MAX_DEPTH = 64  # levels of lists and mappings in each other
MAX_NODES = 100_000  # values of a document


class ParseError(ValueError):
    """What is wrong with a text: `problem`, and `line` and `column` from 1 where they are known. Holds no word of it
    but the name of a repeated key."""

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.line, self.column = problem, line, column


@dataclass(frozen=True)
class Bounds:
    """How much of a text is read."""

    size: int = MAX_BYTES  # bytes in UTF-8
    depth: int = MAX_DEPTH
    nodes: int = MAX_NODES


DEFAULT = Bounds()


def decode(data: bytes) -> str:
    """Returns UTF-8 as text, a byte order mark at its beginning left out. Raises ParseError for anything else."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ParseError(f"the byte {data[error.start]:#04x} is not UTF-8", line) from None


def parse_yaml(data: bytes | str, bounds: Bounds = DEFAULT) -> Any:
    """Returns the value of a YAML document: plain mappings, lists and scalars.

    Raises ParseError for what is not YAML, and for repeated keys, anchors, aliases, merge keys, tags, several
    documents, values that do not exist (2026-02-30), and texts beyond the bounds.
    """
    text = decode(data) if isinstance(data, bytes) else data
    if len(text.encode("utf-8", "surrogatepass")) > bounds.size:
        raise ParseError(f"more than {bounds.size} bytes")
    loader = None
    try:
        loader = _Strict(text, bounds)
        return loader.get_single_data()
    except ParseError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise ParseError(f"this is not YAML: {problem}", *_place(mark)) from None
    except (ValueError, OverflowError, RecursionError, TypeError) as error:
        raise ParseError(f"a value that does not exist, or is too large: {type(error).__name__}") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Strict(Composer, yaml.CSafeLoader):
    """libyaml's parser, which is six times as fast as PyYAML's own, under PyYAML's composer: that one goes through
    `compose_node`, libyaml's does not."""

    def __init__(self, text: str, bounds: Bounds) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self._bounds, self._depth, self._nodes = bounds, 0, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        assert event is not None  # the document has not ended
        place = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ParseError("anchors and aliases are not read: write the value out", *place)
        if getattr(event, "tag", None) is not None:
            raise ParseError("tags are not read: write the plain value", *place)
        self._nodes += 1
        self._depth += 1
        if self._nodes > self._bounds.nodes:
            raise ParseError(f"more than {self._bounds.nodes} values", *place)
        if self._depth > self._bounds.depth:
            raise ParseError(f"more than {self._bounds.depth} levels in each other", *place)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            place = _place(key_node.start_mark)
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise ParseError("merge keys are not read: write the keys out", *place)
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise ParseError("a key is a plain name", *place)
            if key in seen:
                raise ParseError(f"the key {str(key)[:80]!r} stands twice in one mapping", *place)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _place(mark: Any) -> tuple[int | None, int | None]:
    return (None, None) if mark is None else (mark.line + 1, mark.column + 1)


def parse_json(data: bytes | str, bounds: Bounds = DEFAULT) -> Any:
    """Returns the value of a JSON text.

    Raises ParseError for what is not JSON (NaN and Infinity are not), and for repeated keys, numbers that no float or
    integer of Python holds, and texts beyond the bounds.
    """
    text = decode(data) if isinstance(data, bytes) else data
    if len(text) > bounds.size or len(text.encode("utf-8", "surrogatepass")) > bounds.size:
        raise ParseError(f"more than {bounds.size} bytes")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except ParseError:
        raise
    except json.JSONDecodeError as error:
        raise ParseError(f"this is not JSON: {error.msg}", error.lineno, error.colno) from None
    except (ValueError, RecursionError) as error:
        raise ParseError(f"a value that is too large, or too deep: {type(error).__name__}") from None
    _bounded(value, bounds)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for key, value in pairs:
        if key in parsed:
            raise ParseError(f"the key {key[:80]!r} stands twice in one object")
        parsed[key] = value
    return parsed


def _constant(name: str) -> Any:
    raise ParseError(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ParseError("a number is larger than any that can be held")
    return value


def _bounded(value: Any, bounds: Bounds) -> None:
    """Raises ParseError where a value is deeper than the bounds, or has more parts. Without recursion."""
    level, depth, nodes = [value], 0, 0
    while level:
        depth += 1
        nodes += len(level)
        if nodes > bounds.nodes:
            raise ParseError(f"more than {bounds.nodes} values")
        if depth > bounds.depth:
            raise ParseError(f"more than {bounds.depth} levels in each other")
        level = [
            part
            for each in level
            if isinstance(each, dict | list)
            for part in (each.values() if isinstance(each, dict) else each)
        ]
