"""Candidates: the accepted rows of a check, which a commit makes a version of. Their texts stay where they are until
one is needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.data import entries, ledgers, measures, snapshots
from pipeline.data.measuring import Texts
from pipeline.data.provenance import Generated
from pipeline.errors import Refused
from pipeline.steps import Attempt, Version
from pipeline.usecase import Checks

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Candidates:
    """Accepted rows, a sequence each for what all of them have, by place what some have."""

    all_sources: Sequence[str]  # of the snapshot, also those without a row
    empty_files: Sequence[str]  # without a row that was accepted or rejected
    digests: Sequence[str]
    groups: Sequence[str]  # digests of what their splits are fixed for
    sources: Sequence[str]
    files: Sequence[str]
    lines: Sequence[int]
    offsets: Sequence[int]  # of their rows in the snapshot
    parts: Sequence[int]  # which of the examples of its row each is
    keys: Mapping[int, Sequence[str]]  # digests of the groups of the keys that rows share
    documents: Mapping[int, Sequence[str]]
    generated: Mapping[int, Generated]
    near: Sequence[tuple[int, int]]  # near duplicates, by their places

    def __len__(self) -> int:
        return len(self.digests)


_COLUMNS = ["file", "line", "offset", "part", "digest", "group", "keys", "documents", "generated", "rule"]


def read(attempt: Attempt, version: Version) -> Candidates:
    """Returns the accepted rows of a checked snapshot."""
    files = snapshots.files(attempt.store, version)
    ledger = ledgers.read(attempt.store, version, attempt.scratch, _COLUMNS)
    rows, read_from = entries.accepted(ledger.rows), set(ledger.rows["file"].unique().to_pylist())
    keys = {place: [key.hex() for key in keys] for place, keys in _some(rows["keys"]).items()}
    return Candidates(
        [file.group for file in files],
        [file.file for place, file in enumerate(files) if place not in read_from],
        _hexadecimal(rows["digest"]),
        _hexadecimal(rows["group"]),
        [files[place].group for place in rows["file"].to_pylist()],
        [files[place].file for place in rows["file"].to_pylist()],
        rows["line"].to_pylist(),
        rows["offset"].to_pylist(),
        rows["part"].to_pylist(),
        keys,
        _some(rows["documents"]),
        {place: by for place, by in enumerate(entries.generated(rows)) if by is not None},
        _places(ledger.pairs, rows),
    )


def _hexadecimal(column: "pa.ChunkedArray") -> list[str]:
    return [value.hex() for value in column.to_pylist()]


def _some(lists: "pa.ChunkedArray") -> dict[int, list[Any]]:
    """Returns the lists of a column that are not empty, by their places."""
    import numpy as np
    from pyarrow import compute

    lengths = compute.list_value_length(lists).to_numpy()
    places = np.flatnonzero(lengths > 0)
    return dict(zip(places.tolist(), lists.take(places).to_pylist(), strict=True))


def _places(pairs: "pa.Table", rows: "pa.Table") -> list[tuple[int, int]]:
    """Returns the places of the pairs of which both rows are among these."""
    from pyarrow import compute

    digests = rows["digest"].combine_chunks()
    sides = [compute.index_in(pairs[name], value_set=digests).to_pylist() for name in ("one", "other")]
    return [(one, other) for one, other in zip(*sides, strict=True) if one is not None and other is not None]


class Contents:
    """The contents of candidates, by their places among them: read from the snapshot that was checked, of which a copy
    is made when the first is needed."""

    def __init__(self, attempt: Attempt, version: Version, rows: Candidates, checks: Checks) -> None:
        self._attempt, self._version, self._rows, self._checks = attempt, version, rows, checks

    def described(self, places: Sequence[int], labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yields candidates as the catalog takes them. Raises Refused where one is not what was checked."""
        if not places:
            return
        store, version, target = self._attempt.store, self._version, self._attempt.scratch / snapshots.LINES
        path = store.fetch_file(version.kind, version.digest, snapshots.LINES, target)
        with Texts(path, snapshots.files(store, version)) as texts:
            for place in places:
                read = texts.examples(self._rows.offsets[place])[self._rows.parts[place]]
                row, digest = measures.redacted(read, self._checks), self._rows.digests[place]
                if row.digest != digest:
                    raise Refused(
                        "a row is not the one that was checked",
                        where=f"{row.file}:{row.line}",
                        found=row.digest[:12],
                        allowed=digest[:12],
                        next_step="run fetch and check again with reuse: never",
                    )
                yield {
                    "digest": digest,
                    "kind": row.kind,
                    "split": labels[digest],
                    "content": row.content,
                    "subject": row.subject,
                    "documents": list(row.documents),
                    "source": self._rows.sources[place],
                }
