"""fetch: the files of a use case as canonical snapshots, every row with its file and line."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from pipeline import canonical, database, steps
from pipeline.artifacts import ArtifactStore
from pipeline.context import Context
from pipeline.data import documents, formats, paths, provenance, reading, tombstones
from pipeline.data.documents import Document
from pipeline.data.formats import Example
from pipeline.data.provenance import Generated
from pipeline.data.records import Amount, Fetched, FetchFacts, File
from pipeline.data.rows import Problem
from pipeline.data.tombstones import Tombstones
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.records import load, plain
from pipeline.settings import Settings
from pipeline.steps import Attempt, Output, Result, Step, Version
from pipeline.usecase import USES, DocumentSource, ExampleKind, ExampleSource, narrowed

ROWS = "rows.jsonl"
FILES = "files.json"


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, as it was when its digest was taken."""

    path: Path
    root: Path  # nothing outside is read
    settings: Settings
    name: str  # relative to the use case's folder where it stands in it: what findings call it
    sha256: str  # empty where the file is refused
    refused: str | None = None  # why it is not read

    def content(self) -> bytes:
        """Returns the file's bytes. Raises Refused where they changed since the digest was taken."""
        try:
            data = paths.read(self.path, self.root, self.settings)
        except paths.Outside as outside:
            raise Refused("the file changed while it was being read", where=self.path, found=outside) from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise Refused("the file changed while it was being read", where=self.path, next_step="run the fetch again")
        return data


def fetch(context: Context) -> Fetched:
    """Returns private snapshots of every row: those with a problem carry it in place of their content. Where no file
    changed, an earlier run answers.

    Raises NotAvailable for a file that is missing, and BadInput for a format that its kind of row does not come in.
    """
    folder = context.settings.usecases / context.usecase.name
    texts = [
        (source, _files(source, folder, context.settings), paths.name(source.path, folder))
        for source in context.usecase.documents
    ]
    rows = [
        (source, form_of(source, n), _own(source.path, folder, context.settings))
        for n, source in enumerate(context.usecase.examples)
    ]
    with database.connect(context.settings, "pipeline") as connection:
        erased = tombstones.read(context.settings, connection, context.usecase.name)
    spec = Step(
        context.usecase.name,
        "data.fetch",
        "pipeline",
        ("pipeline.data.sources",),
        params={
            "documents": canonical.digest(
                [
                    [source.model_dump(mode="json", exclude={"path"}), name, _named(files)]
                    for source, files, name in texts
                ]
            ),
            "examples": {
                f"{n} {file.name}": [
                    source.kind,
                    form,
                    source.columns,
                    file.sha256,
                    plain(provenance.of_source(source.generated)),
                ]
                for n, (source, form, file) in enumerate(rows)
            },
            "group_by": context.usecase.splits.group_by,
            "tombstones": erased.digest,
        },
        reuse=context.reuse,
    )

    def work(attempt: Attempt) -> Result:
        return _snapshots(attempt.store, texts, rows, erased, context.usecase.splits.group_by)

    outcome = steps.run(context.settings, context.origin, spec, work)
    snapshots = outcome.outputs
    return Fetched(
        outcome.run_id,
        outcome.reused,
        snapshots["documents"],
        snapshots["examples"],
        load(FetchFacts, outcome.facts),
    )


def form_of(source: ExampleSource, place: int) -> str:
    """Returns the format that the YAML names for a source. Raises BadInput where its kind does not come in it."""
    formats.require(source.kind, source.format, f"usecase.yaml: examples.{place}.format")
    return source.format


@dataclass(frozen=True)
class Examples:
    """The examples of one file, to be read once: those with a problem too."""

    form: str  # as the source names it, or as it was detected
    rows: Iterator[Example]


def examples_of(
    data: bytes | BinaryIO,
    file: str,
    kind: ExampleKind,
    form: str,
    columns: Mapping[str, str] | None = None,
    group_by: Sequence[str] = (),
    generated: Generated | None = None,
) -> Examples:
    """Returns the examples of a file. `form` may be `auto`: what most of its first rows have.

    `columns` are the names that the file has for our fields. Raises BadInput for what is no file of such rows.
    """
    rows = reading.read(data, file)
    if form == formats.DETECT:
        first = list(islice(rows, formats.SAMPLE))
        form, rows = formats.detect(first, kind, file, columns), chain(first, rows)
    read = (formats.examples(row, file, kind, form, columns, group_by, generated) for row in rows)
    return Examples(form, chain.from_iterable(read))


def read_examples(store: ArtifactStore, version: Version) -> list[Example]:
    """Returns the rows of a snapshot of examples."""
    return [Example.from_dict(row) for row in _rows(store, version)]


def read_documents(store: ArtifactStore, version: Version) -> list[Document]:
    """Returns the rows of a snapshot of documents."""
    return [Document.from_dict(row) for row in _rows(store, version)]


def read_files(store: ArtifactStore, version: Version) -> list[File]:
    """Returns the files that a snapshot was made of."""
    return [load(File, entry) for entry in json.loads(store.read(version.kind, version.digest, FILES))]


