"""What hangs together: groups that are closed under pairs."""

from collections.abc import Iterable


def components(size: int, linked: Iterable[tuple[int, int]]) -> list[int]:
    """Returns for each of `size` places the first place of its component, which is its own where it is linked to
    none. The order of the pairs does not count."""
    first = list(range(size))

    def root(place: int) -> int:
        while first[place] != place:
            first[place] = first[first[place]]
            place = first[place]
        return place

    for one, other in linked:
        roots = sorted((root(one), root(other)))
        first[roots[1]] = roots[0]
    return [root(place) for place in range(size)]
