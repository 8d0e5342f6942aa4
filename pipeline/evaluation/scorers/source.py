"""Whether the answer cites what it rests on."""

from pipeline import prompt
from pipeline.evaluation.cases import Answer, Case, Expect


def score(case: Case, answer: Answer) -> float | None:
    """Returns 1 where the right document is among the cited ones and every cited one was really retrieved; for what
    cannot be answered, 1 where nothing is cited. None where the case names no document."""
    if not isinstance(case.expect, Expect):
        return None
    cited = prompt.cited(answer.text)
    if not case.expect.answerable:
        return float(not cited)
    if case.expect.source is None:
        return None
    return float(case.expect.source in cited and set(cited) <= set(answer.documents))
