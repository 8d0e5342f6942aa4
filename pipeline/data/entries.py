"""Entries of a ledger: what a check says and counts of its rows, a column at a time."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.data import beside as beside_module
from pipeline.data import rules
from pipeline.data.beside import Beside
from pipeline.data.findings import Finding
from pipeline.data.marks import Marks
from pipeline.data.measures import OWN
from pipeline.data.provenance import Generated
from pipeline.data.rows import Problem
from pipeline.data.rules import Rule
from pipeline.data.snapshots import Source

if TYPE_CHECKING:
    import pyarrow as pa

_COMPARED = ["row", "content", "prompt", "answer", "questions", "documents"]
_BATCH = 10_000  # rows


def beside(ledger: "pa.Table", measuring_beside: Beside, contaminated: Collection[int] = frozenset()) -> "pa.Table":
    """Returns a ledger with the measures that depend on other rows, taken in the order of the rows. `contaminated` are
    the places of those that ask nearly what the evaluation asks."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in beside_module.MEASURES}
    for batch in ledger.select(_COMPARED).to_batches(_BATCH):
        for row, content, prompt, answer, questions, documents in zip(
            *(c.to_pylist() for c in batch.columns), strict=True
        ):
            marks = None if row is None else Marks(row, content, prompt, answer, tuple(questions))
            for name, value in measuring_beside.of(marks, documents or ()).items():
                columns[name].append(value)
    for place in contaminated:
        columns["contamination"][place] = max(columns["contamination"][place], 1)
    for name, values in columns.items():
        ledger = ledger.append_column(name, pa.array(values, pa.string() if name == "repeats" else pa.int32()))
    return ledger


def columns(ledger: "pa.Table") -> "dict[str, pa.ChunkedArray]":
    """Returns the measures of a ledger by their names."""
    return {name: ledger[name] for name in (*OWN, *beside_module.MEASURES)}


def with_rules(ledger: "pa.Table", rejected: Mapping[int, str]) -> "pa.Table":
    """Returns a ledger with the rule that rejected each row, by its place; null where none did."""
    import pyarrow as pa

    return ledger.append_column("rule", pa.array([rejected.get(place) for place in range(len(ledger))], pa.string()))


def accepted(ledger: "pa.Table") -> "pa.Table":
    """Returns the rows that no rule rejected."""
    from pyarrow import compute

    return ledger.filter(compute.is_null(ledger["rule"]))


def findings(ledger: "pa.Table", files: Sequence[Source], breaches: Sequence[tuple[int, Rule]]) -> Iterator[Finding]:
    """Yields what is to be said of rows, by their places."""
    import pyarrow as pa

    names = ["file", "line", "digest", "detail", *OWN]
    for begin in range(0, len(breaches), _BATCH):
        batch = breaches[begin : begin + _BATCH]
        rows = ledger.select(names).take(pa.array([place for place, _ in batch], pa.int64())).to_pylist()
        for row, (_, rule) in zip(rows, batch, strict=True):
            problem = None if row["problem"] is None else Problem(row["problem"], row["detail"])
            detail = rules.detail(rule, problem, row["detail"], row)
            digest = None if row["digest"] is None else row["digest"].hex()
            yield Finding(files[row["file"]].file, row["line"], rule.name, rule.severity, detail, digest)


def rows_of_files(ledger: "pa.Table", files: Sequence[Source]) -> tuple[dict[str, int], dict[str, int]]:
    """Returns how many rows each file has, and how many of them were accepted."""
    return _of_files(ledger, files), _of_files(accepted(ledger), files)


def _of_files(ledger: "pa.Table", files: Sequence[Source]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for each in ledger["file"].value_counts().to_pylist():
        counted[files[each["values"]].file] += each["counts"]
    return dict(counted)


def kinds(ledger: "pa.Table", files: Sequence[Source]) -> dict[str, int]:
    """Returns how many rows there are of each kind."""
    counted: Counter[str] = Counter()
    for each in ledger["file"].value_counts().to_pylist():
        counted[str(files[each["values"]].kind)] += each["counts"]
    return dict(sorted(counted.items()))


def subjects(ledger: "pa.Table") -> int:
    """Returns how many persons rows are about."""
    from pyarrow import compute

    return int(compute.count_distinct(ledger["subject"], mode="only_valid").as_py())


def generated(ledger: "pa.Table") -> "Iterator[Generated | None]":
    """Yields what wrote each row."""
    known = {
        text: None if text is None else Generated(**json.loads(text))
        for text in ledger["generated"].unique().to_pylist()
    }
    return (known[text] for text in ledger["generated"].to_pylist())


def staged(ledger: "pa.Table", files: Sequence[Source], table: Sequence[Rule]) -> "pa.Table":
    """Returns what Great Expectations looks at of each row; see expectations.py."""
    import pyarrow as pa
    from pyarrow import compute

    bad = pa.array([rule.name for rule in table if rule.says_against_source], pa.string())
    names = pa.array([source.file for source in files], pa.string()).take(ledger["file"].combine_chunks())
    return pa.table(
        {
            "part": pa.array(["examples"] * len(ledger), pa.string()),
            "source": names,
            "file": names,
            "rule": ledger["rule"],
            "counts_as_bad": compute.is_in(ledger["rule"], bad),
            "answer_characters": ledger["answer_characters"],
        }
    )
