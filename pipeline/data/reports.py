"""What the data stage stores of a check, and on a data card: counts and digests alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.data.provenance import GeneratedShare
from pipeline.data.records import Counts, File
from pipeline.data.rules import Severity
from pipeline.statistics import Estimate

REPORT = "report.json"  # the file that a check's report stands in


@dataclass(frozen=True)
class FileReport(File):
    """A file, with its rows."""

    rows: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class RuleReport:
    """What the rows of a part came to under one rule."""

    rule: str
    severity: Severity
    measure: str
    rows: int
    broken: int  # of these


@dataclass(frozen=True)
class ExpectationReport:
    """What Great Expectations found of the rows together."""

    name: str
    expectation: str  # its type
    observed: str | None
    expected: str
    success: bool


@dataclass(frozen=True)
class PartReport(Counts):
    """The check of all documents, or of all examples."""

    files: Sequence[FileReport]
    rules: Sequence[RuleReport]


@dataclass(frozen=True)
class Bin:
    """Rows with a length in a range."""

    low: int
    high: int  # itself in the range
    rows: int


@dataclass(frozen=True)
class Distribution:
    """How a length of rows is distributed."""

    kind: str  # of example
    measure: str  # in words
    rows: int
    mean: float
    median: int
    p95: int  # 95 of 100 rows are no longer
    longest: int
    bins: Sequence[Bin]  # each twice as wide as the one before


@dataclass(frozen=True)
class TaskShare:
    """What rows ask for; see tasks.py."""

    kind: str  # of example
    task: str
    rows: int
    answer: int  # characters of their answers in the median, of a pair of the shorter one


@dataclass(frozen=True)
class Extreme:
    """A row that stands at the end of a measure."""

    measure: str  # in words
    value: int
    digest: str
    file: str
    line: int


@dataclass(frozen=True)
class CheckReport:
    """The report of a check, as it is stored: counts and digests alone."""

    FORMAT: ClassVar[int] = 3

    checked_with: str
    documents: PartReport
    examples: PartReport
    subjects: int  # persons that accepted rows are about
    examples_with_subject: int
    kinds: Mapping[str, int]
    classifications: Mapping[str, int]
    statuses: Mapping[str, int]
    tenants: Mapping[str, int]
    generated: GeneratedShare | None = None  # of the accepted examples; None from before rows said it
    expectations: Sequence[ExpectationReport] = ()  # of the rows together
    lengths: Sequence[Distribution] = ()  # of the accepted examples
    tasks: Sequence[TaskShare] = ()  # of these, most frequent first
    extremes: Sequence[Extreme] = ()  # of these, the worst of each measure first

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the value: format 1 did not say which rows were generated; until 2 Great Expectations applied the
        rules of single rows."""
        parts = {part: _with_rules(value[part]) for part in ("documents", "examples")}
        return {**value, **parts}


def _with_rules(part: dict[str, Any]) -> dict[str, Any]:
    applied = part.pop("expectations", ())
    renamed = [
        {
            "rule": r["rule"],
            "severity": r["severity"],
            "measure": r["column"],
            "rows": r["evaluated"],
            "broken": r["unexpected"],
        }
        for r in applied
    ]
    return {**part, "rules": renamed}


@dataclass(frozen=True)
class VersionCard:
    """A dataset or corpus version on a data card."""

    version: int
    digest: str
    artifact: str
    rows: int
    labels: Mapping[str, int]


@dataclass(frozen=True)
class SourceCard:
    """A source on a data card, as its use case describes it."""

    path: str
    holds: str  # documents, or the kind of its examples
    licence: str | None
    owner: str | None
    rights: str | None
    sensitivity: str | None
    uses: Sequence[str] | None = None  # None on a card from before sources said it
    weight: float | None = None  # how often rows are trained on; None for documents, and from before there were weights


@dataclass(frozen=True)
class Rater:
    """What one rater said of a sample."""

    rater: str
    read: int
    good: Estimate  # share of the rows that he read, with its 95 % interval


@dataclass(frozen=True)
class Agreement:
    """How far two raters agree over the rows that both read."""

    raters: Sequence[str]
    rows: int
    kappa: float | None  # None where chance alone would let them agree on every row


@dataclass(frozen=True)
class ReviewCard:
    """A sample of a version that persons read."""

    review: int
    seed: int
    rows: int
    strata: Mapping[str, int]  # rows by kind and source
    raters: Sequence[Rater]
    agreement: Sequence[Agreement]


@dataclass(frozen=True)
class SignOffCard:
    """What persons were asked about a version when its card was written."""

    role: str
    answer: str  # waiting, approve, reject, or not asked where nothing is new to the role
    open_items: int  # sources or rows that nobody has signed
    person: str | None


@dataclass(frozen=True)
class CardContent:
    """What a data card says, as it is stored."""

    FORMAT: ClassVar[int] = 4

    use_case: str
    title: str
    owner: str
    shares: Mapping[str, float]  # that the splits are meant to have
    checks: Mapping[str, Any]  # the settings in force
    dataset: VersionCard
    corpus: VersionCard
    report: CheckReport
    report_artifact: str
    sources: Sequence[SourceCard] = ()
    group_by: Sequence[str] = ()  # fields whose equal values keep rows in one split
    deletion_path: str | None = None
    known_issues: Sequence[str] | None = None
    backup_days: int | None = None  # how long backups may hold what was erased
    signed: bool | None = None  # whether persons sign what is new in the examples
    signoff: Sequence[SignOffCard] = ()
    review: ReviewCard | None = None  # None where nobody has read a sample to its end

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the value: format 1 did not describe the sources, nor what becomes of them; format 2 said neither
        what they may be used for, nor who signed, nor what readers of a sample said; until 3 the report was of format
        2."""
        return {**value, "report": CheckReport.upgrade(value["report"], 2)}
