"""Rows of a snapshot measured: each by itself, so that many are measured at once, in processes of their own.

Such a process (`main`) reads what to measure from its standard input, since a key is part of it, and writes an Arrow
file."""

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from pipeline import canonical, settings
from pipeline.data import lengths, marks, measures, near, splits
from pipeline.data.formats import Example
from pipeline.data.lengths import Basis, Lengths, Unmeasured
from pipeline.data.snapshots import Source
from pipeline.data.tombstones import Tombstones
from pipeline.errors import Refused
from pipeline.records import load, plain
from pipeline.settings import Settings
from pipeline.steps import environment
from pipeline.usecase import Checks

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 1_000  # rows
_WORTH_A_PROCESS = 10_000  # rows: fewer are measured before another process has begun
_TEXTS = frozenset({"problem", "erased", "task", "roles", "answers", "untrainable"})  # measures that are no numbers


@dataclass(frozen=True)
class Task:
    """What is measured, and how."""

    rows: Path  # the rows of a snapshot of examples
    sources: Sequence[Source]
    checks: Checks
    erased: Tombstones
    settings: Settings
    basis: Basis | None  # what lengths are measured by; None where nothing measures them


def schema() -> "pa.Schema":
    """Returns the columns of a ledger: an example each. None of them holds a row's text."""
    import pyarrow as pa

    mark, digest = pa.binary(16), pa.binary(32)
    return pa.schema(
        [
            ("file", pa.int32()),  # which of the snapshot's files
            ("line", pa.int32()),
            ("offset", pa.int64()),  # of its row in the snapshot
            ("part", pa.int32()),  # which of the examples of its row
            ("raw", mark),  # of its row
            ("digest", digest),  # null, as is all below, where the row has a problem
            ("group", digest),  # that its split is fixed for
            ("keys", pa.list_(digest)),  # groups of the keys that it shares with rows
            ("subject", mark),
            ("documents", pa.list_(pa.string())),
            ("generated", pa.string()),  # JSON
            ("row", mark),
            ("content", mark),
            ("prompt", mark),
            ("answer", mark),
            ("questions", pa.list_(mark)),
            ("sketch", pa.binary(near.SKETCH)),
            ("asked", pa.list_(pa.binary(near.SKETCH))),  # sketches of its questions
            ("detail", pa.string()),  # what a finding says beside its rule
            *((name, pa.string() if name in _TEXTS else pa.int32()) for name in measures.OWN),
        ]
    )


