"""Snapshots: what sources held when they were fetched, as private artifacts, so that a file which changes meanwhile
changes nothing.

A snapshot of examples has one line a row: the number of its file, its line there, and then the row as JSON, as its file
has it. A row that cannot be used has `!`, a rule and what is wrong with it instead, and no word of its own. `=` stands
before an example in its canonical form: what is left of a row of which some was erased.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from pipeline import canonical, database
from pipeline.artifacts import ArtifactStore
from pipeline.data import jsonrows, measures
from pipeline.data.documents import Document
from pipeline.data.formats import Example, Reading
from pipeline.data.records import File
from pipeline.data.rows import Problem, Raw, Row
from pipeline.data.tombstones import Tombstones
from pipeline.records import load, plain
from pipeline.steps import Attempt, Output, Version
from pipeline.usecase import Checks

ROWS = "rows.jsonl"
LINES = "rows.txt"
FILES = "files.json"
_KEY = "key.txt"
_PROBLEM, _KEPT = b"!", b"="
_MARK = 16  # bytes
ERASED = Problem("erased", "this was erased and must not come back")


@dataclass(frozen=True)
class Source(File):
    """A file of examples in a snapshot, and how its rows are read."""

    reading: Reading | None = None

    def examples(self, text: bytes, line: int) -> list[Example]:
        """Returns the examples of a row of a snapshot."""
        if text.startswith(_PROBLEM):
            rule, _, detail = text[1:].decode().partition(" ")
            return [Example(self.file, line, self._reading.kind, None, problem=Problem(rule, detail))]
        if text.startswith(_KEPT):
            return [Example.from_dict(json.loads(text[1:]))]
        return self.read(jsonrows.decoded(Raw(line, text)))

    def read(self, row: Row) -> list[Example]:
        """Returns the examples of a row of the file."""
        return self._reading.examples(row, self.file)

    @property
    def _reading(self) -> Reading:
        if self.reading is None:
            raise ValueError(f"{self.file} is no file of examples")
        return self.reading

    def marker(self) -> "Marker":
        """Returns what tells rows of this file from others."""
        return Marker(canonical.digest([self.file, plain(self.reading)]))


class Marker:
    """Marks of rows: 16 bytes of a hash over the file, how it is read and what stands there, BLAKE2b (RFC 7693)."""

    def __init__(self, reading: str) -> None:
        self._hash = blake2b(reading.encode(), digest_size=_MARK)

    def of(self, text: bytes) -> bytes:
        """Returns the mark of a row."""
        hashed = self._hash.copy()
        hashed.update(text)
        return hashed.digest()


@dataclass(frozen=True)
class Line:
    """One row of a snapshot of examples."""

    file: int  # which of the snapshot's files it comes from
    line: int  # where it stands there
    offset: int  # bytes before it in the snapshot
    text: bytes

    @property
    def has_problem(self) -> bool:
        """Returns whether it is the place of a row that cannot be used."""
        return self.text.startswith(_PROBLEM)


class Writer:
    """Writes the rows of examples of a snapshot, one file after another."""

    def __init__(self, target: BinaryIO, erased: Tombstones, checks: Checks, known: Collection[bytes]) -> None:
        """`known` are the marks of rows that were read before, without a problem, and are not erased."""
        self._target, self._erased, self._checks, self._known = target, erased, checks, known
        self.rows = 0

    def write(self, place: int, source: Source, rows: Iterable[Raw]) -> None:
        """Writes the rows of a file, those with a problem without their content, and erased ones without theirs."""
        marker = source.marker()
        for raw in rows:
            self.rows += 1
            if raw.problem is None and marker.of(raw.text) in self._known:
                self._put(place, raw.line, raw.text)
                continue
            for text in self._texts(source, raw):
                self._put(place, raw.line, text)

    def _put(self, place: int, line: int, text: bytes) -> None:
        self._target.write(b"%d %d %s\n" % (place, line, text))

    def _texts(self, source: Source, raw: Raw) -> list[bytes]:
        examples = source.read(jsonrows.decoded(raw))
        # What cannot be read cannot be told from what was erased: no text of it is kept.
        if problems := [each.problem for each in examples if each.problem is not None]:
            return [_problem(problems[0])]
        if not self._erased.marks or not any(map(self._is_erased, examples)):
            return [raw.text]
        return [
            _problem(ERASED) if self._is_erased(each) else _KEPT + canonical.dumps(each.as_dict()).encode()
            for each in examples
        ]

    def _is_erased(self, example: Example) -> bool:
        """Returns whether an example was erased, as it stands here or as the catalog had it: without personal data."""
        return self._erased.holds(example) or self._erased.holds(measures.redacted(example, self._checks))


def _problem(problem: Problem) -> bytes:
    return _PROBLEM + f"{problem.rule} {problem.detail}".replace("\n", " ").encode()


def lines(path: Path) -> Iterator[Line]:
    """Yields the rows of a snapshot of examples that stands in a file."""
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            place, line, text = raw.split(b" ", 2)
            yield Line(int(place), int(line), offset, text[:-1])
            offset += len(raw)


def newest(attempt: Attempt, use_case: str, name: str, key: str) -> Version | None:
    """Returns the newest snapshot of a use case with this name and key; None where there is none, or where it is
    damaged."""
    row = database.fetch_one(attempt.connection, "data", "newest_snapshot", use_case=use_case, name=name, key=key)
    if row is None or attempt.store.verify(row["kind"], row["digest"]):
        return None
    return Version(row["version_id"], row["kind"], name, row["digest"])


def files(store: ArtifactStore, version: Version) -> list[Source]:
    """Returns the files that a snapshot was made of."""
    return [load(Source, entry) for entry in json.loads(store.read(version.kind, version.digest, FILES))]


def read_examples(store: ArtifactStore, version: Version, scratch: Path) -> Iterator[Example]:
    """Yields the examples of a snapshot, those with a problem too."""
    sources = files(store, version)
    path = store.fetch_file(version.kind, version.digest, LINES, scratch / f"{version.digest}.txt")
    for line in lines(path):
        yield from sources[line.file].examples(line.text, line.line)


def read_documents(store: ArtifactStore, version: Version) -> list[Document]:
    """Returns the documents of a snapshot."""
    rows = store.read(version.kind, version.digest, ROWS).decode().split("\n")
    return [Document.from_dict(json.loads(row)) for row in rows if row]


def of_examples(store: ArtifactStore, path: Path, sources: Sequence[Source]) -> Output:
    """Returns the private snapshot of examples whose rows stand in a file, stored."""
    content: dict[str, bytes | Path] = {LINES: path, FILES: described(sources)}
    return Output.of(store.put("snapshot", content), "examples.fetched", private=True, made_of=())


def of_documents(
    store: ArtifactStore,
    name: str,
    rows: Iterable[Document],
    sources: Sequence[File],
    key: str,
    more: Mapping[str, bytes] | None = None,
    made_of: tuple[str, ...] = (),
) -> Output:
    """Returns the private snapshot of these documents, stored, made of the inputs with these roles.

    `key` is what it is found by on another night: it is part of the content, so that the same rows under another one
    are another snapshot. `more` are files beside the rows.
    """
    text = "".join(f"{canonical.dumps(row.as_dict())}\n" for row in rows)
    content: dict[str, bytes | Path] = {
        ROWS: text.encode(),
        FILES: described(sources),
        _KEY: key.encode(),
        **(more or {}),
    }
    return Output.of(store.put("snapshot", content), name, private=True, meta={"key": key}, made_of=made_of)


def emptied(row: Document) -> Document:
    """Returns the place of a document that was erased, and nothing else of it: no snapshot may bring it back."""
    return Document(row.file, row.line, row.key, problem=ERASED)


def described(sources: Sequence[File]) -> bytes:
    """Returns the files of a snapshot as it keeps them."""
    return canonical.dumps(plain(list(sources))).encode()
