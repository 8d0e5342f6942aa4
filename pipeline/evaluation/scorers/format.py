"""Whether the answer has the form of its suite: so many sentences at most, which end in their source or refuse; or JSON
that meets a schema."""

import json
import re
from collections.abc import Mapping
from typing import Any

from pipeline import prompt
from pipeline.evaluation.cases import Answer, Case, Expect
from pipeline.evaluation.scorers.refusal import refuses
from pipeline.evaluation.scorers.text import without_citations

_ENDS_IN_CITATION = re.compile(r"\[[a-z0-9]+(?:-[a-z0-9]+)*\]\.?$")


def score(case: Case, answer: Answer) -> float | None:
    """Returns 1 for as many sentences as the suite allows, and one at least, which end in a citation where it asks for
    one, or are a refusal; for a suite of JSON answers, 1 for what meets its schema, or a refusal. Whether it is right
    is not asked here."""
    if not isinstance(case.expect, Expect):
        return None
    text = answer.text.strip()
    if case.form.json_schema is not None:
        return float(refuses(text, case.form) or _meets(text, case.form.json_schema))
    if not 1 <= len(prompt.sentences(without_citations(text))) <= case.form.sentences:
        return 0.0
    cites = not case.form.citation or _ENDS_IN_CITATION.search(text) is not None
    return float(cites or refuses(text, case.form))


def _meets(text: str, schema: Mapping[str, Any]) -> bool:
    """Returns whether a text is one JSON value that meets a schema. NaN is none, and of a key that comes twice nobody
    knows which is meant."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    try:
        value = json.loads(text, parse_constant=_no_json, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return False
    return bool(Draft202012Validator(schema, registry=Registry()).is_valid(value))


def _no_json(name: str) -> None:
    raise ValueError(name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)
