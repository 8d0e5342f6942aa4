"""What the retrieval stage hands on, and what it stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from pipeline.steps import Version
from pipeline.usecase import USES


@dataclass(frozen=True)
class ManifestEntry:
    """A document of an index generation, with its rights and its chunks, by digests."""

    document: str  # digest of its id
    version: str
    tenant: str
    classification: str
    groups: Sequence[str]
    uses: Sequence[str]  # what it may be used for
    fresh_until: str | None  # ISO date
    chunks: Sequence[str]


@dataclass(frozen=True)
class Manifest:
    """What an index generation holds: equal manifests are equal generations."""

    FORMAT: ClassVar[int] = 3

    chunker: Mapping[str, Any]
    embedder: str
    text_search: str | None  # Postgres's configuration for words; None: vectors alone
    documents: Sequence[ManifestEntry]  # by document and version

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the value as format 3 has it: before 2 an index was searched by vectors alone, before 3
        every document could be used for anything."""
        value = value if version >= 2 else {"text_search": None, **value}
        return value | {"documents": [{"uses": list(USES), **entry} for entry in value["documents"]]}


@dataclass(frozen=True)
class DocumentChanges:
    """How the documents of an index differ from those of the live one."""

    added: int
    changed: int
    removed: int
    unchanged: int


@dataclass(frozen=True)
class ChunkChanges:
    """How many chunks an index has, and how many of them have no embedding yet."""

    total: int
    embed: int
    reused: int
    deleted: int


@dataclass(frozen=True)
class PlanFacts:
    """What a night's index needs, in numbers."""

    unchanged: bool  # the live generation is what would be built
    generation: str  # digest of what would be built
    generation_id: int | None  # the live generation's, where nothing changed
    documents: DocumentChanges
    chunks: ChunkChanges
    batches: int  # of chunks to embed


@dataclass(frozen=True)
class Plan:
    """A plan as it is stored. It holds no text."""

    FORMAT: ClassVar[int] = 1

    facts: PlanFacts
    misses: Sequence[str]  # digests of the chunks to embed, sorted
    manifest: Manifest | None  # None where it was not needed to know that nothing changed

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the value: there is no older format."""
        return value


@dataclass(frozen=True)
class Planned(PlanFacts):
    """A plan, with the corpus version that it is about."""

    run: UUID
    corpus: Version
    plan: Version


@dataclass(frozen=True)
class EmbedFacts:
    """What came of a batch of chunks."""

    embedded: int
    cached: int  # had been embedded meanwhile
    withdrawn: int  # of documents that were withdrawn meanwhile


@dataclass(frozen=True)
class Embedded(EmbedFacts):
    """What came of a batch, by a run."""

    run: UUID


@dataclass(frozen=True)
class BuildFacts:
    """An index generation, by its number."""

    generation: int
    adopted: bool  # it stood already
    chunks: int


@dataclass(frozen=True)
class Built(BuildFacts):
    """An index generation that was built or adopted."""

    run: UUID
    reused: bool
    version: Version


@dataclass(frozen=True)
class CountsGate:
    """Whether the generation holds, of each tenant and right, as many chunks as its manifest."""

    expected: int
    found: int
    rights: int
    differing: int
    passed: bool


@dataclass(frozen=True)
class RecallGate:
    """Recall@10 against an exact scan, over the generated callers who may see something."""

    value: float | None  # mean; None where no caller may see anything
    worst: float | None
    minimum: float
    queries: int
    passed: bool


@dataclass(frozen=True)
class LeaksGate:
    """What the generated callers got that they may not see, and what they did not get."""

    callers: int
    rows: int
    leaks: int  # rows that a caller may not see, or that are not what they claim
    short: int  # answers with fewer rows than the caller may see
    passed: bool


@dataclass(frozen=True)
class LossGate:
    """How many of the documents that are live the generation does not have any more."""

    before: int
    lost: int
    accepted: Mapping[str, str] | None  # by whom and why; None unless it had to be
    passed: bool


@dataclass(frozen=True)
class Gates:
    """The gates before a swap."""

    counts: CountsGate
    recall: RecallGate
    leaks: LeaksGate
    loss: LossGate

    @property
    def passed(self) -> bool:
        """Returns whether all of them passed."""
        return self.counts.passed and self.recall.passed and self.leaks.passed and self.loss.passed


@dataclass(frozen=True)
class GateFacts:
    """What the gates came to."""

    passed: bool
    gates: Gates


@dataclass(frozen=True)
class GateReport(GateFacts):
    """What the gates came to, as it is stored."""

    FORMAT: ClassVar[int] = 1

    generation: str

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Returns the value: there is no older format."""
        return value


@dataclass(frozen=True)
class Gated(GateFacts):
    """What the gates came to, with their report."""

    run: UUID
    report: Version


@dataclass(frozen=True)
class Swap:
    """What a swap came to."""

    swapped: bool
    deployment: int | None  # that is live now
    decision: int | None  # None where the generation was live already


@dataclass(frozen=True)
class Swapped(Swap):
    """What a swap came to, by a run."""

    run: UUID


@dataclass(frozen=True)
class SyncedChunks:
    """What became of the chunks."""

    embedded: int
    reused: int
    deleted: int


@dataclass(frozen=True)
class Synced:
    """The index after it was brought up to the newest corpus."""

    generation: int | None
    unchanged: bool
    documents: DocumentChanges
    chunks: SyncedChunks
    gates: Gates | None  # None where nothing changed
    passed: bool
    swapped: bool
