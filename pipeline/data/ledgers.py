"""Ledgers: what was measured of every row of a snapshot of examples, a column each, and no text.

A row that an earlier ledger has is not measured again. What counts is how its file is read and what stands there, not
its place: rows come in and go, and those between them stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import ArtifactStore
from pipeline.data import measures, measuring, near, snapshots, splits
from pipeline.data.lengths import Basis, Unmeasured
from pipeline.data.measuring import Task, Texts
from pipeline.data.snapshots import Source
from pipeline.data.tombstones import Tombstones
from pipeline.steps import Attempt, Output, Version, cachekey
from pipeline.usecase import Checks

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

LEDGER = "ledger.parquet"
NAME = "examples.checked"
PAIRS = "pairs.parquet"
_KEY = b"nightshift.key"


def key(checks: Checks, erased: Tombstones, basis: Basis | Unmeasured) -> str:
    """Returns the digest of all that measures depend on beside the row: the code that takes them, its libraries, what
    the use case asks for, what was erased, and what lengths are measured by."""
    parts = cachekey.parts(
        job="data.measure",
        modules=("pipeline.data.measuring",),
        files=(),
        params={
            "checks": checks.model_dump(mode="json", exclude={"documents"}),
            "erased": erased.digest,
            "lengths": basis.params,
        },
        inputs={},
    )
    return cachekey.key(parts)


@dataclass(frozen=True)
class Ledger:
    """What is known of the rows of a snapshot."""

    rows: "pa.Table"  # an example each, in the order of the snapshot: measuring.schema()
    pairs: "pa.Table"  # near duplicates: the digests of both, `one` and `other`


def newest(attempt: Attempt, use_case: str, wanted: str) -> Ledger | None:
    """Returns the newest ledger of a use case with this key; None where there is none, or where it is damaged: then
    every row is measured."""
    version = snapshots.newest(attempt, use_case, NAME, wanted)
    if version is None:
        return None
    schema = measuring.schema()
    # Of lists Parquet forgets what their entries are called.
    rows = _table(attempt.store, version, LEDGER, attempt.scratch, schema.names).cast(schema)
    return Ledger(rows, _table(attempt.store, version, PAIRS, attempt.scratch))


def known(attempt: Attempt, use_case: str, wanted: str) -> frozenset[bytes]:
    """Returns the marks of the rows that the newest ledger has and that have no problem."""
    from pyarrow import compute

    version = snapshots.newest(attempt, use_case, NAME, wanted)
    if version is None:
        return frozenset()
    rows = _table(attempt.store, version, LEDGER, attempt.scratch, ["raw", "problem", "erased"])
    fit = compute.and_(compute.is_null(rows["problem"]), compute.is_null(rows["erased"]))
    return frozenset(rows["raw"].to_pylist()).difference(rows.filter(compute.invert(fit))["raw"].to_pylist())


def take(task: Task, earlier: Ledger | None, scratch: Path) -> Ledger:
    """Returns the ledger of a snapshot: as an earlier one has its rows, and measured where that does not."""
    import numpy as np
    import pyarrow as pa

    firsts, sizes = ({}, []) if earlier is None else _places(earlier.rows)
    offsets, taken, at = [], [], _Columns()
    markers = [source.marker() for source in task.sources]
    for line in snapshots.lines(task.rows):
        first = None if line.has_problem else firsts.get(markers[line.file].of(line.text))
        if first is None:
            offsets.append(line.offset)
            continue
        for place in range(first, first + sizes[first]):
            taken.append(place)
            at.append(line.file, line.line, line.offset)
    measured = measuring.measure(task, offsets, scratch)
    if earlier is None or not taken:
        return Ledger(measured, _pairs(task, measured, None))
    rows = pa.concat_tables([at.into(earlier.rows.take(pa.array(taken, pa.int64()))), measured])
    order = np.lexsort((rows["part"].to_numpy(), rows["offset"].to_numpy()))
    again = np.arange(len(rows)) < len(taken)
    rows, fresh = rows.take(pa.array(order)), ~again[order]
    pairs = pa.concat_tables([_standing(earlier.pairs, rows), _pairs(task, rows, fresh)])
    return Ledger(rows, pairs.sort_by([("one", "ascending"), ("other", "ascending")]))


def _pairs(task: Task, rows: "pa.Table", fresh: "NDArray[np.bool_] | None") -> "pa.Table":
    """Returns the near duplicates among rows; with `fresh`, those of which one is fresh at least."""
    import pyarrow as pa
    from pyarrow import compute

    offsets, parts = rows["offset"].to_numpy(), rows["part"].to_numpy()
    with Texts(task.rows, task.sources) as texts:

        def compared(place: int) -> str:
            row = measures.redacted(texts.examples(int(offsets[place]))[parts[place]], task.checks)
            return "" if row.content is None else near.text(row.content)

        places = list(near.pairs(rows["sketch"], compared, fresh))
    digests = rows["digest"].combine_chunks()
    pairs = pa.table(
        {
            name: digests.take(pa.array([pair[side] for pair in places], pa.int64()))
            for side, name in enumerate(("one", "other"))
        }
    )
    # A row that stands twice is no pair: its digest is one.
    return pairs.filter(compute.not_equal(pairs["one"], pairs["other"]))


def contaminated(task: Task, rows: "pa.Table", questions: Sequence[str]) -> frozenset[int]:
    """Returns the places of rows that ask nearly what one of some questions asks."""
    from pyarrow import compute

    if not questions:
        return frozenset()
    places, offsets, parts = (rows[name] for name in ("asked", "offset", "part"))
    of = compute.list_parent_indices(places).to_numpy()
    firsts: dict[int, int] = {}
    # Which of its row's questions each is.
    number = [place - firsts.setdefault(row, place) for place, row in enumerate(of.tolist())]
    with Texts(task.rows, task.sources) as texts:

        def text_of(place: int) -> str:
            row = int(of[place])
            example = texts.examples(offsets[row].as_py())[parts[row].as_py()]
            content = measures.redacted(example, task.checks).content
            return "" if content is None else splits.questions(content)[number[place]]

        return frozenset(int(of[place]) for place in near.beside(compute.list_flatten(places), text_of, questions))


def _standing(pairs: "pa.Table", rows: "pa.Table") -> "pa.Table":
    """Returns the pairs of which both rows are still there."""
    from pyarrow import compute

    digests = rows["digest"].combine_chunks()
    there = compute.and_(
        compute.is_in(pairs["one"], value_set=digests), compute.is_in(pairs["other"], value_set=digests)
    )
    return pairs.filter(there)


class _Columns:
    """Where rows stand now."""

    def __init__(self) -> None:
        self._values: dict[str, list[int]] = {"file": [], "line": [], "offset": []}

    def append(self, file: int, line: int, offset: int) -> None:
        self._values["file"].append(file)
        self._values["line"].append(line)
        self._values["offset"].append(offset)

    def into(self, table: "pa.Table") -> "pa.Table":
        """Returns a ledger with these places in its rows."""
        import pyarrow as pa

        for name, values in self._values.items():
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
        return table


def _places(table: "pa.Table") -> tuple[dict[bytes, int], Sequence[int]]:
    """Returns where the examples of each row begin in a ledger, by the row's mark, and how many there are."""
    import numpy as np

    parts = table["part"].to_numpy()
    firsts = np.flatnonzero(parts == 0)
    sizes = np.zeros(len(parts), dtype=np.int64)
    sizes[firsts] = np.diff(np.append(firsts, len(parts)))
    marks = table["raw"].take(firsts).to_pylist()
    return dict(zip(marks, firsts.tolist(), strict=True)), sizes.tolist()


