"""Scorers: each gives a case's answer a score in [0, 1], or None where the metric says nothing about the case."""

from collections.abc import Callable, Mapping

from pipeline.evaluation.cases import Answer, Case
from pipeline.evaluation.scorers import correct, format, likelihood, preference, reference, refusal, source, value

Scorer = Callable[[Case, Answer], float | None]

# In the order in which they are shown.
SCORERS: Mapping[str, Scorer] = {
    "correct": correct.score,
    "value": value.score,
    "source": source.score,
    "refusal": refusal.score,
    "format": format.score,
    "reference": reference.score,
    "likelihood": likelihood.score,
    "preference": preference.score,
}


def score(case: Case, answer: Answer) -> dict[str, float]:
    """Returns the scores of a case's answer, by metric, of the metrics that apply to it."""
    scores = {name: scorer(case, answer) for name, scorer in SCORERS.items()}
    return {name: round(given, 6) for name, given in scores.items() if given is not None}
