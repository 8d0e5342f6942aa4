"""check: every row held against the rules, by Great Expectations. What breaks one is left out and written down by file,
line and rule; a file that is mostly bad stops the night's data."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline import canonical, database, steps
from pipeline.context import Context
from pipeline.data import catalog, expectations, jumps, measures, provenance, rules, sources, tombstones
from pipeline.data import findings as findings_module
from pipeline.data.catalog import Waived
from pipeline.data.documents import Document
from pipeline.data.expectations import Applied
from pipeline.data.findings import Finding
from pipeline.data.formats import Example
from pipeline.data.measures import Measures
from pipeline.data.records import (
    Checked,
    CheckFacts,
    CheckReport,
    Counts,
    Fetched,
    File,
    FileReport,
    PartReport,
)
from pipeline.data.rows import Problem
from pipeline.data.rules import Rule, Severity
from pipeline.data.tombstones import Tombstones
from pipeline.errors import Refused
from pipeline.records import load, write
from pipeline.steps import Attempt, Output, Result, Step
from pipeline.usecase import Checks, questions

REPORT = "report.json"


@dataclass(frozen=True)
class Judged:
    """One set of rows, held against the rules."""

    files: Sequence[File]
    rows: Sequence[Example | Document]
    accepted: Sequence[Example | Document]
    rejected: Sequence[tuple[Example | Document, Rule]]
    applied: list[Applied]
    findings: list[Finding]

    def counts(self) -> Counts:
        """Returns rows accepted and rejected, and both kinds of finding by rule."""
        return Counts(
            len(self.rows),
            len(self.accepted),
            len(self.rows) - len(self.accepted),
            _by_rule(self.findings, "rejected", "waiting"),
            _by_rule(self.findings, "warning"),
        )


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
        },
        inputs={"documents": fetched.documents, "examples": fetched.examples},
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        judged = _judged(attempt, spec, usecase.checks, erased, waived, asked)
        findings = [finding for part in judged.values() for finding in part.findings]
        refusal = _refusal(judged, usecase.checks.max_rejected)
        if refusal is None:
            counts, snapshot = judged["examples"].counts(), fetched.examples.digest
            refusal, sudden = jumps.refusal(attempt.connection, usecase, snapshot, counts, waived)
            findings += sudden
        if refusal is not None:
            with attempt.connection.transaction():
                database.call(attempt.connection, "lineage.hold_attempt", attempt.run_id, attempt.fence)
                findings_module.record(attempt.connection, usecase.name, attempt.run_id, findings)
            raise refusal
        report = attempt.store.put("check_report", {REPORT: write(_report(judged))})
        outputs = {
            "report": Output.of(report, "data", private=False),
            **{
                role: sources.snapshot(
                    attempt.store, f"{role}.checked", [*part.accepted, *_places(part)], part.files, made_of=(role,)
                )
                for role, part in judged.items()
            },
        }
        return Result(
            outputs,
            _facts(judged),
            lambda connection, _: findings_module.record(connection, usecase.name, attempt.run_id, findings),
        )

    outcome = steps.run(context.settings, context.origin, spec, work)
    snapshots = {role: outcome.outputs[role] for role in ("report", "documents", "examples")}
    return Checked(outcome.run_id, outcome.reused, **snapshots, facts=load(CheckFacts, outcome.facts))


def _places(part: Judged) -> list[Document]:
    """Returns the rejected documents without a word of them: where each stands, its id where it has one, and the rule
    that it broke. What was served in their place stays so."""
    return [
        Document(row.file, row.line, row.key, problem=Problem(rule.name, rule.detail))
        for row, rule in part.rejected
        if isinstance(row, Document)
    ]


def _judged(
    attempt: Attempt,
    spec: Step,
    checks: Checks,
    erased: Tombstones,
    waived: Waived,
    asked: Collection[str],
) -> dict[str, Judged]:
    store = attempt.store
    pinned = spec.inputs
    texts = sources.read_documents(store, pinned["documents"])
    documents = _judge(
        sources.read_files(store, pinned["documents"]),
        texts,
        rules.for_documents(),
        measures.of_documents(texts, erased.holds),
    )
    standing = measures.statuses([row for row in documents.accepted if isinstance(row, Document)])
    rows = [measures.redacted(row, checks) for row in sources.read_examples(store, pinned["examples"])]
    examples = _judge(
        sources.read_files(store, pinned["examples"]),
        rows,
        rules.for_examples(checks),
        measures.of_examples(rows, erased.holds, standing, checks, asked),
        waived,
    )
    return {"documents": documents, "examples": examples}


def _judge(
    files: Sequence[File],
    rows: Sequence[Example | Document],
    table: Sequence[Rule],
    measures: Sequence[Measures],
    waived: Waived = frozenset(),
) -> Judged:
    """Returns the rows as Great Expectations found them: left out by the first rule in the table that each breaks and
    that nobody has waived for it."""
    applied = expectations.validate(table, measures)
    rejected: dict[int, Rule] = {}
    warned: list[tuple[int, Rule]] = []
    for each in applied:
        for place in each.unexpected:
            if each.rule.severity == "warning":
                warned.append((place, each.rule))
            elif not (each.rule.may_be_waived and (each.rule.name, rows[place].digest) in waived):
                rejected.setdefault(place, each.rule)
    breaches = [*sorted(rejected.items(), key=lambda breach: breach[0]), *(w for w in warned if w[0] not in rejected)]
    findings = [_finding(rows[place], rule) for place, rule in breaches]
    filled = {row.file for row in rows}
    findings += [
        Finding(file.file, None, "empty_file", "warning", "the file has no rows", None)
        for file in files
        if file.file not in filled
    ]
    accepted = [row for place, row in enumerate(rows) if place not in rejected]
    refused = [(rows[place], rule) for place, rule in sorted(rejected.items(), key=lambda breach: breach[0])]
    return Judged(files, rows, accepted, refused, applied, findings)


def _finding(row: Example | Document, rule: Rule) -> Finding:
    digest = None if row.problem is not None else row.digest
    return Finding(row.file, row.line, rule.name, rule.severity, rules.detail(rule, row), digest)


def _refusal(judged: Mapping[str, Judged], limit: float) -> Refused | None:
    """Returns why the files cannot go on, or None. A folder of documents, one a file, counts as one."""
    for part in judged.values():
        groups = {file.file: file.group for file in part.files}
        rows = Counter(groups[row.file] for row in part.rows)
        bad: dict[str, list[Finding]] = defaultdict(list)
        for finding in part.findings:
            if finding.severity == "rejected" and finding.rule not in rules.NOT_MALFORMED:
                bad[groups[finding.file]].append(finding)
        for group, findings in bad.items():
            first = "; ".join(f"{f.file}:{f.line} {f.rule} ({f.detail})" for f in findings[:3])
            if any(finding.rule == "truncated" for finding in findings):
                return Refused(
                    "a file ends before its rows do",
                    where=group,
                    found=first,
                    next_step="fetch or write the file again",
                )
            if len(findings) > limit * rows[group]:
                return Refused(
                    "a file is mostly malformed",
                    where=group,
                    found=f"{len(findings)} bad rows of {rows[group]}: {first}",
                    allowed=f"a share of {limit:g} at most (checks.max_rejected in usecase.yaml)",
                    next_step="fix the file, or name its right kind and format; the findings are recorded",
                )
    return None


def _report(judged: Mapping[str, Judged]) -> CheckReport:
    """Returns the report: counts and digests alone. What each expectation found is Great Expectations' own count."""
    examples = [row for row in judged["examples"].accepted if isinstance(row, Example)]
    documents = [row for row in judged["documents"].accepted if isinstance(row, Document)]
    return CheckReport(
        checked_with=f"great-expectations {expectations.version()}",
        documents=_part(judged["documents"]),
        examples=_part(judged["examples"]),
        subjects=len({row.subject for row in examples if row.subject is not None}),
        examples_with_subject=sum(row.subject is not None for row in examples),
        kinds=_counted(row.kind for row in examples),
        classifications=_counted(row.classification for row in documents),
        statuses=_counted(row.status for row in documents),
        tenants=_counted(row.tenant for row in documents),
        generated=provenance.share(row.generated for row in examples),
    )


def _part(part: Judged) -> PartReport:
    rows = Counter(row.file for row in part.rows)
    accepted = Counter(row.file for row in part.accepted)
    files = [FileReport(**vars(file), rows=rows[file.file], accepted=accepted[file.file]) for file in part.files]
    return PartReport(**vars(part.counts()), files=files, expectations=[each.report() for each in part.applied])


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
