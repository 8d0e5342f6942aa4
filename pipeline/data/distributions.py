"""What accepted rows are like, for the data card: how long they are, what they ask for, and which stand out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.data.reports import Bin, Distribution, Extreme, TaskShare
from pipeline.data.snapshots import Source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

# What users ask of a set of rows, by the measures of them.
_MEASURES = {
    "characters": "characters of a row",
    "answer_characters": "characters of its answer, of a pair the shorter one",
    "tokens": "tokens of a row",
    "supervised": "tokens that are learned",
}
# Where a row that stands out is likely a bad one: what is more of it, and what is less.
_MOST = {
    "repetition": "characters of an answer that repeat",
    "debris": "tags and entities of HTML",
    "cut": "tokens beyond max_length",
    "characters": "characters",
}
_LEAST = {"answer_characters": "characters of the answer, fewest"}
_SHOWN = 5  # rows of a measure


def of(accepted: "pa.Table", sources: Sequence[Source]) -> list[Distribution]:
    """Returns the distributions of the lengths of accepted rows, by kind of row; those that were not measured are left
    out."""
    kinds = _kinds(accepted, sources)
    distributions = []
    for kind in sorted(set(kinds.tolist())):
        rows = accepted.filter(kinds == kind)
        for measure, words in _MEASURES.items():
            values = rows[measure].drop_null().to_numpy()
            if len(values):
                distributions.append(_distribution(kind, words, values))
    return distributions


def tasks(accepted: "pa.Table", sources: Sequence[Source]) -> list[TaskShare]:
    """Returns what accepted rows ask for, by kind of row, the most frequent first."""
    import numpy as np

    kinds, lengths = _kinds(accepted, sources), accepted["answer_characters"].to_numpy()
    of_rows = np.array(accepted["task"].to_pylist() or [""])
    shares = []
    for kind in sorted(set(kinds.tolist())):
        for task in sorted(set(of_rows[kinds == kind].tolist())):
            answers = lengths[(kinds == kind) & (of_rows == task)]
            median = int(np.percentile(answers, 50, method="inverted_cdf"))
            shares.append(TaskShare(kind, task, len(answers), median))
    return sorted(shares, key=lambda share: (share.kind, -share.rows, share.task))


def extremes(accepted: "pa.Table", sources: Sequence[Source]) -> list[Extreme]:
    """Returns the rows at the end of each measure, the worst first. Rows without what is measured are none."""
    from pyarrow import compute

    rows = []
    for measures, order in ((_MOST, "descending"), (_LEAST, "ascending")):
        for measure, words in measures.items():
            some = accepted.filter(compute.fill_null(compute.greater(accepted[measure], 0), False))
            # Of equal ones the same each time.
            by = [(measure, order), ("digest", "ascending")]
            worst = some.take(compute.select_k_unstable(some, _SHOWN, by)) if len(some) else some
            rows += [
                Extreme(words, row[measure], row["digest"].hex(), sources[row["file"]].file, row["line"])
                for row in worst.select([measure, "digest", "file", "line"]).to_pylist()
            ]
    return rows


def _kinds(accepted: "pa.Table", sources: Sequence[Source]) -> "NDArray[np.str_]":
    """Returns the kind of each row."""
    import numpy as np

    kinds: NDArray[np.str_] = np.array([str(source.kind) for source in sources] or [""])
    places: NDArray[np.int32] = accepted["file"].to_numpy()
    return kinds[places]


def _distribution(kind: str, words: str, values: "NDArray[np.int32]") -> Distribution:
    import numpy as np

    # Each bin is as wide as what is below it: lengths are spread over orders of magnitude.
    place = np.ceil(np.log2(np.maximum(values, 1))).astype(int)
    counts = np.bincount(place)
    bins = [
        Bin(2 ** (number - 1) + 1 if number else 0, 2**number, int(counts[number]))
        for number in range(int(place.min()), len(counts))
    ]
    middle, most = np.percentile(values, [50, 95], method="inverted_cdf").tolist()
    mean = round(float(values.mean()), 1)
    return Distribution(kind, words, len(values), mean, int(middle), int(most), int(values.max()), bins)
