"""The gate: applies a sealed policy to the evaluations of candidate and champion, and records a decision.

What it reads are the evaluations' artifacts, verified against their digests; what it writes holds digests and numbers.
"""

import logging
from collections.abc import Mapping
from typing import Any

from pipeline import canonical, database, deployments, steps, tables
from pipeline.database import Connection
from pipeline.release import inputs as gathering
from pipeline.release import thresholds as checking
from pipeline.release.inputs import Evidence
from pipeline.release.thresholds import Check, Comparison
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Step, Version
from pipeline.usecase import UseCase

log = logging.getLogger(__name__)


def gate(
    settings: Settings,
    usecase: UseCase,
    origin: Origin,
    sealed: dict[str, Any],
    candidate: dict[str, Any],
    evaluations: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Returns {"run", "decision_id", "decision", "message", "checks", "needs_person", "baseline", "superseded",
    "outputs": {"report"}}. The message says in one line what it came to; it is logged, with a table of the checks.

    `evaluations` maps subjects to what `evaluate` returned: candidate, champion where there is one, else base; others
    are kept as evidence. The thresholds applied are the sealed ones, whatever the YAML says by now. A decision that
    lets the candidate through supersedes older ones that wait. It is made anew each time: it is about what is live
    now.

    Raises BadInput where an evaluation is missing or is of other models or cases, Stale where another model went live
    since the champion was evaluated, Refused where the sealed policy was altered.
    """
    versions = {subject: Version(**told["outputs"]["evaluation"]) for subject, told in evaluations.items()}
    with database.connect(settings, "gatekeeper") as connection:
        evidence = gathering.gather(connection, settings, usecase, sealed, Version(**candidate), versions)
    spec = Step(
        usecase.name,
        "release.gate",
        "gatekeeper",
        ("pipeline.release.gate",),
        params={"policy": evidence.policy.digest, "baseline": evidence.baseline},
        inputs={
            "candidate": evidence.candidate,
            **{f"evaluation.{subject}": version for subject, version in versions.items()},
        },
        reuse="never",
    )
    told: dict[str, Any] = {}

    def work(attempt: Attempt) -> Result:
        found, comparisons = _checks(evidence)
        report = attempt.store.put("gate_report", {"gate.json": _report(usecase, evidence, found)})

        def write(connection: Connection, outputs: Mapping[str, Version]) -> None:
            _compare(connection, evidence, comparisons)
            told.update(_decide(connection, attempt, evidence, found))

        verdicts = [check["verdict"] for check in found]
        counts = {verdict: verdicts.count(verdict) for verdict in ("pass", "condition", "inconclusive", "fail")}
        outputs = {"report": Output.of(report, "gate", private=False)}
        return Result(outputs, {"decision": checking.outcome(found), "verdicts": counts}, write)

    outcome = steps.run(settings, origin, spec, work).as_dict()
    message = tables.summary(told["decision"], told["checks"])
    log.info("%s\n%s", message, tables.plain(tables.checks(told["decision"], told["checks"])))
    return outcome | told | {"baseline": evidence.baseline, "message": message}


def _checks(evidence: Evidence) -> tuple[list[Check], list[Comparison]]:
    candidate, baseline = evidence.contents["candidate"], evidence.contents[evidence.baseline]
    found, comparisons = checking.thresholds(evidence.policy.content, candidate, baseline, evidence.baseline)
    return [*gathering.sound(evidence), *found], comparisons


def _report(usecase: UseCase, evidence: Evidence, found: list[Check]) -> bytes:
    live = evidence.live
    return canonical.dumps(
        {
            "use_case": usecase.name,
            "policy": {"digest": evidence.policy.digest, "content": evidence.policy.content},
            "candidate": evidence.candidate.digest,
            "baseline": evidence.baseline,
            "replaces": None if live is None else {"model": live.model_digest, "index": live.index_digest},
            "evaluations": {subject: version.digest for subject, version in evidence.evaluations.items()},
            "checks": found,
            "decision": checking.outcome(found),
        }
    ).encode()


def _compare(connection: Connection, evidence: Evidence, comparisons: list[Comparison]) -> None:
    """Writes the paired differences down, between the evaluations' rows."""
    rows = {
        subject: {
            (row["suite"], row["condition"]): row["evaluation_id"]
            for row in database.fetch(
                connection,
                "release",
                "evaluations",
                artifact_version_id=evidence.evaluations[subject].version_id,
            )
        }
        for subject in ("candidate", evidence.baseline)
    }
    for one in comparisons:
        key = (one.suite, one.condition)
        database.execute(
            connection,
            "release",
            "insert_comparison",
            candidate=rows["candidate"][key],
            baseline=rows[evidence.baseline][key],
            metric=one.metric,
            difference=one.estimate.value,
            low=one.estimate.low,
            high=one.estimate.high,
            confidence=evidence.policy.content["confidence"],
            n=one.estimate.n,
            method=one.estimate.method,
        )


def _decide(connection: Connection, attempt: Attempt, evidence: Evidence, found: list[Check]) -> dict[str, Any]:
    """Writes the decision, and ends older ones that it supersedes."""
    live = evidence.live
    decision = deployments.decide_model(
        connection, attempt.run_id, evidence.policy.policy_id, None if live is None else live.deployment_id, found
    )
    row = database.fetch_one(connection, "release", "decision", decision_id=decision)
    assert row is not None
    older = database.call(connection, "release.supersede", decision)
    return {
        "decision_id": decision,
        "decision": row["outcome"],
        "checks": found,
        "needs_person": row["needs_person"],
        "superseded": [each["supersede"] for each in older],
    }