def measure(task: Task, offsets: Sequence[int], scratch: Path) -> "pa.Table":
    """Returns the ledger of the rows that stand at these places of a snapshot, in their order; by as many processes as
    there are cores, where there are many rows."""
    import pyarrow as pa

    processes = min(environment.cores(), len(offsets) // _WORTH_A_PROCESS)
    if processes < 2:
        return pa.Table.from_batches(_batches(task, offsets), schema())
    share = -(-len(offsets) // processes)
    running = [
        _start(task, offsets[begin : begin + share], scratch / f"measured.{number}.arrow")
        for number, begin in enumerate(range(0, len(offsets), share))
    ]
    try:
        tables = [_ended(process, target) for process, target in running]
    finally:
        for process, target in running:
            process.kill()
            process.wait()
            target.unlink(missing_ok=True)
    return pa.concat_tables(tables)


def _start(task: Task, offsets: Sequence[int], target: Path) -> tuple[subprocess.Popen[bytes], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **task.settings.environment()},
    )
    order = {
        "rows": str(task.rows),
        "sources": plain(list(task.sources)),
        "checks": task.checks.model_dump(mode="json"),
        "basis": plain(task.basis),
        "erased": [task.erased.key.hex(), task.erased.use_case, sorted(task.erased.marks)],
        "offsets": list(offsets),
        "target": str(target),
    }
    # A process that ended at once is heard of by its exit code.
    with suppress(BrokenPipeError), cast("BinaryIO", process.stdin) as pipe:
        pipe.write(json.dumps(order).encode())
    return process, target


def _ended(process: "subprocess.Popen[bytes]", target: Path) -> "pa.Table":
    import pyarrow as pa

    if code := process.wait():
        raise RuntimeError(f"a process that measured rows ended with {code}: its error stands above")
    with pa.OSFile(str(target)) as file:
        return pa.ipc.open_file(file).read_all()


def main() -> None:
    """Measures what standard input says."""
    import pyarrow as pa

    order = json.load(sys.stdin)
    key, use_case, marks = order["erased"]
    task = Task(
        Path(order["rows"]),
        [load(Source, source) for source in order["sources"]],
        Checks.model_validate(order["checks"]),
        Tombstones(bytes.fromhex(key), use_case, frozenset(marks)),
        settings.from_environment(),
        None if order["basis"] is None else load(Basis, order["basis"]),
    )
    with pa.OSFile(order["target"], "wb") as file, pa.ipc.new_file(file, schema()) as writer:
        for batch in _batches(task, order["offsets"]):
            writer.write_batch(batch)


def _batches(task: Task, offsets: Sequence[int]) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    columns = schema()
    places, by = iter(offsets), _lengths(task)
    with Texts(task.rows, task.sources) as texts:
        while batch := list(islice(places, _BATCH)):
            entries = [entry for offset in batch for entry in _entries(task, by, texts, offset)]
            sketched = iter(near.sketches([text for entry in entries for text in (entry["text"], *entry["asked"])]))
            for entry in entries:
                entry["sketch"] = next(sketched)
                entry["asked"] = list(islice(sketched, len(entry["asked"])))
            yield pa.RecordBatch.from_pylist(entries, columns)  # what is no column is left out


class Texts:
    """The rows of a snapshot by their places in it."""

    def __init__(self, path: Path, sources: Sequence[Source]) -> None:
        self._path, self._sources = path, sources
        self._markers = [source.marker() for source in sources]

    def __enter__(self) -> "Texts":
        self._file = self._path.open("rb")
        empty = self._path.stat().st_size == 0
        self._bytes: mmap.mmap | bytes = b"" if empty else mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if isinstance(self._bytes, mmap.mmap):
            self._bytes.close()

    def row(self, offset: int) -> tuple[int, int, bytes]:
        """Returns a row's file, its line there, and what stands there."""
        file, line, text = self._bytes[offset : self._bytes.find(b"\n", offset)].split(b" ", 2)
        return int(file), int(line), text

    def mark(self, file: int, text: bytes) -> bytes:
        """Returns the mark of a row of a file."""
        return self._markers[file].of(text)

    def examples(self, offset: int) -> list[Example]:
        """Returns the examples of a row."""
        file, line, text = self.row(offset)
        return self._sources[file].examples(text, line)


def _lengths(task: Task) -> Lengths | None:
    """Returns what measures rows in tokens. Raises Refused where it could be read a moment ago, and cannot now."""
    if task.basis is None:
        return None
    by = lengths.load(task.settings, task.basis)
    if isinstance(by, Unmeasured):
        raise Refused("the base model's tokenizer cannot be read any more", where=task.basis.files.folder, found=by.why)
    return by


def _entries(task: Task, by: Lengths | None, texts: Texts, offset: int) -> Iterator[dict[str, Any]]:
    file, line, text = texts.row(offset)
    source = task.sources[file]
    if task.basis is not None and source.group in task.basis.untrained:
        by = None
    place = {"file": file, "line": line, "offset": offset, "raw": texts.mark(file, text)}
    for part, read in enumerate(source.examples(text, line)):
        yield {**place, "part": part, **_entry(measures.redacted(read, task.checks), task, by)}


def _entry(row: Example, task: Task, by: Lengths | None) -> dict[str, Any]:
    measured = measures.of_example(row, task.erased.holds, task.checks, by)
    if row.content is None or measured.marks is None:
        return {
            **measured.measures,
            "detail": None if row.problem is None else row.problem.detail,
            "text": "",
            "asked": (),
        }
    return {
        **measured.measures,
        **vars(measured.marks),
        "digest": bytes.fromhex(row.digest),
        "group": bytes.fromhex(splits.group(row.content)),
        "keys": [bytes.fromhex(splits.key_group(key)) for key in row.keys],
        "subject": None if row.subject is None else marks.mark(row.subject),
        "documents": row.documents,
        "generated": None if row.generated is None else canonical.dumps(plain(row.generated)),
        "detail": ", ".join(row.unread) or None,
        "text": near.text(row.content),
        "asked": splits.questions(row.content),
    }
