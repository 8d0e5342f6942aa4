"""What the steps of the data stage hand on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pipeline.steps import Version


@dataclass(frozen=True)
class Amount:
    """How much was fetched."""

    files: int
    rows: int


@dataclass(frozen=True)
class FetchFacts:
    """How much was fetched, of both kinds."""

    documents: Amount
    examples: Amount


@dataclass(frozen=True)
class Fetched:
    """Snapshots of what the sources held."""

    run: UUID
    reused: bool
    documents: Version
    examples: Version
    facts: FetchFacts


@dataclass(frozen=True)
class File:
    """A file that rows of a snapshot came from."""

    file: str  # as findings call it
    sha256: str
    group: str  # what counts as one file: itself, or the folder that it is one of many in
    format: str
    licence: str | None
    kind: str | None = None  # of examples


@dataclass(frozen=True)
class Counts:
    """Rows that were checked. A row can have several warnings, and one rule that rejected it."""

    rows: int
    accepted: int
    rejected: int
    by_rule: Mapping[str, int]
    warnings: Mapping[str, int]


@dataclass(frozen=True)
class CheckFacts(Counts):
    """The counts of all rows, and of both kinds."""

    documents: Counts
    examples: Counts


@dataclass(frozen=True)
class Checked:
    """What was accepted, and the report on all rows."""

    run: UUID
    reused: bool
    report: Version
    documents: Version
    examples: Version  # their ledger: no text
    rows: Version  # the snapshot of examples that was checked
    facts: CheckFacts


@dataclass(frozen=True)
class RejectedRow:
    """A row that a rule rejected."""

    file: str
    line: int
    rule: str
    detail: str


@dataclass(frozen=True)
class TokenCounts:
    """Rows in the tokens of a base model."""

    rows: int
    tokens: int  # of a pair: of the prompt with the longer answer
    supervised: int  # that the loss is taken on
    longest: int


@dataclass(frozen=True)
class FileCheck:
    """The check of files, without a database."""

    formats: Mapping[str, str]  # by file
    rows: int
    accepted: int
    by_rule: Mapping[str, int]  # rejected rows
    warnings: Mapping[str, int]  # accepted rows
    rejected: Sequence[RejectedRow]  # one for each bad row
    skipped: Sequence[str]  # what else stands in the folder
    tokens: TokenCounts | None = None  # of the accepted rows
    unmeasured: str | None = None  # why they were not measured in tokens


@dataclass(frozen=True)
class VersionFacts:
    """A dataset or corpus version, by numbers and digests."""

    version: int
    digest: str
    changed: bool  # whether this commit made it
    rows: int
    added: int
    removed: int
    splits: Mapping[str, int]  # of documents: by status


@dataclass(frozen=True)
class CommitFacts:
    """What a commit came to."""

    dataset: VersionFacts
    corpus: VersionFacts
    withdrawn: int  # documents taken out of every index
    kept: int  # documents that stay served as they were
    waiting: int  # findings that wait for a person


@dataclass(frozen=True)
class CommittedVersion(VersionFacts):
    """A version, with its artifact, which holds digests alone."""

    artifact: Version


@dataclass(frozen=True)
class Committed:
    """The versions that stand after a commit."""

    run: UUID
    reused: bool
    dataset: CommittedVersion
    corpus: CommittedVersion
    report: Version  # of the check before it
    withdrawn: int  # documents taken out of every index
    kept: int  # documents that stay served as they were
    waiting: int  # findings that wait for a person


@dataclass(frozen=True)
class Card:
    """A stored data card."""

    run: UUID
    reused: bool
    card: Version
