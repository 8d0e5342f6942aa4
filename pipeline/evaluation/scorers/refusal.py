"""Whether the model refuses what it cannot know, and nothing else."""

import re

from pipeline.evaluation.cases import Answer, Case, Expect

# The words in which the house refuses, as the training rows have them ("… is not stated in the documents.").
_REFUSAL = re.compile(r"\b(?:is|are|was|were)\s+not\s+stated\b", re.IGNORECASE)


def refuses(text: str) -> bool:
    """Returns whether a text says that the documents do not say."""
    return _REFUSAL.search(text) is not None


def score(case: Case, answer: Answer) -> float | None:
    """Returns 1 where an unanswerable case is refused or an answerable one is not."""
    if not isinstance(case.expect, Expect):
        return None
    return float(refuses(answer.text) is not case.expect.answerable)
