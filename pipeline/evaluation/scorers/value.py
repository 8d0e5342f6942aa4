"""Whether the right value stands in the answer."""

from pipeline.evaluation.cases import Answer, Case, Expect
from pipeline.evaluation.scorers.text import contains, tokens, without_citations


def score(case: Case, answer: Answer) -> float | None:
    """Returns 1 where the expected value, or one of its other wordings, stands in the answer as whole words.

    Citations do not count: a document's id may hold the value. None for what cannot be answered. It does not see an
    answer that names a second, wrong value beside the right one; the metric `format` asks for one sentence.
    """
    if not isinstance(case.expect, Expect) or not case.expect.answerable or case.expect.value is None:
        return None
    said = tokens(without_citations(answer.text))
    return float(any(contains(said, tokens(wanted)) for wanted in (case.expect.value, *case.expect.aliases)))
