"""check: every row held against the rules, by Great Expectations. What breaks one is left out and written down by file,
line and rule; a file that is mostly bad stops the night's data."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import canonical, database, steps
from pipeline.data import expectations, formats, rules, sources, tombstones
from pipeline.data import findings as findings_module
from pipeline.data.documents import Document
from pipeline.data.expectations import Applied
from pipeline.data.findings import Finding
from pipeline.data.formats import Example, Kind
from pipeline.data.reading import Problem
from pipeline.data.rules import Rule, Severity
from pipeline.data.tombstones import Graveyard
from pipeline.errors import BadInput, Refused
from pipeline.settings import Settings
from pipeline.steps import Attempt, Origin, Output, Result, Reuse, Step
from pipeline.usecase import Checks, UseCase


@dataclass(frozen=True)
class Checked:
    """One set of rows, checked."""

    files: list[dict[str, Any]]
    rows: Sequence[Example | Document]
    accepted: Sequence[Example | Document]
    rejected: Sequence[tuple[Example | Document, Rule]]
    applied: list[Applied]
    findings: list[Finding]

    def counts(self) -> dict[str, Any]:
        """Returns rows accepted and rejected, and both kinds of finding by rule."""
        return {
            "rows": len(self.rows),
            "accepted": len(self.accepted),
            "rejected": len(self.rows) - len(self.accepted),
            "by_rule": _by_rule(self.findings, "rejected"),
            "warnings": _by_rule(self.findings, "warning"),
        }


def check(
    settings: Settings, usecase: UseCase, origin: Origin, fetched: Mapping[str, Any], *, reuse: Reuse = "auto"
) -> dict[str, Any]:
    """Returns the run, its outputs `report`, `documents` and `examples` (the accepted rows, private), and counts.

    Raises Refused, with the findings recorded, where a file ends before its rows do, or more than `checks.max_rejected`
    of its rows are bad.
    """
    with database.connect(settings, "pipeline") as connection:
        graves = tombstones.read(settings, connection, usecase.name)
    spec = Step(
        usecase.name,
        "data.check",
        "pipeline",
        ("pipeline.data.checking",),
        params={"checks": usecase.checks.model_dump(mode="json"), "tombstones": graves.digest},
        inputs={role: sources.pinned(fetched, role) for role in ("documents", "examples")},
        reuse=reuse,
    )

    def work(attempt: Attempt) -> Result:
        checked = _checked(attempt, spec, usecase.checks, graves)
        findings = [finding for part in checked.values() for finding in part.findings]
        refusal = _refusal(checked, usecase.checks.max_rejected)
        if refusal is not None:
            with attempt.connection.transaction():
                database.call(attempt.connection, "lineage.hold_attempt", attempt.run_id, attempt.fence)
                findings_module.record(attempt.connection, usecase.name, attempt.run_id, findings)
            raise refusal
        report = canonical.dumps(_report(checked)).encode()
        outputs = {
            "report": Output.of(attempt.store.put("check_report", {"report.json": report}), "data", private=False),
            **{
                role: sources.snapshot(
                    attempt.store, f"{role}.checked", [*part.accepted, *_places(part)], part.files, made_of=(role,)
                )
                for role, part in checked.items()
            },
        }
        facts = {role: part.counts() for role, part in checked.items()}
        return Result(
            outputs,
            {**_total(facts.values()), **facts},
            lambda connection, _: findings_module.record(connection, usecase.name, attempt.run_id, findings),
        )

    return steps.run(settings, origin, spec, work).as_dict()


def check_file(path: Path, kind: Kind, form: str | None = None, checks: Checks | None = None) -> dict[str, Any]:
    """Returns {rows, accepted, rejected: [{line, rule, detail}]} of one file of examples, an entry for each bad line.

    The same rules as in the pipeline, but those that need the database (erased rows, unknown documents). `form` None:
    the format is guessed from the first row. Raises NotAvailable for a missing file; BadInput for one without rows, or
    for a format that the kind does not come in.
    """
    if form is not None or kind not in formats.FORMATS:
        formats.require(kind, form or "", "--format" if kind in formats.FORMATS else "--kind")
    examples = sources.examples_of(sources.read_bytes(path), path.name, kind, form)
    if not examples:
        raise BadInput("the file has no rows", where=path, allowed="JSONL, or one JSON array of objects")
    table = rules.for_examples(checks or Checks())
    broken = [rules.breach(table, measures) for measures in rules.measure_examples(examples, lambda _: False, None)]
    rejected = [
        {"line": row.line, "rule": rule.name, "detail": rules.detail(rule, row)}
        for row, rule in zip(examples, broken, strict=True)
        if rule is not None
    ]
    return {"rows": len(examples), "accepted": len(examples) - len(rejected), "rejected": rejected}


def _places(part: Checked) -> list[Document]:
    """Returns the rejected documents without a word of them: where each stands, its id where it has one, and the rule
    that it broke. What was served in their place stays so."""
    return [
        Document(row.file, row.line, row.key, problem=Problem(rule.name, rule.detail))
        for row, rule in part.rejected
        if isinstance(row, Document)
    ]


def _checked(attempt: Attempt, spec: Step, checks: Checks, graves: Graveyard) -> dict[str, Checked]:
    store = attempt.store
    pinned = spec.inputs
    texts = sources.read_documents(store, pinned["documents"])
    documents = _judge(
        sources.read_files(store, pinned["documents"]),
        texts,
        rules.for_documents(),
        rules.measure_documents(texts, graves.holds),
    )
    standing = rules.statuses([row for row in documents.accepted if isinstance(row, Document)])
    rows = sources.read_examples(store, pinned["examples"])
    examples = _judge(
        sources.read_files(store, pinned["examples"]),
        rows,
        rules.for_examples(checks),
        rules.measure_examples(rows, graves.holds, standing),
    )
    return {"documents": documents, "examples": examples}


def _judge(
    files: list[dict[str, Any]],
    rows: Sequence[Example | Document],
    table: Sequence[Rule],
    measures: Sequence[rules.Measures],
) -> Checked:
    """Returns the rows as Great Expectations found them: rejected by the first rule in the table that each breaks."""
    applied = expectations.validate(table, measures)
    rejected: dict[int, Rule] = {}
    warned: list[tuple[int, Rule]] = []
    for each in applied:
        for place in each.unexpected:
            if each.rule.severity == "warning":
                warned.append((place, each.rule))
            else:
                rejected.setdefault(place, each.rule)
    told = [*sorted(rejected.items(), key=lambda found: found[0]), *(w for w in warned if w[0] not in rejected)]
    findings = [_finding(rows[place], rule) for place, rule in told]
    filled = {row.file for row in rows}
    findings += [
        Finding(file["file"], None, "empty_file", "warning", "the file has no rows", None)
        for file in files
        if file["file"] not in filled
    ]
    accepted = [row for place, row in enumerate(rows) if place not in rejected]
    refused = [(rows[place], rule) for place, rule in sorted(rejected.items(), key=lambda found: found[0])]
    return Checked(files, rows, accepted, refused, applied, findings)


def _finding(row: Example | Document, rule: Rule) -> Finding:
    digest = None if row.problem is not None else row.digest
    return Finding(row.file, row.line, rule.name, rule.severity, rules.detail(rule, row), digest)


def _refusal(checked: Mapping[str, Checked], limit: float) -> Refused | None:
    """Returns why the files cannot go on, or None. A folder of documents, one a file, counts as one."""
    for part in checked.values():
        groups = {file["file"]: file["group"] for file in part.files}
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
                    next_step="mend the file, or name its right kind and format; the findings are recorded",
                )
    return None


def _report(checked: Mapping[str, Checked]) -> dict[str, Any]:
    """Returns the report: counts and digests alone. What each expectation found is Great Expectations' own count."""
    parts = {role: _part(part) for role, part in checked.items()}
    examples = [row for row in checked["examples"].accepted if isinstance(row, Example)]
    documents = [row for row in checked["documents"].accepted if isinstance(row, Document)]
    return {
        "checked_with": f"great-expectations {expectations.version()}",
        **parts,
        "subjects": len({row.subject for row in examples if row.subject is not None}),
        "examples_with_subject": sum(row.subject is not None for row in examples),
        "kinds": dict(sorted(Counter(row.kind for row in examples).items())),
        "classifications": dict(sorted(Counter(row.classification for row in documents).items())),
        "statuses": dict(sorted(Counter(row.status for row in documents).items())),
        "tenants": dict(sorted(Counter(row.tenant for row in documents).items())),
    }


def _part(part: Checked) -> dict[str, Any]:
    rows = Counter(row.file for row in part.rows)
    accepted = Counter(row.file for row in part.accepted)
    files = [{**file, "rows": rows[file["file"]], "accepted": accepted[file["file"]]} for file in part.files]
    return {**part.counts(), "files": files, "expectations": [each.as_dict() for each in part.applied]}


def _by_rule(findings: Iterable[Finding], severity: Severity) -> dict[str, int]:
    return dict(sorted(Counter(finding.rule for finding in findings if finding.severity == severity).items()))


def _total(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    both = list(parts)
    return {
        **{name: sum(part[name] for part in both) for name in ("rows", "accepted", "rejected")},
        **{
            name: dict(sorted(sum((Counter(part[name]) for part in both), Counter[str]()).items()))
            for name in ("by_rule", "warnings")
        },
    }
