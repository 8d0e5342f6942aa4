"""Whether everything about the answer is right."""

from pipeline.evaluation.cases import Answer, Case, Expect
from pipeline.evaluation.scorers import format, refusal, source, value


def score(case: Case, answer: Answer) -> float | None:
    """Returns 1 where each of value, source, refusal and format that applies to the case is 1."""
    if not isinstance(case.expect, Expect):
        return None
    parts = (scorer.score(case, answer) for scorer in (value, source, refusal, format))
    return float(all(part == 1.0 for part in parts if part is not None))
