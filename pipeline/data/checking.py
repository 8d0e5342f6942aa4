"""check: every row held against the rules, by Great Expectations. What breaks one is left out and written down by file,
line and rule; a file that is mostly bad stops the night's data."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import canonical, database, steps
from pipeline.context import Context
from pipeline.data import (
    catalog,
    entries,
    expectations,
    jumps,
    ledgers,
    lengths,
    measures,
    provenance,
    refusals,
    rules,
    snapshots,
    tombstones,
    verdicts,
)
from pipeline.data import findings as findings_module
from pipeline.data.catalog import Waived
from pipeline.data.documents import Document
from pipeline.data.expectations import Validation
from pipeline.data.findings import Finding
from pipeline.data.lengths import Basis, Lengths, Unmeasured
from pipeline.data.measures import Beside
from pipeline.data.measuring import Task
from pipeline.data.records import (
    Checked,
    CheckFacts,
    CheckReport,
    Counts,
    Fetched,
    File,
    FileReport,
    PartReport,
    RuleReport,
)
from pipeline.data.rows import Problem
from pipeline.data.rules import Rule, Severity
from pipeline.data.snapshots import Source
from pipeline.data.tombstones import Tombstones
from pipeline.records import load, write
from pipeline.steps import Attempt, Output, Result, Step
from pipeline.usecase import Checks, questions

if TYPE_CHECKING:
    import pyarrow as pa

REPORT = "report.json"
PAGE = "expectations.html"  # a page of Great Expectations' Data Docs


@dataclass(frozen=True)
class Judged:
    """One set of rows, held against the rules."""

    files: Sequence[File]
    of_files: Mapping[str, int]  # rows by file
    accepted_of_files: Mapping[str, int]
    reports: Sequence[RuleReport]
    findings: list[Finding]

    def counts(self) -> Counts:
        """Returns rows accepted and rejected, and both kinds of finding by rule."""
        rows, accepted = sum(self.of_files.values()), sum(self.accepted_of_files.values())
        rejected = _by_rule(self.findings, "rejected", "waiting")
        return Counts(rows, accepted, rows - accepted, rejected, _by_rule(self.findings, "warning"))


@dataclass(frozen=True)
class JudgedDocuments(Judged):
    """Documents, held against the rules."""

    table: Sequence[Rule]
    accepted: Sequence[Document]
    places: Sequence[Document]  # of the rejected, without a word of them


@dataclass(frozen=True)
class JudgedExamples(Judged):
    """Examples, held against the rules: their ledger has the rule that rejected each, null where none did."""

    sources: Sequence[Source]
    table: Sequence[Rule]
    ledger: "pa.Table"
    pairs: "pa.Table"


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
        documents = _documents(attempt, spec, usecase.checks, erased, waived)
        known = measures.statuses(documents.accepted)
        wanted = ledgers.key(usecase.checks, erased, basis)
        examples = _examples(attempt, spec, context, basis, wanted, erased, waived, known, asked)
        judged: dict[str, Judged] = {"documents": documents, "examples": examples}
        findings = [finding for part in judged.values() for finding in part.findings]
        validation = expectations.validate(context.settings, attempt, _staged(documents, examples), usecase.checks)
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
                attempt.store, "documents.checked", rows, documents.files, made_of=("documents",)
            ),
            "examples": ledgers.keep(
                attempt, examples.ledger, examples.pairs, wanted, examples.sources, made_of=("examples",)
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


def _documents(attempt: Attempt, spec: Step, checks: Checks, erased: Tombstones, waived: Waived) -> JudgedDocuments:
    import pyarrow as pa

    version = spec.inputs["documents"]
    rows = snapshots.read_documents(attempt.store, version)
    table, measured = rules.for_documents(checks), measures.of_documents(rows, erased.holds, checks)
    columns = {name: pa.chunked_array([pa.array([row[name] for row in measured])]) for name in measures.OF_DOCUMENTS}
    digests = [None if row.problem is not None else row.digest for row in rows]
    judged = verdicts.judge(table, columns, digests, waived)
    files = snapshots.files(attempt.store, version)
    accepted = [row for place, row in enumerate(rows) if place not in judged.rejected]
    # What was served in the place of a rejected one stays so.
    places = [
        row.place(Problem(rule.name, rule.detail), rights=rule.name in rules.OF_DOCUMENT_TEXTS)
        for row, rule in ((rows[place], rule) for place, rule in judged.rejected.items())
    ]
    details = [(rows[place], place, rule) for place, rule in (*judged.rejected.items(), *judged.warned)]
    findings = [_finding(row.file, row.line, rule, row.problem, digests[place]) for row, place, rule in details]
    of_files, kept = Counter(row.file for row in rows), Counter(row.file for row in accepted)
    findings += _empty(files, of_files)
    return JudgedDocuments(files, of_files, kept, judged.reports, findings, table, accepted, places)


def _examples(
    attempt: Attempt,
    spec: Step,
    context: Context,
    basis: Basis | Unmeasured,
    wanted: str,
    erased: Tombstones,
    waived: Waived,
    documents: Mapping[str, str],
    asked: Sequence[str],
) -> JudgedExamples:
    version, checks, settings = spec.inputs["examples"], context.usecase.checks, context.settings
    files = snapshots.files(attempt.store, version)
    rows = attempt.store.fetch_file(version.kind, version.digest, snapshots.LINES, attempt.scratch / snapshots.LINES)
    earlier = ledgers.newest(attempt, spec.use_case, wanted)
    measured_by = lengths.load(settings, basis)
    by = basis if isinstance(basis, Basis) and isinstance(measured_by, Lengths) else None
    task = Task(rows, files, checks, erased, settings, by)
    kept = ledgers.take(task, earlier, attempt.scratch)
    contaminated = ledgers.contaminated(task, kept.rows, asked) if checks.contamination != "off" else frozenset()
    beside = Beside(documents, frozenset(map(measures.question_mark, asked)))
    ledger = entries.beside(kept.rows, beside, contaminated)
    digests = [None if digest is None else digest.hex() for digest in ledger["digest"].to_pylist()]
    table = rules.for_examples(checks)
    judged = verdicts.judge(table, entries.columns(ledger), digests, waived)
    ledger = entries.with_rules(ledger, {place: rule.name for place, rule in judged.rejected.items()})
    of_files, accepted = entries.rows_of_files(ledger, files)
    findings = [
        entries.finding(ledger, files, place, rule) for place, rule in (*judged.rejected.items(), *judged.warned)
    ]
    findings += [_unmeasured(measured_by)] if isinstance(measured_by, Unmeasured) else []
    findings += _empty(files, of_files)
    return JudgedExamples(files, of_files, accepted, judged.reports, findings, files, table, ledger, kept.pairs)


def _empty(files: Sequence[File], rows: Mapping[str, int]) -> list[Finding]:
    return [
        Finding(file.file, None, "empty_file", "warning", "the file has no rows", None)
        for file in files
        if not rows.get(file.file)
    ]


def _unmeasured(basis: Unmeasured) -> Finding:
    detail = f"the examples are not held against the base model's max_length: {basis.why}"
    return Finding("examples", None, "lengths_unmeasured", "warning", detail, None)


def _finding(file: str, line: int, rule: Rule, problem: Problem | None, digest: str | None) -> Finding:
    return Finding(file, line, rule.name, rule.severity, rules.detail(rule, problem), digest)


def _staged(documents: JudgedDocuments, examples: JudgedExamples) -> "pa.Table":
    """Returns what Great Expectations looks at: a row each, with the columns of catalog.staged_row but the run."""
    import pyarrow as pa

    groups = {file.file: file.group for file in documents.files}
    bad = {rule.name for rule in documents.table if rule.says_against_source}
    rules_of: list[tuple[str, str | None]] = [(row.file, None) for row in documents.accepted]
    rules_of += [(row.file, row.problem.rule) for row in documents.places if row.problem is not None]
    of_documents = pa.table(
        {
            "part": pa.array(["documents"] * len(rules_of), pa.string()),
            "source": pa.array([groups[file] for file, _ in rules_of], pa.string()),
            "file": pa.array([file for file, _ in rules_of], pa.string()),
            "rule": pa.array([rule for _, rule in rules_of], pa.string()),
            "counts_as_bad": pa.array([rule in bad for _, rule in rules_of], pa.bool_()),
            "answer_characters": pa.nulls(len(rules_of), pa.int32()),
        }
    )
    return pa.concat_tables([of_documents, entries.staged(examples.ledger, examples.sources, examples.table)])


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


def _by_rule(findings: Iterable[Finding], *severities: Severity) -> dict[str, int]:
    return _counted(finding.rule for finding in findings if finding.severity in severities)


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
