"""Entries of a ledger: what a check says and counts of its rows, a column at a time."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.data import beside as beside_module
from pipeline.data import rules
from pipeline.data.findings import Finding
from pipeline.data.measures import OWN
from pipeline.data.provenance import Generated
from pipeline.data.rows import Problem
from pipeline.data.rules import Rule
from pipeline.data.snapshots import Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_BATCH = 10_000  # rows


def beside(
    ledger: "pa.Table",
    documents: Mapping[str, str],
    asked: Collection[bytes] = frozenset(),
    contaminated: Collection[int] = frozenset(),
) -> "pa.Table":
    """Returns a ledger with the measures that depend on other rows, as Beside takes them in the order of the rows.

    `contaminated` are the places of those that ask nearly what the evaluation asks.
    """
    import numpy as np
    import pyarrow as pa
    from pyarrow import compute

    nothing = compute.is_null(ledger["row"]).to_numpy()
    asks = _entries_in(ledger["questions"], pa.array(sorted(asked), pa.binary(16)))
    for place in contaminated:
        asks[place] = max(asks[place], 1)
    withdrawn = pa.array([key for key, status in documents.items() if status == "withdrawn"], pa.string())
    spoken_of = compute.fill_null(compute.list_value_length(ledger["documents"]), 0).to_numpy()
    known = pa.array(list(documents), pa.string())
    measures = {
        "missing_documents": spoken_of - _entries_in(ledger["documents"], known),
        "withdrawn_documents": _entries_in(ledger["documents"], withdrawn),
        "contamination": asks,
        "other_answers": _other_answers(ledger["prompt"], ledger["answer"]),
    }
    repeats = np.where(_seen_before(ledger["row"]), "row", "content").astype(object)
    first = ~(_seen_before(ledger["row"]) | _seen_before(ledger["content"]))
    ledger = ledger.append_column("repeats", pa.array(repeats, pa.string(), mask=first | nothing))
    for name, values in measures.items():
        ledger = ledger.append_column(name, pa.array(values, pa.int32(), mask=nothing))
    return ledger


def _codes(column: "pa.ChunkedArray") -> "NDArray[np.int64]":
    """Returns a number for each value, equal ones the same; -1 for null."""
    encoded = column.combine_chunks().dictionary_encode()
    codes: NDArray[np.int64] = encoded.indices.cast("int64").fill_null(-1).to_numpy(zero_copy_only=False)
    return codes


def _seen_before(column: "pa.ChunkedArray") -> "NDArray[np.bool_]":
    """Returns of each value whether it stands earlier in the column as well."""
    import numpy as np

    codes = _codes(column)
    seen = np.ones(len(codes), dtype=bool)
    seen[np.unique(codes, return_index=True)[1]] = False
    return seen & (codes >= 0)


def _entries_in(lists: "pa.ChunkedArray", known: "pa.Array") -> "NDArray[np.int64]":
    """Returns how many entries of each list are known."""
    import numpy as np
    from pyarrow import compute

    entries = lists.combine_chunks()
    of = compute.list_parent_indices(entries).to_numpy()
    there = compute.is_in(compute.list_flatten(entries), value_set=known).to_numpy(zero_copy_only=False)
    return np.bincount(of[there], minlength=len(lists))


def _other_answers(prompts: "pa.ChunkedArray", answers: "pa.ChunkedArray") -> "NDArray[np.int64]":
    """Returns 1 where a prompt stands earlier with another answer, else 0."""
    import numpy as np

    prompt, answer = _codes(prompts), _codes(answers)
    both = np.flatnonzero((prompt >= 0) & (answer >= 0))
    _, first, which = np.unique(prompt[both], return_index=True, return_inverse=True)
    others = np.zeros(len(prompt), dtype=np.int64)
    others[both] = answer[both] != answer[both[first]][which]
    return others


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
