"""fetch: the files of a use case as canonical snapshots, every row with its file and line."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import BinaryIO

from pipeline import canonical, database, steps
from pipeline.context import Context
from pipeline.data import (
    documents,
    formats,
    jsonrows,
    ledgers,
    lengths,
    provenance,
    reading,
    snapshots,
    source_files,
    tombstones,
)
from pipeline.data.documents import Document
from pipeline.data.formats import Example, Reading
from pipeline.data.provenance import Generated
from pipeline.data.records import Amount, Fetched, FetchFacts, File
from pipeline.data.rows import Raw
from pipeline.data.snapshots import Source, Writer
from pipeline.data.source_files import SourceFile
from pipeline.data.tombstones import Tombstones
from pipeline.records import load, plain
from pipeline.steps import Attempt, Output, Result, Step, cachekey
from pipeline.usecase import USES, DocumentSource, ExampleKind, ExampleSource, UseCase, narrowed

_DOCUMENTS = "documents.fetched"


def fetch(context: Context) -> Fetched:
    """Returns private snapshots of every row: those with a problem carry it in place of their content. Where no file
    changed, an earlier run answers.

    Raises NotAvailable for a file that is missing, and BadInput for a format that its kind of row does not come in.
    """
    folder = context.settings.usecases / context.usecase.name
    texts = [
        (source, source_files.of_documents(source, folder, context.settings), source_files.name(source, folder))
        for source in context.usecase.documents
    ]
    rows = [
        (source, form_of(source, n), file)
        for n, source in enumerate(context.usecase.examples)
        for file in source_files.of_examples(source, folder, context.settings)
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
                    file.group,
                    None if file.refused is None else file.refused.detail,
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
        key = _reading_key([(name, source) for source, _, name in texts])
        read = _read_before(attempt, spec.use_case, key)
        fetched = [row for source, files, _ in texts for file in files for row in read(source, file)]
        kept = [snapshots.emptied(row) if erased.holds(row) else row for row in fetched]
        described = [
            File(file.name, file.sha256, file.group, source.format, source.licence)
            for source, files, _ in texts
            for file in files
        ]
        stored = snapshots.of_documents(attempt.store, _DOCUMENTS, kept, described, key)
        facts = FetchFacts(Amount(len(described), len(kept)), Amount(len(rows), examples.rows))
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
            with _raw(file) as raw:
                form, first = named, list[Raw]()
                if form == formats.DETECT:
                    first = list(islice(raw, formats.SAMPLE))
                    form = formats.detect(list(map(jsonrows.decoded, first)), source.kind, file.name, source.columns)
                read = Reading(source.kind, form, source.columns, group_by, provenance.of_source(source.generated))
                described.append(Source(file.name, file.sha256, file.group, form, source.licence, source.kind, read))
                writer.write(place, described[-1], chain(first, raw))
    return _Examples(snapshots.of_examples(attempt.store, path, described), writer.rows)


@contextmanager
def _raw(file: SourceFile) -> Iterator[Iterator[Raw]]:
    """Yields the rows of a file; of one that is refused, one with the problem."""
    if file.refused is not None:
        yield iter([Raw(1, b"", file.refused)])
        return
    with file.opened() as stream:
        yield reading.raw(stream, file.name)


def _reading_key(texts: Sequence[tuple[str, DocumentSource]]) -> str:
    """Returns the digest of what documents are read by, beside what stands in their files."""
    parts = cachekey.parts(
        job="data.read",
        modules=("pipeline.data.documents",),
        files=(),
        params={"sources": [[name, source.model_dump(mode="json", exclude={"path"})] for name, source in texts]},
        inputs={},
    )
    return cachekey.key(parts)


def _read_before(
    attempt: Attempt, use_case: str, key: str
) -> Callable[[DocumentSource, SourceFile], Sequence[Document]]:
    """Returns what gives the documents of a file: as the last snapshot with this key has them, where the file is as it
    was, else read."""
    version = snapshots.newest(attempt, use_case, _DOCUMENTS, key)
    if version is None:
        return _documents
    files = snapshots.files(attempt.store, version)
    digests = {(file.group, file.file): file.sha256 for file in files}
    # A file that is named twice has its rows twice.
    once = Counter(file.file for file in files)
    rows: dict[str, list[Document]] = defaultdict(list)
    for row in snapshots.read_documents(attempt.store, version):
        rows[row.file].append(row)

    def read(source: DocumentSource, file: SourceFile) -> Sequence[Document]:
        before = rows.get(file.name, ())
        as_it_was = file.refused is None and digests.get((file.group, file.name)) == file.sha256
        if not as_it_was or once[file.name] > 1 or any(row.problem == snapshots.ERASED for row in before):
            return _documents(source, file)
        return before

    return read


def _documents(source: DocumentSource, file: SourceFile) -> list[Document]:
    if file.refused is not None:
        return [Document(file.name, 1, None, problem=file.refused)]
    data, uses = file.content(), narrowed(source.uses, USES)
    if source.format == "lines":
        return documents.lines(data, file.name, source.defaults, uses)
    required = source.front_matter == "required"
    return [documents.markdown(data, file.name, source.defaults, required=required, uses=uses)]


def _named(files: list[SourceFile]) -> list[list[str | None]]:
    return [[file.name, file.sha256, file.refused.detail if file.refused else None] for file in files]
