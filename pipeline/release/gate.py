"""The gate: applies a sealed policy to the evaluations of candidate and champion, and records a decision.

What it reads are the evaluations' artifacts, verified against their digests; what it writes holds digests and numbers.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import get_args

from pipeline import database, deployments, steps, tables
from pipeline.context import Context
from pipeline.database import Connection
from pipeline.records import write
from pipeline.release import inputs, thresholds
from pipeline.release.inputs import Evidence
from pipeline.release.records import Decided, Gated, GateFacts, Replaced, Report, Sealed, SealedPolicy
from pipeline.release.thresholds import Comparison
from pipeline.results import Check, Subject, Verdict
from pipeline.steps import Attempt, Output, Result, Step, Version
from pipeline.usecase import UseCase

log = logging.getLogger(__name__)

REPORT = "gate.json"


def gate(context: Context, sealed: Sealed, candidate: Version, evaluations: Mapping[Subject, Version]) -> Gated:
    """Returns the decision. Its message says in one line what it came to; it is logged, with a table of the checks.

    `evaluations` are those of candidate, champion where there is one, else base; others are kept as evidence. The
    thresholds applied are the sealed ones, whatever the YAML says by now. A decision that lets the candidate through
    supersedes older ones that wait. It is made anew each time: it is about what is live now.

    Raises BadInput where an evaluation is missing or is of other models or cases, Stale where another model went live
    since the champion was evaluated, Refused where the sealed policy was altered.
    """
    with database.connect(context.settings, "gatekeeper") as connection:
        evidence = inputs.gather(connection, context, sealed, candidate, evaluations)
    spec = Step(
        context.usecase.name,
        "release.gate",
        "gatekeeper",
        ("pipeline.release.gate",),
        params={"policy": evidence.policy.digest, "baseline": evidence.baseline},
        inputs={
            "candidate": evidence.candidate,
            **{f"evaluation.{subject}": version for subject, version in evaluations.items()},
        },
        reuse="never",
    )

    def work(attempt: Attempt) -> Result:
        checks, comparisons = _checks(evidence)
        report = attempt.store.put("gate_report", {REPORT: write(_report(context.usecase, evidence, checks))})

        def decide(connection: Connection, _versions: Mapping[str, Version]) -> Decided:
            _compare(connection, evidence, comparisons)
            return _decide(connection, attempt, evidence, checks)

        verdicts = [check.verdict for check in checks]
        counts: dict[Verdict, int] = {verdict: verdicts.count(verdict) for verdict in get_args(Verdict)}
        outputs = {"report": Output.of(report, "gate", private=False)}
        return Result(outputs, GateFacts(thresholds.outcome(verdicts), counts), decide)

    outcome = steps.run(context.settings, context.origin, spec, work)
    decided: Decided = outcome.written
    message = tables.summary(decided.decision, decided.checks)
    log.info("%s\n%s", message, tables.plain(tables.checks(decided.decision, decided.checks)))
    return Gated(
        **vars(decided),
        run=outcome.run_id,
        report=outcome.outputs["report"],
        baseline=evidence.baseline,
        message=message,
    )


def _checks(evidence: Evidence) -> tuple[list[Check], list[Comparison]]:
    candidate, baseline = evidence.contents["candidate"], evidence.contents[evidence.baseline]
    checks, comparisons = thresholds.thresholds(evidence.policy.content, candidate, baseline, evidence.baseline)
    return [*inputs.sound(evidence), *checks], comparisons


def _report(usecase: UseCase, evidence: Evidence, checks: Sequence[Check]) -> Report:
    live = evidence.live
    return Report(
        use_case=usecase.name,
        policy=SealedPolicy(evidence.policy.digest, evidence.policy.content),
        candidate=evidence.candidate.digest,
        baseline=evidence.baseline,
        replaces=None if live is None else Replaced(live.model_digest, live.index_digest),
        evaluations={subject: version.digest for subject, version in evidence.evaluations.items()},
        checks=[check.stored() for check in checks],
        decision=thresholds.outcome([check.verdict for check in checks]),
    )


def _compare(connection: Connection, evidence: Evidence, comparisons: list[Comparison]) -> None:
    """Writes the paired differences down, between the evaluations' rows."""
    subjects: tuple[Subject, ...] = ("candidate", evidence.baseline)
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
        for subject in subjects
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
            confidence=evidence.policy.content.confidence,
            n=one.estimate.n,
            method=one.estimate.method,
        )


def _decide(connection: Connection, attempt: Attempt, evidence: Evidence, checks: Sequence[Check]) -> Decided:
    """Writes the decision, and ends older ones that it supersedes."""
    replaces = None if evidence.live is None else evidence.live.deployment_id
    decision = deployments.decide_model(connection, attempt.run_id, evidence.policy.policy_id, replaces, checks)
    row = database.fetch_one(connection, "release", "decision", decision_id=decision)
    assert row is not None
    older = database.call(connection, "release.supersede", decision)
    return Decided(
        decision,
        row["outcome"],
        [check.stored() for check in checks],
        row["needs_person"],
        [each["supersede"] for each in older],
    )
