"""Whether the answer has the form of its suite: so many sentences at most, which end in their source or refuse."""

import re

from pipeline import prompt
from pipeline.evaluation.cases import Answer, Case, Expect
from pipeline.evaluation.scorers.refusal import refuses
from pipeline.evaluation.scorers.text import without_citations

_ENDS_IN_CITATION = re.compile(r"\[[a-z0-9]+(?:-[a-z0-9]+)*\]\.?$")


def score(case: Case, answer: Answer) -> float | None:
    """Returns 1 for as many sentences as the suite allows, and one at least, which end in a citation where it asks for
    one, or are a refusal; whether it is right is not asked here."""
    if not isinstance(case.expect, Expect):
        return None
    text = answer.text.strip()
    if not 1 <= len(prompt.sentences(without_citations(text))) <= case.form.sentences:
        return 0.0
    cites = not case.form.citation or _ENDS_IN_CITATION.search(text) is not None
    return float(cites or refuses(text, case.form))
