"""Whether the answer has the form of the house: one sentence, which ends in its source or is a refusal."""

import re

from pipeline import prompt
from pipeline.evaluation.cases import Answer, Case, Expect
from pipeline.evaluation.scorers.refusal import refuses
from pipeline.evaluation.scorers.text import without_citations

_ENDS_IN_CITATION = re.compile(r"\[[a-z0-9]+(?:-[a-z0-9]+)*\]\.?$")


def score(case: Case, answer: Answer) -> float | None:
    """Returns 1 for one sentence which ends in a citation, or is a refusal; whether it is right is not asked here."""
    if not isinstance(case.expect, Expect):
        return None
    text = answer.text.strip()
    if len(prompt.sentences(without_citations(text))) != 1:
        return 0.0
    return float(_ENDS_IN_CITATION.search(text) is not None or refuses(text))
