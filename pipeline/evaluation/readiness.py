"""What is wrong with the suites, known before training: a night that cannot be judged need not be trained."""

from collections.abc import Iterator

from pipeline import database
from pipeline.database import Connection
from pipeline.errors import BadInput, nearest
from pipeline.evaluation import suites
from pipeline.evaluation.cases import Answer, Case, Expect, Suite
from pipeline.evaluation.scorers import SCORERS
from pipeline.settings import Settings
from pipeline.usecase import UseCase


def require(settings: Settings, usecase: UseCase) -> None:
    """Raises BadInput for the first thing that is wrong with the use case's suites, and says how many others are."""
    with database.connect(settings, "pipeline") as connection:
        errors = problems(connection, usecase)
    if errors:
        first, others = errors[0], len(errors) - 1
        more = f"fix this one first; {others} more were found: `nightshift doctor`" if others else None
        raise first.reworded(first.what, next_step=more)


def problems(connection: Connection | None, usecase: UseCase) -> list[BadInput]:
    """Returns everything that would fail or mean nothing when the suites are answered and judged: files that cannot be
    read and cases that are none, sources that no committed document has, thresholds on metrics that no case has.

    Sources are compared where documents were committed, and a connection is given.
    """
    errors: list[BadInput] = []
    read: list[Suite] = []
    for entry in usecase.evaluation.suites:
        try:
            read.append(suites.read(entry, usecase))
        except BadInput as error:
            errors.append(error)
    named = {entry.name: entry.path for entry in usecase.evaluation.suites}
    documents = set[str]()
    if connection is not None:
        rows = database.fetch(connection, "evaluation", "document_keys", use_case=usecase.name)
        documents = {row["document_key"] for row in rows}
    if documents:
        for suite in read:
            errors += _sources(suite, str(named[suite.name]), documents)
    if len(read) == len(usecase.evaluation.suites):
        errors += _metrics(usecase, [case for suite in read if suite.gated for case in suite.cases])
    return errors


def _sources(suite: Suite, where: str, documents: set[str]) -> Iterator[BadInput]:
    for case in suite.cases:
        source = case.expect.source if isinstance(case.expect, Expect) else None
        if source is not None and source not in documents:
            yield BadInput(
                "no committed document has this id",
                where=f"{where}: case {case.key}: expect.source",
                found=source,
                allowed=nearest(source, sorted(documents)),
            )


def _metrics(usecase: UseCase, cases: list[Case]) -> Iterator[BadInput]:
    """Yields the thresholds whose metric no gated case has: they would be inconclusive every night."""
    if not cases:
        return
    measured = {name for name, score in SCORERS.items() if any(score(case, Answer("")) is not None for case in cases)}
    for place, threshold in enumerate(usecase.release.thresholds):
        if threshold.metric not in measured:
            yield BadInput(
                "no gated case is scored by this metric",
                where=f"usecases/{usecase.name}/usecase.yaml: release.thresholds.{place}.metric",
                found=threshold.metric,
                allowed=", ".join(name for name in SCORERS if name in measured),
            )
