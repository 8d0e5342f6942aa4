"""fetch: the files of a use case as canonical snapshots, every row with its file and line."""

import hashlib
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, cast

from pipeline import canonical, database, steps
from pipeline.context import Context
from pipeline.data import (
    documents,
    formats,
    jsonrows,
    ledgers,
    lengths,
    paths,
    provenance,
    reading,
    snapshots,
    tombstones,
)
from pipeline.data.documents import Document
from pipeline.data.formats import Example, Reading
from pipeline.data.provenance import Generated
from pipeline.data.records import Amount, Fetched, FetchFacts, File
from pipeline.data.rows import Problem
from pipeline.data.snapshots import Source, Writer
from pipeline.data.tombstones import Tombstones
from pipeline.errors import BadInput, NotAvailable, Refused
from pipeline.records import load, plain
from pipeline.settings import Settings
from pipeline.steps import Attempt, Output, Result, Step
from pipeline.usecase import USES, DocumentSource, ExampleKind, ExampleSource, UseCase, narrowed

_BLOCK = 1 << 20  # bytes that are read at a time


@dataclass(frozen=True)
class SourceFile:
    """One file of a source, as it was when its digest was taken."""

    path: Path
    root: paths.Root  # nothing outside is read
    name: str  # relative to the use case's folder where it stands in it: what findings call it
    sha256: str  # empty where the file is refused
    refused: str | None = None  # why it is not read

    def content(self) -> bytes:
        """Returns the file's bytes. Raises Refused where they changed since the digest was taken."""
        try:
            data = self.root.read(self.path)
        except paths.Outside as outside:
            raise Refused("the file changed while it was being read", where=self.path, found=outside) from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise self._changed()
        return data

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Yields the file's bytes, to be read once. Raises Refused at the end where they changed since the digest was
        taken."""
        try:
            with self.root.opened(self.path) as file:
                hashing = _Hashing(file)
                yield cast("BinaryIO", io.BufferedReader(hashing, _BLOCK))
                while hashing.readinto(memoryview(bytearray(_BLOCK))):
                    pass
        except paths.Outside as outside:
            raise Refused("the file changed while it was being read", where=self.path, found=outside) from None
        if hashing.sha256.hexdigest() != self.sha256:
            raise self._changed()

    def _changed(self) -> Refused:
        return Refused("the file changed while it was being read", where=self.path, next_step="run the fetch again")


class _Hashing(io.RawIOBase):
    """A file's bytes, hashed as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Returns how many bytes were read into the buffer; none at the end."""
        size: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self.sha256.update(buffer[:size])
        return size


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
        basis = lengths.basis(context.settings, context.usecase)
        known = ledgers.known(attempt, spec.use_case, ledgers.key(context.usecase.checks, erased, basis))
        examples = _examples(attempt, context.usecase, rows, erased, known)
        fetched, files = _fetched_documents(texts)
        kept = [snapshots.emptied(row) if erased.holds(row) else row for row in fetched]
        stored = snapshots.of_documents(attempt.store, "documents.fetched", kept, files)
        facts = FetchFacts(Amount(len(files), len(kept)), Amount(len(rows), examples.rows))
        return Result({"documents": stored, "examples": examples.output}, facts)

    outcome = steps.run(context.settings, context.origin, spec, work)
    documents, examples = (outcome.outputs[role] for role in ("documents", "examples"))
    return Fetched(outcome.run_id, outcome.reused, documents, examples, load(FetchFacts, outcome.facts))


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


@dataclass(frozen=True)
class _Examples:
    """The snapshot of the examples."""

    output: Output
    rows: int


def _examples(
    attempt: Attempt,
    usecase: UseCase,
    rows: Sequence[tuple[ExampleSource, str, SourceFile]],
    erased: Tombstones,
    known: Collection[bytes],
) -> _Examples:
    group_by, described = usecase.splits.group_by, list[Source]()
    path = attempt.scratch / snapshots.LINES
    with path.open("wb") as target:
        writer = Writer(target, erased, usecase.checks, known)
        for place, (source, named, file) in enumerate(rows):
            with file.opened() as stream:
                raw = reading.raw(stream, file.name)
                form = named
                if form == formats.DETECT:
                    first = list(islice(raw, formats.SAMPLE))
                    form = formats.detect(list(map(jsonrows.decoded, first)), source.kind, file.name, source.columns)
                    raw = chain(first, raw)
                read = Reading(source.kind, form, source.columns, group_by, provenance.of_source(source.generated))
                described.append(Source(file.name, file.sha256, file.name, form, source.licence, source.kind, read))
                writer.write(place, described[-1], raw)
    return _Examples(snapshots.of_examples(attempt.store, path, described), writer.rows)


def _fetched_documents(
    texts: Sequence[tuple[DocumentSource, list[SourceFile], str]],
) -> tuple[list[Document], list[File]]:
    rows = [row for source, files, _ in texts for file in files for row in _documents(source, file)]
    described = [
        File(file.name, file.sha256, group, source.format, source.licence)
        for source, files, group in texts
        for file in files
    ]
    return rows, described


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
    root = paths.Root(source.path, settings)
    return [_one_of_many(path, root, folder) for path in sorted(paths.walk(source.path, suffix))]


def _one_of_many(path: Path, root: paths.Root, folder: Path) -> SourceFile:
    """Returns a file of a folder. One that cannot be read does not stop the others."""
    try:
        return _file(path, root, folder)
    except NotAvailable as error:
        return SourceFile(path, root, paths.name(path, folder), "", f"{error.details['found']}")


def _file(path: Path, root: paths.Root, folder: Path) -> SourceFile:
    name = paths.name(path, folder)
    try:
        with root.opened(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except paths.Outside as outside:
        return SourceFile(path, root, name, "", str(outside))
    return SourceFile(path, root, name, sha256)


def _own(path: Path, folder: Path, settings: Settings) -> SourceFile:
    """Returns a file that the YAML names itself. Raises BadInput where it leads elsewhere."""
    file = _file(path, paths.Root(path.parent, settings), folder)
    if file.refused is not None:
        raise BadInput("this file is not read", where=path, found=file.refused, allowed="a file of its own")
    return file


def _named(files: list[SourceFile]) -> list[list[str | None]]:
    return [[file.name, file.sha256, file.refused] for file in files]
