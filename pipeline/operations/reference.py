"""The reference of everything that can be set, made of the models that read it: docs/configuration.md for people, and
docs/usecase.schema.json for editors. `python -m pipeline.operations.reference` writes both anew."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.settings import ROOT, SCHEMA, VARIABLES
from pipeline.usecase import UseCase

REFERENCE = ROOT / "docs" / "configuration.md"

_INTRODUCTION = """# Configuration

Made by `make reference` from the code that reads it; a test holds it current. `[]` after a key stands for each entry of
a list, `<name>` for each of a mapping. Unknown and repeated keys are errors. Paths count from the YAML's folder.

## usecase.yaml

An editor with the YAML language server shows all this while you type: `nightshift new usecase` writes the line for it.

| key | type | default | range | what it is |
|---|---|---|---|---|
"""
_ANY_LENGTH = 4_000  # what every string is bounded by
_LENGTHS = {
    "minItems": "or more",
    "maxItems": "at most",
    "minLength": "character or more",
    "maxLength": "characters at most, in one line",
}
_ENVIRONMENT = """
## The environment

| variable | what it is |
|---|---|
"""


def schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a usecase.yaml."""
    generated = UseCase.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **generated, "title": "A Nightshift use case"}


def markdown() -> str:
    """Returns the reference, as Markdown: a line for each key of a usecase.yaml, and for each environment variable."""
    generated = schema()
    lines = [
        "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in row) + " |"
        for row in _rows(generated, generated, "")
    ]
    variables = [f"| `{name}` | {text} |" for name, text in VARIABLES.items()]
    return _INTRODUCTION + "\n".join(lines) + "\n" + _ENVIRONMENT + "\n".join(variables) + "\n"


def _rows(root: dict[str, Any], model: dict[str, Any], before: str) -> Iterator[tuple[str, ...]]:
    """Yields (key, type, default, range, description) of each key of a model, and of the models inside it."""
    required = model.get("required", [])
    for name, given in model["properties"].items():
        key, inner = f"{before}{name}", _inner(root, given)
        default = "" if inner is not None and "default" in given else _default(name, given, required)
        # The schema leaves out a description that the model inside gives in the same words.
        description = given.get("description") or (inner[1].get("description", "") if inner else "")
        yield f"`{key}`", _type(root, given), default, _range(given), description
        if inner is not None:
            suffix, held = inner
            yield from _rows(root, held, f"{key}{suffix}.")


def _inner(root: dict[str, Any], given: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Returns what stands between a key and those of the model that it holds, and that model; None where it holds
    none."""
    named = next(iter(given.get("patternProperties", {}).values()), given.get("additionalProperties"))
    for suffix, held in (("", given), ("[]", given.get("items")), (".<name>", named)):
        reference = held.get("$ref") if isinstance(held, dict) else None
        if reference is not None:
            return suffix, root["$defs"][reference.rpartition("/")[2]]
    return None


def _default(name: str, given: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "required"
    value = given.get("default")
    return "none" if value in ([], {}) else "" if "default" not in given else f"`{json.dumps(value)}`"


def _type(root: dict[str, Any], given: dict[str, Any]) -> str:
    if "anyOf" in given:
        return " or ".join(_type(root, each) for each in given["anyOf"])
    if "enum" in given:
        return ", ".join(f"`{value}`" for value in given["enum"])
    inner = _inner(root, given)
    if inner is not None:
        return {"": "keys", "[]": "list of keys", ".<name>": "names to keys"}[inner[0]]
    kinds = {"path": "path", "date": "date"}
    kind = kinds.get(given.get("format", ""), str(given.get("type", "any")))
    return f"list of {_type(root, given['items'])}" if kind == "array" else kind


def _range(given: dict[str, Any]) -> str:
    bounds = [
        f"{sign} {each[word]:,}"
        for each in (given, *given.get("anyOf", []))
        for word, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if word in each
    ]
    held = {word: text for word, text in _LENGTHS.items() if given.get(word, _ANY_LENGTH) < _ANY_LENGTH}
    lengths = [f"{given[word]} {text}" for word, text in held.items()]
    pattern = [f"`{given['pattern']}`"] if "pattern" in given and "maxLength" not in held else []
    return ", ".join([*bounds, *lengths, *pattern])


def write() -> list[Path]:
    """Returns the files written."""
    REFERENCE.write_text(markdown())
    SCHEMA.write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n")
    return [REFERENCE, SCHEMA]


if __name__ == "__main__":
    write()
