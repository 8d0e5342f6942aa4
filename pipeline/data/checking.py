"""check: every row held against the rules, and all of them together by Great Expectations. What breaks a rule is left
out and written down by file and line; a file that is mostly bad stops the night's data."""

from collections import Counter
from collections.abc import Iterable, Mapping

from pipeline import canonical, database, steps
from pipeline.context import Context
from pipeline.data import (
    catalog,
    distributions,
    document_ledger,
    document_measures,
    entries,
    expectations,
    judging,
    jumps,
    ledgers,
    lengths,
    provenance,
    refusals,
    snapshots,
    tombstones,
)
from pipeline.data import findings as findings_module
from pipeline.data.expectations import Validation
from pipeline.data.judging import Criteria, Judged, JudgedDocuments, JudgedExamples
from pipeline.data.records import Checked, CheckFacts, Fetched
from pipeline.data.reports import REPORT, CheckReport, FileReport, PartReport
from pipeline.records import load, write
from pipeline.steps import Attempt, Output, Result, Step
from pipeline.usecase import questions

PAGE = "expectations.html"  # a page of Great Expectations' Data Docs


def check(context: Context, fetched: Fetched) -> Checked:
    """Returns the accepted rows as private snapshots, the report, and counts.

    Raises Refused, with the findings recorded, where a file ends before its rows do, more than `checks.max_rejected` of
    its rows are bad, or a rule suddenly leaves out many more of the examples than before.
    """
    usecase = context.usecase
    with database.connect(context.settings, "pipeline") as connection:
        erased = tombstones.read(context.settings, connection, usecase.name)
        waived = catalog.waivers(connection, usecase.name)
    asked = sorted({each for suite in usecase.evaluation.suites for each in questions(suite)})
    basis = lengths.basis(context.settings, usecase)
    criteria = Criteria(context.settings, usecase.checks, erased, waived, asked, basis)
    spec = Step(
        usecase.name,
        "data.check",
        "pipeline",
        ("pipeline.data.checking",),
        params={
            "checks": usecase.checks.model_dump(mode="json"),
            "tombstones": erased.digest,
            "waived": canonical.digest(sorted(waived)),
            "asked": canonical.digest(asked),
            "lengths": basis.params,
        },
        inputs={"documents": fetched.documents, "examples": fetched.examples},
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        document_key = document_ledger.key(usecase.checks)
        seen = document_ledger.known(attempt, spec.use_case, document_key)
        documents = judging.of_documents(attempt, spec.inputs["documents"], criteria, seen)
        known = document_measures.statuses(documents.accepted)
        examples = judging.of_examples(attempt, spec.use_case, spec.inputs["examples"], criteria, known)
        judged: dict[str, Judged] = {"documents": documents, "examples": examples}
        findings = [finding for part in judged.values() for finding in part.findings]
        validation = expectations.validate(
            context.settings, attempt, judging.staged(documents, examples), usecase.checks
        )
        refusal = refusals.of(validation, judged.values(), usecase.checks)
        if refusal is None:
            counts, snapshot = examples.counts(), fetched.examples.digest
            refusal, sudden = jumps.refusal(attempt.connection, usecase, snapshot, counts, waived)
            findings += sudden
        if refusal is not None:
            with attempt.connection.transaction():
                database.call(attempt.connection, "lineage.hold_attempt", attempt.run_id, attempt.fence)
                findings_module.record(attempt.connection, usecase.name, attempt.run_id, findings)
            raise refusal
        report = attempt.store.put(
            "check_report", {REPORT: write(_report(documents, examples, validation)), PAGE: validation.page}
        )
        rows = [*documents.accepted, *documents.places]
        outputs = {
            "report": Output.of(report, "data", private=False),
            "documents": snapshots.of_documents(
                attempt.store,
                document_ledger.SNAPSHOT,
                rows,
                documents.files,
                document_key,
                document_ledger.described(documents.texts),
                made_of=("documents",),
            ),
            "examples": ledgers.keep(
                attempt, examples.ledger, examples.pairs, criteria.key, examples.sources, made_of=("examples",)
            ),
        }
        return Result(
            outputs,
            _facts(judged),
            lambda connection, _: findings_module.record(connection, usecase.name, attempt.run_id, findings),
        )

    outcome = steps.run(context.settings, context.origin, spec, work)
    outputs = {role: outcome.outputs[role] for role in ("report", "documents", "examples")}
    facts = load(CheckFacts, outcome.facts)
    return Checked(outcome.run_id, outcome.reused, **outputs, rows=fetched.examples, facts=facts)


def _report(documents: JudgedDocuments, examples: JudgedExamples, validation: Validation) -> CheckReport:
    """Returns the report: counts and digests alone."""
    accepted = entries.accepted(examples.ledger)
    return CheckReport(
        checked_with=f"great-expectations {expectations.version()}",
        documents=_part(documents),
        examples=_part(examples),
        subjects=entries.subjects(accepted),
        examples_with_subject=len(accepted) - accepted["subject"].null_count,
        kinds=entries.kinds(accepted, examples.sources),
        classifications=_counted(row.classification for row in documents.accepted),
        statuses=_counted(row.status for row in documents.accepted),
        tenants=_counted(row.tenant for row in documents.accepted),
        generated=provenance.share(entries.generated(accepted)),
        expectations=validation.results,
        lengths=distributions.of(accepted, examples.sources),
        tasks=distributions.tasks(accepted, examples.sources),
        extremes=distributions.extremes(accepted, examples.sources),
    )


def _part(part: Judged) -> PartReport:
    files = [
        FileReport(
            file.file,
            file.sha256,
            file.group,
            file.format,
            file.licence,
            file.kind,
            rows=part.of_files.get(file.file, 0),
            accepted=part.accepted_of_files.get(file.file, 0),
        )
        for file in part.files
    ]
    return PartReport(**vars(part.counts()), files=files, rules=part.reports)


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _facts(judged: Mapping[str, Judged]) -> CheckFacts:
    documents, examples = judged["documents"].counts(), judged["examples"].counts()
    return CheckFacts(
        documents.rows + examples.rows,
        documents.accepted + examples.accepted,
        documents.rejected + examples.rejected,
        _summed(documents.by_rule, examples.by_rule),
        _summed(documents.warnings, examples.warnings),
        documents,
        examples,
    )


def _summed(*counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(sum((Counter(count) for count in counts), Counter[str]()).items()))
