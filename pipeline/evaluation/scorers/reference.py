"""How much of the reference answer the model's answer has, for rows that have no more than that."""

from collections import Counter

from pipeline.evaluation.cases import Answer, Case, Reference
from pipeline.evaluation.scorers.text import tokens


def score(case: Case, answer: Answer) -> float | None:
    """Returns the F1 of the words that answer and reference share (Rajpurkar et al., SQuAD, EMNLP 2016, §6.1; here
    without dropping articles)."""
    if not isinstance(case.expect, Reference):
        return None
    said, wanted = Counter(tokens(answer.text)), Counter(tokens(case.expect.answer))
    if not said or not wanted:
        return float(said == wanted)
    shared = (said & wanted).total()
    return 2 * shared / (said.total() + wanted.total())
