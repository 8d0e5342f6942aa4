"""Measures of a row that depend on other rows: those before it, the documents, the questions of the evaluation."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipeline.data.marks import Marks

MEASURES = ("repeats", "missing_documents", "withdrawn_documents", "contamination", "other_answers")


class Beside:
    """Measures of examples one after another that depend on other rows: those before, the documents, the evaluation."""

    def __init__(self, documents: Mapping[str, str] | None, asked: Collection[bytes] = frozenset()) -> None:
        """`documents` are the documents that there are, id to status; None where they are not known. `asked` are the
        marks of the evaluation's questions."""
        self._documents, self._asked = documents, asked
        self._seen: set[bytes] = set()
        self._answered: dict[bytes, bytes] = {}  # the first answer to each prompt

    def of(self, marks: Marks | None, documents: Sequence[str]) -> dict[str, Any]:
        """Returns the measures of an example, None where it could not be read, and remembers it."""
        if marks is None:
            return dict.fromkeys(MEASURES)
        statuses = Counter((self._documents or {}).get(key, "missing") for key in documents)
        repeats = "row" if marks.row in self._seen else "content" if marks.content in self._seen else None
        self._seen.update((marks.row, marks.content))
        return {
            "repeats": repeats,
            "missing_documents": None if self._documents is None else statuses["missing"],
            "withdrawn_documents": statuses["withdrawn"],
            "contamination": sum(each in self._asked for each in marks.questions) if self._asked else 0,
            "other_answers": self._other_answers(marks),
        }

    def _other_answers(self, marks: Marks) -> int:
        """Returns 1 where the prompt of a conversation stands earlier with another answer, else 0."""
        if marks.prompt is None or marks.answer is None:
            return 0
        return int(self._answered.setdefault(marks.prompt, marks.answer) != marks.answer)
