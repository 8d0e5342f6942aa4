"""Rows judged: held against the rules, those of documents and those of examples, as the check goes on with each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.data import document_measures, entries, ledgers, lengths, marks, rules, snapshots, verdicts
from pipeline.data.catalog import Waived
from pipeline.data.documents import Document
from pipeline.data.findings import Finding
from pipeline.data.lengths import Basis, Lengths, Unmeasured
from pipeline.data.measures import Measures
from pipeline.data.measuring import Task
from pipeline.data.records import Counts, File
from pipeline.data.reports import RuleReport
from pipeline.data.rows import Problem
from pipeline.data.rules import Rule
from pipeline.data.snapshots import Source
from pipeline.data.texts import OF_DOCUMENTS
from pipeline.data.tombstones import Tombstones
from pipeline.settings import Settings
from pipeline.steps import Attempt, Version
from pipeline.usecase import Checks

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Criteria:
    """What rows are held against."""

    settings: Settings
    checks: Checks
    erased: Tombstones
    waived: Waived
    asked: Sequence[str]  # questions of the evaluation
    basis: Basis | Unmeasured  # what lengths are measured by

    @property
    def key(self) -> str:
        """Returns the key of the ledgers that were taken by the same criteria."""
        return ledgers.key(self.checks, self.erased, self.basis)


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
        rejected = by_rule(self.findings, "rejected", "waiting")
        return Counts(rows, accepted, rows - accepted, rejected, by_rule(self.findings, "warning"))


@dataclass(frozen=True)
class JudgedDocuments(Judged):
    """Documents, held against the rules."""

    table: Sequence[Rule]
    accepted: Sequence[Document]
    places: Sequence[Document]  # of the rejected, without a word of them
    texts: Mapping[str, Measures]  # what those of the accepted hold, by the digests of their documents


@dataclass(frozen=True)
class JudgedExamples(Judged):
    """Examples, held against the rules: their ledger has the rule that rejected each, null where none did."""

    sources: Sequence[Source]
    table: Sequence[Rule]
    ledger: "pa.Table"
    pairs: "pa.Table"


def of_documents(
    attempt: Attempt, version: Version, criteria: Criteria, known: Mapping[str, Measures]
) -> JudgedDocuments:
    """Returns the documents of a snapshot, judged; `known` are what texts were found to hold before."""
    import pyarrow as pa

    checks = criteria.checks
    rows = snapshots.read_documents(attempt.store, version)
    table = rules.for_documents(checks)
    measured = document_measures.of_documents(rows, criteria.erased.holds, checks, known)
    columns = {
        name: pa.chunked_array([pa.array([row[name] for row in measured])]) for name in document_measures.MEASURES
    }
    digests = [None if row.problem is not None else row.digest for row in rows]
    judged = verdicts.judge(table, columns, digests, criteria.waived)
    files = snapshots.files(attempt.store, version)
    accepted = [row for place, row in enumerate(rows) if place not in judged.rejected]
    # What was served in the place of a rejected one stays so.
    places = [
        row.place(Problem(rule.name, rule.detail), rights=rule.name in rules.OF_DOCUMENT_TEXTS)
        for row, rule in ((rows[place], rule) for place, rule in judged.rejected.items())
    ]
    findings = [
        Finding(row.file, row.line, rule.name, rule.severity, rules.detail(rule, row.problem), digest)
        for row, digest, rule in ((rows[place], digests[place], rule) for place, rule in judged.breaches)
    ]
    of_files, kept = Counter(row.file for row in rows), Counter(row.file for row in accepted)
    findings += _empty(files, of_files)
    # Only of those whose text stands in the same snapshot: what is said of one goes with it.
    texts = {
        digest: {name: own[name] for name in OF_DOCUMENTS}
        for place, (digest, own) in enumerate(zip(digests, measured, strict=True))
        if digest is not None and place not in judged.rejected
    }
    return JudgedDocuments(files, of_files, kept, judged.reports, findings, table, accepted, places, texts)


def of_examples(
    attempt: Attempt, use_case: str, version: Version, criteria: Criteria, documents: Mapping[str, str]
) -> JudgedExamples:
    """Returns the examples of a snapshot, judged; `documents` are those that there are, id to status."""
    checks, asked = criteria.checks, criteria.asked
    files = snapshots.files(attempt.store, version)
    rows = attempt.store.fetch_file(version.kind, version.digest, snapshots.LINES, attempt.scratch / snapshots.LINES)
    by = lengths.load(criteria.settings, criteria.basis)
    basis = criteria.basis if isinstance(criteria.basis, Basis) and isinstance(by, Lengths) else None
    task = Task(rows, files, checks, criteria.erased, criteria.settings, basis)
    kept = ledgers.take(task, ledgers.newest(attempt, use_case, criteria.key), attempt.scratch)
    contaminated = ledgers.contaminated(task, kept.rows, asked) if checks.contamination != "off" else frozenset()
    ledger = entries.beside(kept.rows, documents, frozenset(map(marks.question_mark, asked)), contaminated)
    digests = [None if digest is None else digest.hex() for digest in ledger["digest"].to_pylist()]
    table = rules.for_examples(checks)
    judged = verdicts.judge(table, entries.columns(ledger), digests, criteria.waived)
    ledger = entries.with_rules(ledger, {place: rule.name for place, rule in judged.rejected.items()})
    of_files, accepted = entries.rows_of_files(ledger, files)
    findings = [*entries.findings(ledger, files, judged.breaches)]
    findings += [_unmeasured(by)] if isinstance(by, Unmeasured) else []
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


def staged(documents: JudgedDocuments, examples: JudgedExamples) -> "pa.Table":
    """Returns what Great Expectations looks at: a row each, with the columns of catalog.staged_row but the run."""
    import pyarrow as pa

    groups = {file.file: file.group for file in documents.files}
    bad = {rule.name for rule in documents.table if rule.says_against_source}
    judged: list[tuple[str, str | None]] = [(row.file, None) for row in documents.accepted]
    judged += [(row.file, row.problem.rule) for row in documents.places if row.problem is not None]
    of_documents = pa.table(
        {
            "part": pa.array(["documents"] * len(judged), pa.string()),
            "source": pa.array([groups[file] for file, _ in judged], pa.string()),
            "file": pa.array([file for file, _ in judged], pa.string()),
            "rule": pa.array([rule for _, rule in judged], pa.string()),
            "counts_as_bad": pa.array([rule in bad for _, rule in judged], pa.bool_()),
            "answer_characters": pa.nulls(len(judged), pa.int32()),
        }
    )
    return pa.concat_tables([of_documents, entries.staged(examples.ledger, examples.sources, examples.table)])


def by_rule(findings: Iterable[Finding], *severities: rules.Severity) -> dict[str, int]:
    """Returns how many findings of these severities there are of each rule."""
    return dict(sorted(Counter(finding.rule for finding in findings if finding.severity in severities).items()))
