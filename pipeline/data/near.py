"""Near duplicates: rows that say almost the same. Candidates by MinHash (rensa), each pair verified by its sets.

Two rows are near where the Jaccard similarity of their runs of three words is at least THRESHOLD. A row's sketch is 128
slots in 32 bands, of which 32 bits of a hash are kept each. Of pairs at the threshold, one in a hundred thousand has
fewer than three bands alike and is missed.

Source: Broder, "On the resemblance and containment of documents" (1997).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from pipeline.data.layouts import Content
from pipeline.data.splits import normalised, question

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

THRESHOLD = 0.8
BANDS = 32
SKETCH = 4 * BANDS  # bytes
_WORDS = 3  # of a run
_SLOTS = 128
_SEED = 20261126
_BATCH = 1_000
_LIKELY = 3  # bands that a pair has alike before its sets are compared
_FEW = 8  # rows alike in a band of which each is a pair with each; of more, with the first and the next
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5)  # odd: no slot is lost


def text(content: Content) -> str:
    """Returns what of a row is compared: what was asked and said in it. Passages that stand before a question are the
    documents', and no part of it."""
    turns = [turn for part in content.values() for turn in part if turn["role"] != "system"]
    return "\n".join(question(turn["content"]) if turn["role"] == "user" else turn["content"] for turn in turns)


def sketches(texts: Sequence[str]) -> list[bytes | None]:
    """Returns the sketch of each text, SKETCH bytes; None for one without words, which is near to none."""
    import numpy as np
    import rensa

    if not texts:
        return []
    sets = [list(runs(each)) for each in texts]
    slots = np.array(rensa.RMinHash.digest_matrix_from_token_sets(sets, _SLOTS, _SEED).to_rows(), dtype=np.uint64)
    parts = slots.reshape(len(texts), BANDS, _SLOTS // BANDS)
    mixed = np.zeros((len(texts), BANDS), dtype=np.uint64)
    for place, factor in enumerate(_MIX):
        mixed = (mixed ^ parts[:, :, place]) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(29)
    bands = (mixed >> np.uint64(32)).astype("<u4")
    return [bands[place].tobytes() if of else None for place, of in enumerate(sets)]


def among(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the places of the near pairs of texts; see `pairs`."""
    import pyarrow as pa

    batches = [texts[begin : begin + _BATCH] for begin in range(0, len(texts), _BATCH)]
    sketched = pa.chunked_array([pa.array(sketches(batch), pa.binary(SKETCH)) for batch in batches], pa.binary(SKETCH))
    return list(pairs(sketched, texts.__getitem__))


def pairs(
    sketched: "pa.ChunkedArray", text_of: Callable[[int], str], fresh: "NDArray[np.bool_] | None" = None
) -> Iterator[tuple[int, int]]:
    """Yields the places of near pairs, the earlier one first, in their order. `sketched` are the rows' sketches, null
    for rows without words, `text_of` returns the text of a place; only pairs with a `fresh` one are looked at, where
    that is given.

    Of rows that are many times alike some pairs are left out, and none of them is left alone.
    """
    import numpy as np

    @lru_cache(maxsize=10_000)
    def runs_of(place: int) -> frozenset[str]:
        return runs(text_of(place))

    places = np.flatnonzero(sketched.is_valid().to_numpy())
    bands = np.frombuffer(b"".join(sketched.drop_null().to_pylist()), dtype="<u4").reshape(-1, BANDS)
    first, second = _candidates(bands, None if fresh is None else fresh[places])
    for one, other in zip(places[first].tolist(), places[second].tolist(), strict=True):
        mine, theirs = runs_of(one), runs_of(other)
        if len(mine & theirs) >= THRESHOLD * len(mine | theirs):
            yield one, other


def beside(sketched: "pa.ChunkedArray", text_of: Callable[[int], str], others: Sequence[str]) -> Iterator[int]:
    """Yields the places of rows that are near to one of some other texts; `sketched` and `text_of` as for `pairs`."""
    import numpy as np

    known = [(sketch, runs(text)) for sketch, text in zip(sketches(others), others, strict=True) if sketch is not None]
    if not known:
        return
    theirs = np.frombuffer(b"".join(sketch for sketch, _ in known), dtype="<u4").reshape(-1, BANDS)
    places = np.flatnonzero(sketched.is_valid().to_numpy())
    mine = np.frombuffer(b"".join(sketched.drop_null().to_pylist()), dtype="<u4").reshape(-1, BANDS)
    alike = sum(np.isin(mine[:, band], theirs[:, band]) for band in range(BANDS))
    for row in np.flatnonzero(np.asarray(alike) >= _LIKELY):
        own = runs(text_of(int(places[row])))
        for other in np.flatnonzero((theirs == mine[row]).sum(axis=1) >= _LIKELY):
            both = known[other][1]
            if len(own & both) >= THRESHOLD * len(own | both):
                yield int(places[row])
                break


def _candidates(
    bands: "NDArray[np.uint32]", fresh: "NDArray[np.bool_] | None"
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Returns the pairs of rows that have _LIKELY bands alike, the earlier ones and the later ones."""
    import numpy as np

    rows = np.int64(max(len(bands), 1))
    codes = [np.empty(0, np.int64)]
    for number in range(BANDS):
        band = np.ascontiguousarray(bands[:, number])
        looked_at = np.arange(len(band)) if fresh is None else np.flatnonzero(np.isin(band, band[fresh]))
        one, other = (looked_at[places] for places in _alike(band[looked_at]))
        if fresh is not None:
            new = fresh[one] | fresh[other]
            one, other = one[new], other[new]
        codes.append(one * rows + other)
    coded, times = np.unique(np.concatenate(codes), return_counts=True)
    likely = coded[times >= _LIKELY]
    return likely // rows, likely % rows


def _alike(band: "NDArray[np.uint32]") -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Returns pairs of the rows that have the same value in a band."""
    import numpy as np

    if not len(band):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.argsort(band, kind="stable")
    values = band[order]
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    sizes = np.diff(np.append(starts, len(values)))
    # Only rows of groups with two or more; each by how far it stands in its group.
    within = np.arange(len(values)) - np.repeat(starts, sizes)
    size = np.repeat(sizes, sizes)
    begin = np.repeat(starts, sizes)
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for back in range(1, _FEW):
        later = np.flatnonzero((within >= back) & ((size <= _FEW) | (back == 1)))
        parts.append((later - back, later))
    many = np.flatnonzero((size > _FEW) & (within > 1))
    parts.append((begin[many], many))
    return order[np.concatenate([one for one, _ in parts])], order[np.concatenate([other for _, other in parts])]


def runs(text: str) -> frozenset[str]:
    """Returns the runs of three words of a text; of one with fewer, the words together."""
    words = normalised(text).split()
    if len(words) <= _WORDS:
        return frozenset([" ".join(words)] if words else [])
    return frozenset(map(" ".join, zip(*(words[start:] for start in range(_WORDS)), strict=False)))
