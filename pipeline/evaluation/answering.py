"""Puts every case of every suite to one model, and scores what comes back."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp
from typing import Any

from pipeline.errors import BadInput
from pipeline.evaluation import generation, scorers, suites
from pipeline.evaluation.cases import Answer, Case, Expect, Message, Reference, Suite
from pipeline.evaluation.generation import Generated
from pipeline.progress import Progress
from pipeline.prompt import Passage, Prompt
from pipeline.results import WITH, WITHOUT, Condition
from pipeline.search import Searcher
from pipeline.search.embedder import Embedder
from pipeline.settings import Settings
from pipeline.steps import Version
from pipeline.usecase import UseCase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """One case's answer and its scores."""

    case: Case
    answer: Answer
    scores: dict[str, float]


@dataclass(frozen=True)
class Answered:
    """One suite under one condition."""

    suite: Suite
    condition: Condition
    results: tuple[Scored, ...]  # of the suite's cases that were asked so
    cut: int  # prompts that lost their beginning
    unsuitable: int  # locked test rows that the model's template does not take, and so not answered


def answer_all(
    settings: Settings,
    usecase: UseCase,
    loaded: tuple[Any, Any],
    cases: Sequence[Suite],
    index: Version | None,
    form: Prompt,
) -> list[Answered]:
    """Returns every suite's answers, by suite and condition. `index` is what to retrieve from, `form` the prompt.

    A case in a principal's name is asked with retrieval and, by the share that the use case says, without; one of the
    locked test split as it stands alone.
    """
    done = []
    for suite in cases:
        alone = _alone(suite.cases, usecase.evaluation.without_retrieval)
        if alone:
            done.append(_answered(usecase, loaded, suite, WITHOUT, alone, [[] for _ in alone], form))
        if index is not None and any(case.principal is not None for case in suite.cases):
            retrieved = retrieve(settings, usecase, suite.cases, index)
            done.append(_answered(usecase, loaded, suite, WITH, suite.cases, retrieved, form))
    return done


def _alone(cases: Sequence[Case], share: float) -> list[Case]:
    """Returns the cases to ask without retrieval: those that nobody asks, all of them, and a sample of the others."""
    asked = [case for case in cases if case.principal is not None]
    chosen = {case.key for case in suites.sample(asked, ceil(share * len(asked)))}
    return [case for case in cases if case.principal is None or case.key in chosen]


def retrieve(settings: Settings, usecase: UseCase, cases: Sequence[Case], index: Version) -> list[list[Passage]]:
    """Returns what the index gives each case's principal for its question. One embedder serves all."""
    passages: list[list[Passage]] = [[] for _ in cases]
    embedder = Embedder(settings.device)
    asking = {case.principal: None for case in cases if case.principal is not None}
    for principal in asking:
        places = [place for place, case in enumerate(cases) if case.principal == principal]
        questions = [cases[place].question or "" for place in places]
        with Searcher(settings, usecase, principal, index=index, embedder=embedder) as searcher:
            for place, answer in zip(places, searcher.search_all(questions, usecase.retrieval.k), strict=True):
                passages[place] = answer.passages
    return passages


def _answered(
    usecase: UseCase,
    loaded: tuple[Any, Any],
    suite: Suite,
    condition: Condition,
    cases: Sequence[Case],
    passages: Sequence[list[Passage]],
    form: Prompt,
) -> Answered:
    settings = usecase.evaluation
    prompts = [_messages(form, case, own) for case, own in zip(cases, passages, strict=True)]
    progress = Progress(log, f"suite {suite.name} {condition} retrieval", len(prompts), "cases")
    answers = generation.answers(
        *loaded, prompts, max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size, progress=progress
    )
    unsuitable = _unsuitable(form, cases, answers)
    known = _references(loaded, cases, settings.batch_size)
    results = []
    for place, case in enumerate(cases):
        likelihood, preferred = known.get(place, (None, None))
        answer = Answer(answers[place].text, tuple(passages[place]), answers[place].seconds, likelihood, preferred)
        results.append(Scored(case, answer, scorers.score(case, answer)))
    log.info("suite %s %s retrieval: %d cases answered", suite.name, condition, len(results))
    return Answered(suite, condition, tuple(results), sum(one.cut for one in answers), unsuitable)


def _unsuitable(form: Prompt, cases: Sequence[Case], answers: Sequence[Generated]) -> int:
    """Returns how many rows of the locked test split the model's template does not take: each counts as not answered,
    so that every model has the same cases. Raises BadInput where it does not take the use case's own prompt."""
    reasons: Counter[str] = Counter()
    for case, answer in zip(cases, answers, strict=True):
        if answer.unsuitable is None:
            continue
        if not isinstance(case.expect, Reference):
            raise BadInput(
                "the model's chat template does not take the prompt of the use case",
                where=form.where,
                found=answer.unsuitable,
                next_step="write the prompt without what it refuses: a system message, for one",
            )
        reasons[answer.unsuitable] += 1
    for reason, count in reasons.items():
        log.warning("%d locked test rows are no conversation to the model's template (%s): not answered", count, reason)
    return reasons.total()


def _messages(form: Prompt, case: Case, passages: Sequence[Passage]) -> Sequence[Message]:
    if isinstance(case.expect, Reference):
        return case.expect.prompt
    assert isinstance(case.expect, Expect)
    assert case.question is not None
    return form.messages(case.question, passages)


def _references(
    loaded: tuple[Any, Any], cases: Sequence[Case], batch_size: int
) -> dict[int, tuple[float, bool | None]]:
    """Returns, by place of the cases with a reference, its likelihood and whether it beats the rejected answer."""
    known = {place: case.expect for place, case in enumerate(cases) if isinstance(case.expect, Reference)}
    pairs = {place: one for place, one in known.items() if one.rejected is not None}
    chosen = generation.likelihoods(
        *loaded, [(one.prompt, one.answer) for one in known.values()], batch_size=batch_size
    )
    against = generation.likelihoods(
        *loaded, [(one.prompt, one.rejected or "") for one in pairs.values()], batch_size=batch_size
    )
    rejected = dict(zip(pairs, against, strict=True))
    return {
        place: (exp(mean), mean > rejected[place] if place in rejected else None)
        for place, mean in zip(known, chosen, strict=True)
    }