def keep(
    attempt: Attempt,
    rows: "pa.Table",
    pairs: "pa.Table",
    wanted: str,
    files: Sequence[Source],
    made_of: tuple[str, ...],
) -> Output:
    """Returns a ledger as a private artifact, stored beside the files that its rows are of: it says of a person's rows
    how they are. `rows` may have more columns than the ledger's own."""
    from pyarrow import parquet

    content: dict[str, bytes | Path] = {snapshots.FILES: snapshots.described(files)}
    for name, table in ((LEDGER, rows), (PAIRS, pairs)):
        path = content[name] = attempt.scratch / name
        # The key is part of the content: the same rows under another one are another ledger.
        described = table.replace_schema_metadata({_KEY: wanted.encode()})
        parquet.write_table(described, path, compression="zstd", compression_level=1)
    stored = attempt.store.put("snapshot", content)
    return Output.of(stored, NAME, private=True, meta={"key": wanted}, made_of=made_of)


def read(store: ArtifactStore, version: Version, scratch: Path, columns: Sequence[str] | None = None) -> Ledger:
    """Returns a stored ledger, with these columns or all that its rows have; `scratch` is a folder for a copy of it."""
    return Ledger(_table(store, version, LEDGER, scratch, columns), _table(store, version, PAIRS, scratch))


def _table(
    store: ArtifactStore, version: Version, name: str, scratch: Path, columns: Sequence[str] | None = None
) -> "pa.Table":
    from pyarrow import parquet

    path = store.fetch_file(version.kind, version.digest, name, scratch / name)
    try:
        return parquet.read_table(path, columns=columns)
    finally:
        path.unlink()
