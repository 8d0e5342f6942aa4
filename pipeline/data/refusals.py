"""Why a check stops the commit, in words: what Great Expectations found of the rows together, with the first rows that
it is about."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from pipeline.data import expectations, rules
from pipeline.data.expectations import Validation
from pipeline.data.findings import Finding
from pipeline.data.records import File
from pipeline.errors import Refused
from pipeline.usecase import Checks

_SHOWN = 3
_KEYS = {
    expectations.EXAMPLES: "checks.min_examples",
    expectations.DOCUMENTS: "checks.min_documents",
    expectations.ANSWERS: "checks.min_mean_answer, checks.max_mean_answer",
}


class Judged(Protocol):
    """Rows that were held against the rules."""

    @property
    def files(self) -> Sequence[File]: ...

    @property
    def of_files(self) -> Mapping[str, int]: ...

    @property
    def findings(self) -> Sequence[Finding]: ...


def of(validation: Validation, judged: Collection[Judged], checks: Checks) -> Refused | None:
    """Returns why the rows cannot go on; None where every expectation was met."""
    failed = validation.failed
    sources = [source for part in judged for source in _sources(part)]
    if expectations.WHOLE_FILES in failed:
        source, _, findings = next(each for each in sources if any(f.rule == "truncated" for f in each[2]))
        return Refused(
            "a file ends before its rows do",
            where=source,
            found=_first(findings),
            next_step="fetch or write the file again",
        )
    if expectations.BAD_ROWS in failed:
        source, rows, findings = next(each for each in sources if len(each[2]) > checks.max_rejected * each[1])
        return Refused(
            "a file is mostly malformed",
            where=source,
            found=f"{len(findings)} bad rows of {rows}: {_first(findings)}",
            allowed=f"a share of {checks.max_rejected:g} at most (checks.max_rejected in usecase.yaml)",
            next_step="fix the file, or name its right kind and format; the findings are recorded",
        )
    for each in validation.results:
        if not each.success:
            return Refused(
                "the rows together are not what the use case expects",
                where=f"usecase.yaml: {_KEYS[each.name]}",
                found=each.observed,
                allowed=each.expected,
                next_step="mend the source, or say in usecase.yaml what is to be expected",
            )
    return None


def _sources(part: Judged) -> list[tuple[str, int, list[Finding]]]:
    """Returns the files of rows, each with how many it has and its bad ones. A folder of documents counts as one."""
    groups = {file.file: file.group if file.kind is None else file.file for file in part.files}
    rows: Counter[str] = Counter()
    for file, number in part.of_files.items():
        rows[groups[file]] += number
    bad: dict[str, list[Finding]] = defaultdict(list)
    for finding in part.findings:
        if finding.severity == "rejected" and finding.rule not in rules.NOT_MALFORMED:
            bad[groups[finding.file]].append(finding)
    return [(source, rows[source], findings) for source, findings in bad.items()]


def _first(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{f.file}:{f.line} {f.rule} ({f.detail})" for f in findings[:_SHOWN])
