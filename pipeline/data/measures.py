"""Measures of rows: the lengths, roles and counts that rules speak of. Never text."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pipeline.data.documents import Document
from pipeline.data.formats import Example

Measures = dict[str, Any]
_ROLES = {"system": "s", "user": "u", "assistant": "a"}


def of_examples(
    examples: Sequence[Example],
    erased: Callable[[Example], bool],
    documents: Mapping[str, str] | None,
) -> list[Measures]:
    """Returns the measures of each example; those of content are None where it could not be read.

    `documents` are the documents that there are, id to status; None where they are not known.
    """
    repeats = _Repeats()
    rows = []
    for row in examples:
        measures: Measures = {**dict.fromkeys(_EXAMPLE_MEASURES), **_problem(row)}
        if row.content is not None:
            statuses = Counter((documents or {}).get(key, "missing") for key in row.documents)
            measures |= {
                "erased": "erased" if erased(row) else None,
                "repeats": repeats.of({"row": row.digest, "content": row.content_digest}),
                "unknown_keys": row.unknown_keys,
                "missing_documents": None if documents is None else statuses["missing"],
                "withdrawn_documents": statuses["withdrawn"],
                **_content_measures(row.content),
            }
        rows.append(measures)
    return rows


_EXAMPLE_MEASURES = (
    "erased",
    "roles",
    "blank_turns",
    "answer_characters",
    "characters",
    "answers",
    "repeats",
    "unknown_keys",
    "missing_documents",
    "withdrawn_documents",
)


def _content_measures(content: Mapping[str, Sequence[Mapping[str, str]]]) -> Measures:
    parts = (
        [content["messages"]] if "messages" in content else [content[name] for name in ("prompt", "chosen", "rejected")]
    )
    answers = [part[-1]["content"].strip() for part in (parts[1:] or parts)]
    others = [
        *parts[0][:-1],
        *(turn for part in parts[1:] for turn in part[:-1]),
        *(parts[0][-1:] if parts[1:] else []),
    ]
    return {
        "roles": "/".join("".join(_ROLES.get(turn["role"], "?") for turn in part) for part in parts),
        "blank_turns": sum(not turn["content"].strip() for turn in others),
        "answer_characters": min(len(answer) for answer in answers),
        "characters": sum(len(turn["content"]) for part in parts for turn in part),
        "answers": "same" if len(answers) > 1 and answers[0] == answers[1] else None,
    }


def of_documents(documents: Sequence[Document], erased: Callable[[Document], bool]) -> list[Measures]:
    """Returns the measures of each document; None where it could not be read."""
    repeats = _Repeats()
    rows = []
    for row in documents:
        measures: Measures = {**dict.fromkeys(_DOCUMENT_MEASURES), **_problem(row)}
        if row.text is not None:
            measures |= {
                "erased": "erased" if erased(row) else None,
                "key": row.key or "",
                "repeats": repeats.of({"id": row.key or "", "text": row.text_digest}),
                "tenant": row.tenant,
                "classification": row.classification,
                "groups": 0 if any(not group.strip() for group in row.groups) else len(row.groups),
                "group_bytes": sum(len(group.encode()) for group in row.groups),
                "controls": sum(_CONTROL.search(text) is not None for text in (*_named(row), *row.groups)),
                "longest": max(len(text) for text in _named(row)),
                "years": " ".join(date[:4] for date in (row.fresh_until, row.retain_until) if date),
                "status": row.status,
                "characters": len(row.text.strip()),
            }
        rows.append(measures)
    return rows


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def _named(row: Document) -> tuple[str, ...]:
    return row.title, row.owner, row.source or ""


_DOCUMENT_MEASURES = (
    "erased",
    "key",
    "repeats",
    "tenant",
    "classification",
    "groups",
    "group_bytes",
    "controls",
    "longest",
    "years",
    "status",
    "characters",
)


def _problem(row: Example | Document) -> Measures:
    rule = row.problem.rule if row.problem else None
    return {"problem": rule, "erased": "erased" if rule == "erased" else None}


class _Repeats:
    """Remembers what was seen before, by several names of sameness."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def of(self, names: Mapping[str, str]) -> str | None:
        """Returns the first kind of sameness that was met before, and remembers all of them."""
        met = next((kind for kind, value in names.items() if (kind, value) in self.seen), None)
        self.seen.update(names.items())
        return met


def statuses(documents: Collection[Document]) -> dict[str, str]:
    """Returns id to status of documents."""
    return {row.key: row.status for row in documents if row.key is not None}
