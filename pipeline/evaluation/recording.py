"""Evaluations as records: the artifact's content, the facts of the run, and the rows in the database."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from pipeline import canonical, database, statistics
from pipeline.database import Connection
from pipeline.evaluation.answering import Answered, Scored
from pipeline.evaluation.cases import Case, Expect, Suite
from pipeline.evaluation.records import EvaluationFacts
from pipeline.evaluation.scorers import SCORERS
from pipeline.records import plain
from pipeline.results import (
    CONDITIONS,
    WITH,
    CaseResult,
    Condition,
    Evaluation,
    EvaluationSettings,
    Metrics,
    SuiteResults,
)
from pipeline.steps import Attempt, Version
from pipeline.usecase import BaseModelSource, Dtype, UseCase

_FILE = "evaluation"


def metrics(results: Sequence[Scored], confidence: float) -> Metrics:
    """Returns the mean of each metric over the cases that it applies to, with its interval."""
    scores = {name: [one.scores[name] for one in results if name in one.scores] for name in SCORERS}
    return {name: statistics.mean(each, confidence).rounded() for name, each in scores.items() if each}


def facts(answered: Sequence[Answered], confidence: float) -> EvaluationFacts:
    """Returns the run's facts."""
    gated = [part for part in answered if part.suite.gated] or list(answered)
    pooled = {
        condition: metrics([one for part in gated if part.condition == condition for one in part.results], confidence)
        for condition in CONDITIONS
    }
    by_suite: dict[str, dict[Condition, Metrics]] = {}
    for part in answered:
        by_suite.setdefault(part.suite.name, {})[part.condition] = metrics(part.results, confidence)
    seconds = sum(one.answer.seconds for part in answered for one in part.results)
    answers = sum(len(part.results) for part in answered)
    cut, unsuitable = sum(part.cut for part in answered), sum(part.unsuitable for part in answered)
    return EvaluationFacts(pooled, by_suite, answers, cut, round(seconds, 1), unsuitable)


def content(settings: EvaluationSettings, inputs: Mapping[str, Version], answered: Sequence[Answered]) -> Evaluation:
    """Returns what is stored: what was evaluated, under which settings, and each case's digests and scores."""
    results = [
        SuiteResults(
            part.suite.name,
            part.condition,
            metrics(part.results, settings.confidence),
            [
                CaseResult(
                    one.case.key,
                    one.case.digest,
                    one.scores,
                    canonical.digest_text(one.answer.text),
                    one.answer.documents,
                )
                for one in part.results
            ],
        )
        for part in answered
    ]
    return Evaluation({role: version.digest for role, version in inputs.items()}, settings, results)


def record(
    connection: Connection,
    usecase: UseCase,
    attempt: Attempt,
    subject: str,
    inputs: Mapping[str, Version],
    artifact: Version,
    answered: Sequence[Answered],
) -> None:
    """Writes suites, evaluations and results, in the connection's transaction."""
    for part in answered:
        suite = _suite(connection, usecase.name, part.suite)
        row = database.fetch_one(
            connection,
            _FILE,
            "insert_evaluation",
            use_case=usecase.name,
            run=str(attempt.run_id),
            suite=suite,
            subject=subject,
            model=inputs.get("adapter", inputs["base"]).version_id,
            index=inputs["index"].version_id if part.condition == WITH else None,
            artifact=artifact.version_id,
            metrics=Jsonb(plain(metrics(part.results, usecase.evaluation.confidence))),
        )
        assert row is not None
        rows = [
            {
                "case_key": one.case.key,
                "scores": one.scores,
                "answer": one.answer.text.replace("\x00", ""),  # a byte that Postgres cannot hold
                "answer_digest": canonical.digest_text(one.answer.text),
                "documents": one.answer.documents,
                "seconds": one.answer.seconds,
            }
            for one in part.results
        ]
        database.execute(
            connection, _FILE, "insert_results", evaluation=row["evaluation_id"], suite=suite, rows=Jsonb(rows)
        )


def _suite(connection: Connection, use_case: str, suite: Suite) -> int:
    """Returns the id of the suite's row, made where this is the first time that it is seen."""
    identity = {"use_case": use_case, "name": suite.name, "digest": suite.digest}
    new = database.fetch_one(connection, _FILE, "insert_suite", **identity, gated=suite.gated, cases=len(suite.cases))
    if new is not None:
        rows = [_case(case) for case in suite.cases]
        database.execute(connection, _FILE, "insert_cases", suite=new["suite_id"], rows=Jsonb(rows))
        return int(new["suite_id"])
    known = database.fetch_one(connection, _FILE, "suite", **identity)
    assert known is not None
    return int(known["suite_id"])


def _case(case: Case) -> dict[str, Any]:
    """Returns a case as a row. One of the locked test split names its row and repeats none of its text."""
    expect = None
    if isinstance(case.expect, Expect):
        expect = plain(case.expect)
    return {
        "case_key": case.key,
        "digest": case.digest,
        "question": case.question,
        "principal": case.principal,
        "expect": expect,
        "tags": list(case.tags),
    }


def locked_rows(connection: Connection, dataset: Version) -> list[dict[str, Any]]:
    """Returns the rows of a dataset version's locked test split: digest, kind, content. Two statements, each its own
    transaction: the rows are given against a reading that is on record."""
    (row,) = database.call(connection, "catalog.announce_locked_reading", dataset.version_id)
    return database.fetch(connection, _FILE, "locked_rows", reading=row["announce_locked_reading"])


def unserved(connection: Connection, use_case: str, index: Version) -> str | None:
    """Returns a digest of the documents of an index version that are withdrawn or expired by now; None for none."""
    (row,) = database.call(connection, "eval.unserved", use_case, index.version_id)
    digest: str | None = row["unserved"]
    return digest


def precision(connection: Connection, usecase: UseCase) -> Dtype:
    """Returns what models are computed in: what the use case says or, for `auto`, what its newest preflight measured;
    float32 where there was none."""
    wanted = usecase.training.dtype
    if wanted != "auto":
        return wanted
    row = database.fetch_one(connection, _FILE, "precision", use_case=usecase.name)
    dtype: Dtype = "float32" if row is None else row["dtype"]
    return dtype


def base_of(connection: Connection, adapter: int) -> tuple[Version, BaseModelSource] | None:
    """Returns the base model that an adapter was trained on and where it was, as lineage knows; None where it does
    not."""
    row = database.fetch_one(connection, _FILE, "base_of", version_id=adapter)
    if row is None:
        return None
    source = BaseModelSource.labelled(row["meta"]["source"], row["meta"]["revision"])
    return Version(row["version_id"], "base_model", row["name"], row["digest"]), source
