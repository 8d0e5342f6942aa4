"""Whether the model prefers the answer that people preferred."""

from pipeline.evaluation.cases import Answer, Case, Reference


def score(case: Case, answer: Answer) -> float | None:
    """Returns 1 where the chosen answer has the higher probability per token than the rejected one. None for a row
    without a rejected answer."""
    if not isinstance(case.expect, Reference) or answer.preferred is None:
        return None
    return float(answer.preferred)