def snapshot(
    store: ArtifactStore,
    name: str,
    rows: Iterable[Example | Document],
    files: Sequence[File],
    made_of: tuple[str, ...] = (),
) -> Output:
    """Returns the private snapshot of these rows, stored, made of the inputs with these roles."""
    text = "".join(f"{canonical.dumps(row.as_dict())}\n" for row in rows)
    content: Mapping[str, bytes | Path] = {ROWS: text.encode(), FILES: canonical.dumps(plain(files)).encode()}
    return Output.of(store.put("snapshot", content), name, private=True, made_of=made_of)


def _snapshots(
    store: ArtifactStore,
    texts: list[tuple[DocumentSource, list[SourceFile], str]],
    rows: list[tuple[ExampleSource, str, SourceFile]],
    erased: Tombstones,
    group_by: Sequence[str],
) -> Result:
    fetched_documents = [row for source, files, _ in texts for file in files for row in _documents(source, file)]
    read = [
        (
            source,
            file,
            examples_of(
                file.content(),
                file.name,
                source.kind,
                form,
                source.columns,
                group_by,
                provenance.of_source(source.generated),
            ),
        )
        for source, form, file in rows
    ]
    fetched_examples = [row for _, _, examples in read for row in examples.rows]
    document_files = [
        _described(file, source.format, source, group=group) for source, files, group in texts for file in files
    ]
    example_files = [_described(file, examples.form, source, kind=source.kind) for source, file, examples in read]
    outputs = {
        "documents": snapshot(
            store,
            "documents.fetched",
            [_emptied(row) if erased.holds(row) else row for row in fetched_documents],
            document_files,
        ),
        "examples": snapshot(
            store,
            "examples.fetched",
            [_emptied(row) if erased.holds(row) else row for row in fetched_examples],
            example_files,
        ),
    }
    facts = FetchFacts(
        Amount(len(document_files), len(fetched_documents)), Amount(len(example_files), len(fetched_examples))
    )
    return Result(outputs, facts)


def _emptied(row: Example | Document) -> Example | Document:
    """Returns the place of a row that was erased, and nothing else of it: no snapshot may bring it back."""
    problem = Problem("erased", "this was erased and must not come back")
    if isinstance(row, Example):
        return Example(row.file, row.line, row.kind, None, problem=problem)
    return Document(row.file, row.line, row.key, problem=problem)


def _documents(source: DocumentSource, file: SourceFile) -> list[Document]:
    if file.refused is not None:
        return [Document(file.name, 1, None, problem=Problem("outside", f"it is not read: {file.refused}"))]
    data, uses = file.content(), narrowed(source.uses, USES)
    if source.format == "lines":
        return documents.lines(data, file.name, source.defaults, uses)
    required = source.front_matter == "required"
    return [documents.markdown(data, file.name, source.defaults, required=required, uses=uses)]


def _files(source: DocumentSource, folder: Path, settings: Settings) -> list[SourceFile]:
    """Returns the files of a document source in the order of their paths; hidden ones are left out.

    Raises NotAvailable where the source is not there: a share that is not mounted is no empty source.
    """
    if not source.path.exists():
        raise NotAvailable(
            "the source is not there", where=source.path, next_step="mount it, or take it out of usecase.yaml"
        )
    if not source.path.is_dir():
        return [_own(source.path, folder, settings)]
    suffix = ".md" if source.format == "markdown" else ".txt"
    return [_one_of_many(path, source.path, folder, settings) for path in sorted(paths.walk(source.path, suffix))]


def _one_of_many(path: Path, root: Path, folder: Path, settings: Settings) -> SourceFile:
    """Returns a file of a folder. One that cannot be read does not stop the others."""
    try:
        return _file(path, root, folder, settings)
    except NotAvailable as error:
        return SourceFile(path, root, settings, paths.name(path, folder), "", f"{error.details['found']}")


def _file(path: Path, root: Path, folder: Path, settings: Settings) -> SourceFile:
    name = paths.name(path, folder)
    try:
        sha256 = hashlib.sha256(paths.read(path, root, settings)).hexdigest()
    except paths.Outside as outside:
        return SourceFile(path, root, settings, name, "", str(outside))
    return SourceFile(path, root, settings, name, sha256)


def _own(path: Path, folder: Path, settings: Settings) -> SourceFile:
    """Returns a file that the YAML names itself. Raises BadInput where it leads elsewhere."""
    file = _file(path, path.parent, folder, settings)
    if file.refused is not None:
        raise BadInput("this file is not read", where=path, found=file.refused, allowed="a file of its own")
    return file


def _named(files: list[SourceFile]) -> list[list[str | None]]:
    return [[file.name, file.sha256, file.refused] for file in files]


def _described(
    file: SourceFile,
    form: str,
    source: DocumentSource | ExampleSource,
    *,
    group: str | None = None,
    kind: ExampleKind | None = None,
) -> File:
    return File(file.name, file.sha256, group or file.name, form, source.licence, kind)


def _rows(store: ArtifactStore, version: Version) -> list[dict[str, Any]]:
    lines = store.read(version.kind, version.digest, ROWS).decode().split("\n")
    return [json.loads(line) for line in lines if line]
