"""Evaluations as records: the artifact's content, the facts of the run, and the rows in the database."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from pipeline import canonical, database, statistics
from pipeline.database import Connection
from pipeline.evaluation.answering import Answered, Scored
from pipeline.evaluation.cases import Case, Expect, Suite
from pipeline.evaluation.scorers import SCORERS
from pipeline.steps import Attempt, Version
from pipeline.usecase import BaseModelSource, UseCase

Metrics = dict[str, dict[str, float | int | str]]
_FILE = "evaluation"


def metrics(results: Sequence[Scored], confidence: float) -> Metrics:
    """Returns the mean of each metric over the cases that it applies to, with its interval."""
    found = {name: [one.scores[name] for one in results if name in one.scores] for name in SCORERS}
    return {name: statistics.mean(scores, confidence).as_dict() for name, scores in found.items() if scores}


def facts(answered: Sequence[Answered], confidence: float) -> dict[str, Any]:
    """Returns the run's facts: metrics pooled over the gated suites (over all, where none is) and per suite."""
    gated = [part for part in answered if part.suite.gated] or list(answered)
    told: dict[str, Any] = {
        condition: metrics([one for part in gated if part.condition == condition for one in part.results], confidence)
        for condition in ("with", "without")
    }
    by_suite: dict[str, dict[str, Metrics]] = {}
    for part in answered:
        by_suite.setdefault(part.suite.name, {})[part.condition] = metrics(part.results, confidence)
    seconds = sum(one.answer.seconds for part in answered for one in part.results)
    counts = {"answers": sum(len(part.results) for part in answered), "cut": sum(part.cut for part in answered)}
    return told | {"suites": by_suite, **counts, "seconds": round(seconds, 1)}


def content(params: Mapping[str, Any], digests: Mapping[str, str], answered: Sequence[Answered]) -> bytes:
    """Returns the artifact's file: what was evaluated, under which settings, and each case's digests and scores."""
    results = [
        {
            "suite": part.suite.name,
            "condition": part.condition,
            "metrics": metrics(part.results, params["confidence"]),
            "cases": [
                {
                    "case": one.case.key,
                    "digest": one.case.digest,
                    "scores": one.scores,
                    "answer": canonical.digest_text(one.answer.text),
                    "documents": one.answer.documents,
                }
                for one in part.results
            ],
        }
        for part in answered
    ]
    return canonical.dumps({"inputs": dict(digests), "settings": dict(params), "results": results}).encode()


def write(
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
            index=inputs["index"].version_id if part.condition == "with" else None,
            artifact=artifact.version_id,
            metrics=Jsonb(metrics(part.results, usecase.evaluation.confidence)),
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
    made = database.fetch_one(connection, _FILE, "insert_suite", **identity, gated=suite.gated, cases=len(suite.cases))
    if made is not None:
        rows = [_case(case) for case in suite.cases]
        database.execute(connection, _FILE, "insert_cases", suite=made["suite_id"], rows=Jsonb(rows))
        return int(made["suite_id"])
    known = database.fetch_one(connection, _FILE, "suite", **identity)
    assert known is not None
    return int(known["suite_id"])


def _case(case: Case) -> dict[str, Any]:
    """Returns a case as a row. One of the locked test split names its row and repeats none of its text."""
    expect = None
    if isinstance(case.expect, Expect):
        told = case.expect
        expect = {
            "answerable": told.answerable,
            "value": told.value,
            "aliases": list(told.aliases),
            "source": told.source,
        }
    return {
        "case_key": case.key,
        "digest": case.digest,
        "question": case.question,
        "principal": case.principal,
        "expect": expect,
        "tags": list(case.tags),
    }


def locked_rows(connection: Connection, dataset: Version) -> list[dict[str, Any]]:
    """Returns the rows of a dataset version's locked test split: digest, kind, content."""
    return database.fetch(connection, _FILE, "locked_rows", artifact_version_id=dataset.version_id)


def unserved(connection: Connection, use_case: str, index: Version) -> str | None:
    """Returns a digest of the documents of an index version that are withdrawn or expired by now; None for none."""
    (row,) = database.call(connection, "eval.unserved", use_case, index.version_id)
    found: str | None = row["unserved"]
    return found


def base_of(connection: Connection, adapter: int) -> tuple[Version, BaseModelSource] | None:
    """Returns the base model that an adapter was trained on and where it was, as lineage knows; None where it does
    not."""
    row = database.fetch_one(connection, _FILE, "base_of", version_id=adapter)
    if row is None:
        return None
    source = BaseModelSource(path=row["meta"]["source"], revision=row["meta"]["revision"])
    return Version(row["version_id"], "base_model", row["name"], row["digest"]), source
