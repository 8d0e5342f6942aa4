"""What an erasure touches: rows, versions, models, indexes, answers, files; and whether any of it is live. In digests
and counts, for whoever decides."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline import database
from pipeline.artifacts import ArtifactStore
from pipeline.data import normal, purging, tombstones
from pipeline.data.formats import Example
from pipeline.data.tombstones import RowKind
from pipeline.database import Connection
from pipeline.errors import BadInput
from pipeline.settings import Settings

TargetKind = Literal["subject", "document", "example"]
_TELLING = 40  # characters: a shorter text stands in rows that have nothing to do with each other
_TEXTS = 20  # the longest are looked for


@dataclass(frozen=True)
class Target:
    """What is to be forgotten."""

    kind: TargetKind
    reference: str  # the person's key in `data_subject`, the document's id, or the example's digest


@dataclass(frozen=True)
class TouchedVersion:
    """A dataset version that holds some of the rows."""

    dataset: str  # examples or documents
    version: int
    digest: str
    rows: int


@dataclass(frozen=True)
class Made:
    """An artifact that was made of such a version."""

    kind: str
    name: str
    digest: str
    trained: bool  # a model that the rows were trained into: it cannot be purged of them, and has to be trained again
    live: bool
    purged: bool


@dataclass(frozen=True)
class SameText:
    """A row that holds one of the texts, and stays."""

    kind: str
    name: str  # an example's digest, a document's id


@dataclass(frozen=True)
class Impact:
    """What an erasure touches."""

    use_case: str
    kind: str
    reference: str
    examples: Mapping[str, int]  # by split
    documents: int  # versions
    versions: Sequence[TouchedVersion]
    made: Sequence[Made]
    chunks: Mapping[str, int]  # by index generation
    answers: int
    snapshots: Sequence[str]  # digests
    sources: Sequence[str]  # files that hold the rows, and are the use case's own
    training_now: int  # trainings that run
    same_text: Sequence[SameText]
    live: bool  # whether a model that was trained on the rows, or an index that quotes them, answers now


def measure(connection: Connection, settings: Settings, use_case: str, target: Target) -> Impact:
    """Returns what the erasure of a target touches. The connection is `pipeline`'s.

    Raises BadInput where no row that has its text is about it.
    """
    rows = require(connection, use_case, target)
    digests = [row["digest"] for row in rows]
    versions = database.fetch(connection, "erasure", "versions_about", use_case=use_case, digests=digests)
    trained_on = {row["artifact_version_id"] for row in versions if row["trained"]}
    made = _made(connection, [row["artifact_version_id"] for row in versions], trained_on)
    documents = sorted({row["document_key"] for row in _documents(connection, use_case, target)})
    chunks = database.fetch(connection, "erasure", "chunks_of_documents", use_case=use_case, documents=documents)
    answers = database.fetch_one(
        connection,
        "erasure",
        "answers_given",
        use_case=use_case,
        documents=documents,
        digests=digests,
        models=[each.digest for each in made if each.trained],
    )
    running = database.fetch_one(connection, "erasure", "training_now", use_case=use_case)
    assert answers is not None
    assert running is not None
    store = ArtifactStore(settings.artifacts, "pipeline")
    held = _held_by(target, set(digests), documents)
    return Impact(
        use_case,
        target.kind,
        target.reference,
        dict(sorted(Counter(row["split"] for row in rows if row["kind"] == "example").items())),
        sum(row["kind"] == "document" for row in rows),
        [TouchedVersion(row["kind"], row["version"], row["digest"], row["rows"]) for row in versions],
        made,
        {f"{row['generation_id']} ({row['state']})": row["chunks"] for row in chunks},
        answers["answers"],
        sorted({each.digest for each in purging.snapshots_with(connection, store, use_case, held, digests)}),
        _sources(connection, store, use_case, target, held),
        running["running"],
        _same_text(connection, use_case, target, digests),
        any(each.live and each.trained for each in made) or any(row["state"] == "live" for row in chunks),
    )


def require(connection: Connection, use_case: str, target: Target) -> list[dict[str, str]]:
    """Returns the rows that a target is about: kind, digest, split. Raises BadInput where there is none."""
    rows = database.fetch(
        connection, "erasure", "rows_about", use_case=use_case, kind=target.kind, reference=target.reference
    )
    if not rows:
        raise BadInput(
            f"no row of {use_case} that has its text is about this {target.kind}",
            found=target.reference,
            allowed={
                "subject": "a value of `data_subject` in a committed example or document, letter by letter",
                "document": "the id of a committed document, or one that a committed example speaks of",
                "example": "the whole digest of a committed example",
            }[target.kind],
            next_step=f"`nightshift sql erasures --param use_case={use_case}` lists what was erased before",
        )
    return rows


def identities(connection: Connection, use_case: str, target: Target) -> dict[RowKind, set[str]]:
    """Returns the digests under which the rows of a target are recognised when they come again, and those of its
    documents' ids and of its person."""
    examples = {digest for row in _examples(connection, use_case, target) for digest in row.identities}
    documents, named = set(), {target.reference} if target.kind == "document" else set()
    for row in _documents(connection, use_case, target):
        documents |= {row["digest"], row["text_digest"], normal.digest(row["body"])}
        named.add(row["document_key"])
    keys = set(map(tombstones.name_digest, named))
    persons = {tombstones.name_digest(target.reference)} if target.kind == "subject" else set()
    return {"example": examples, "document": documents, "document_key": keys, "subject": persons}


