"""Whether the model refuses what it cannot know, and nothing else."""

from pipeline.evaluation.cases import Answer, Case, Expect
from pipeline.evaluation.scorers.text import contains, tokens
from pipeline.results import AnswerForm


def refuses(text: str, form: AnswerForm) -> bool:
    """Returns whether a text says, in one of the suite's wordings, that the documents do not say."""
    said = tokens(text)
    return any(contains(said, tokens(wording)) for wording in form.refusals)


def score(case: Case, answer: Answer) -> float | None:
    """Returns 1 where an unanswerable case is refused or an answerable one is not."""
    if not isinstance(case.expect, Expect):
        return None
    return float(refuses(answer.text, case.form) is not case.expect.answerable)
