"""Verdicts: rows held against the rules, a column of measures at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.data.catalog import Waived
from pipeline.data.reports import RuleReport
from pipeline.data.rules import Rule

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Verdicts:
    """What the rules say of rows, by their places."""

    rejected: Mapping[int, Rule]  # by the first rule in the table that each breaks and that nobody has waived for it
    warned: Sequence[tuple[int, Rule]]
    reports: Sequence[RuleReport]

    @property
    def breaches(self) -> list[tuple[int, Rule]]:
        """Returns what findings are to be made of."""
        return [*self.rejected.items(), *self.warned]


def judge(
    table: Sequence[Rule], columns: "Mapping[str, pa.ChunkedArray]", digests: Sequence[str | None], waived: Waived
) -> Verdicts:
    """Returns the verdicts on the rows with these measures; `digests` are None for rows that could not be read."""
    rejected: dict[int, Rule] = {}
    warned: list[tuple[int, Rule]] = []
    reports = []
    for rule in table:
        places = broken(rule, columns[rule.measure]).tolist()
        reports.append(RuleReport(rule.name, rule.severity, rule.measure, len(digests), len(places)))
        for place in places:
            if rule.severity == "warning":
                warned.append((place, rule))
            elif not (rule.may_be_waived and (rule.name, digests[place]) in waived):
                rejected.setdefault(place, rule)
    return Verdicts(
        dict(sorted(rejected.items(), key=lambda breach: breach[0])),
        [(place, rule) for place, rule in warned if place not in rejected],
        reports,
    )


def broken(rule: Rule, column: "pa.ChunkedArray") -> "NDArray[np.int64]":
    """Returns the places at which a column breaks a rule, in their order. Each value is looked at once, however many
    rows have it."""
    import numpy as np

    encoded = column.combine_chunks().dictionary_encode()
    breaks = np.array([not rule.test.holds(value) for value in encoded.dictionary.to_pylist()], dtype=bool)
    if not breaks.any():
        return np.empty(0, dtype=np.int64)
    # None passes every rule: what is not known is another rule's to say.
    places = encoded.indices.fill_null(len(breaks)).to_numpy(zero_copy_only=False)
    return np.flatnonzero(np.append(breaks, False)[places])
