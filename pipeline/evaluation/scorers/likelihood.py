"""How likely the model finds the reference answer."""

from pipeline.evaluation.cases import Answer, Case, Reference


def score(case: Case, answer: Answer) -> float | None:
    """Returns the geometric mean of the probabilities of the reference's tokens: 1 / perplexity, in (0, 1]."""
    return answer.likelihood if isinstance(case.expect, Reference) else None