def lines(impact: Impact) -> Iterator[str]:
    """Yields an impact as Markdown, for who decides. Whoever keeps it keeps no person's name: the command line shows
    that."""
    shown = "" if impact.kind == "subject" else f" (`{impact.reference}`)"
    yield f"**{impact.use_case}**: erase a {impact.kind}{shown}"
    yield ""
    yield "| what | how much |"
    yield "|---|---|"
    splits = ", ".join(f"{rows} {split}" for split, rows in impact.examples.items())
    yield f"| examples | {splits or 'none'} |"
    yield f"| document versions | {impact.documents} |"
    for version in impact.versions:
        yield f"| {version.dataset} version {version.version} | {version.rows} of its rows: it will be redacted |"
    for each in impact.made:
        note = (
            ("trained on them: to be trained again" if each.trained else "keeps digests alone")
            if not each.purged
            else "purged"
        )
        yield f"| {each.kind} `{each.digest[:12]}` ({each.name}) | {note}{', **live**' if each.live else ''} |"
    for generation, chunks in impact.chunks.items():
        yield f"| index generation {generation} | {chunks} chunks |"
    yield f"| answers of evaluations | {impact.answers} |"
    yield f"| private snapshots | {len(impact.snapshots)} |"
    for row in impact.same_text:
        yield f"| {row.kind} `{row.name[:40]}` | holds the same text and stays |"


@dataclass(frozen=True)
class _Row:
    identities: tuple[str, ...]
    texts: tuple[str, ...]
    source: str


def _examples(connection: Connection, use_case: str, target: Target) -> list[_Row]:
    stored = database.fetch(
        connection, "erasure", "examples_about", use_case=use_case, about=target.kind, reference=target.reference
    )
    rows = []
    for row in stored:
        example = Example(row["source"], 0, row["kind"], row["content"], row["subject"], tuple(row["documents"]))
        texts = tuple(turn["content"] for part in row["content"].values() for turn in part if turn["role"] != "system")
        own = (row["digest"], example.digest, example.content_digest, example.normal_digest)
        rows.append(_Row(own, texts, row["source"]))
    return rows


def _documents(connection: Connection, use_case: str, target: Target) -> list[dict[str, str]]:
    return database.fetch(
        connection, "erasure", "documents_about", use_case=use_case, about=target.kind, reference=target.reference
    )


def _made(connection: Connection, versions: Sequence[int], trained_on: set[int]) -> list[Made]:
    models = {
        row["digest"]
        for row in database.fetch(connection, "erasure", "made_of_versions", versions=sorted(trained_on))
        if row["kind"] in ("adapter", "merged_model")
    }
    return [
        Made(row["kind"], row["name"], row["digest"], row["digest"] in models, row["live"], row["purged"])
        for row in database.fetch(connection, "erasure", "made_of_versions", versions=list(versions))
    ]


def _held_by(target: Target, digests: set[str], documents: Sequence[str]) -> purging.Holds:
    """Returns whether a row of a snapshot is one that the target is about."""
    keys = {*documents, *([target.reference] if target.kind == "document" else [])}

    def holds(row: purging.Row) -> bool:
        if isinstance(row, Example):
            named = target.kind == "subject" and row.subject == target.reference
            return row.content is not None and (row.digest in digests or named or not keys.isdisjoint(row.documents))
        return row.text is not None and row.key in keys

    return holds


def _sources(
    connection: Connection, store: ArtifactStore, use_case: str, target: Target, holds: purging.Holds
) -> list[str]:
    """Returns the files that hold the rows; of a folder where no file is known to, the folder."""
    sources = {row.source for row in _examples(connection, use_case, target)}
    files = purging.files_with(connection, store, use_case, holds) if sources else set()
    named = {source for source in sources if any(file == source or file.startswith(f"{source}/") for file in files)}
    documents = {row["file"] for row in _documents(connection, use_case, target) if row["file"]}
    return sorted(files | (sources - named) | documents)


def _same_text(connection: Connection, use_case: str, target: Target, digests: Sequence[str]) -> list[SameText]:
    texts = {text for row in _examples(connection, use_case, target) for text in row.texts}
    texts |= {line for row in _documents(connection, use_case, target) for line in row["body"].splitlines()}
    telling = sorted((text for text in texts if len(text.strip()) >= _TELLING), key=lambda text: (-len(text), text))
    longest = telling[:_TEXTS]
    if not longest:
        return []
    rows = database.fetch(
        connection,
        "erasure",
        "same_text",
        use_case=use_case,
        digests=list(digests),
        texts=longest,
        escaped=[json.dumps(text, ensure_ascii=False)[1:-1] for text in longest],
    )
    return [SameText(row["kind"], row["name"]) for row in rows]
