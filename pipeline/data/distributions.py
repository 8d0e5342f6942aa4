"""How long accepted rows are: each length's distribution, for the data card."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.data.records import Bin, Distribution
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


def of(accepted: "pa.Table", sources: Sequence[Source]) -> list[Distribution]:
    """Returns the distributions of the lengths of accepted rows, by kind of row; those that were not measured are left
    out."""
    import numpy as np

    kinds = np.array([str(source.kind) for source in sources] or [""])[accepted["file"].to_numpy()]
    distributions = []
    for kind in sorted(set(kinds.tolist())):
        rows = accepted.filter(kinds == kind)
        for measure, words in _MEASURES.items():
            values = rows[measure].drop_null().to_numpy()
            if len(values):
                distributions.append(_distribution(kind, words, values))
    return distributions


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
