"""The order of images in a batch, so that the rows of one task lie side by side.

A task then reads its rows as a view of the shared features; rows that are scattered have to be copied.
"""

from collections.abc import Collection, Sequence
from functools import lru_cache

_EXACT = 8
"""Most label sets that are ordered exactly; the work doubles and more with each."""


def row_order(labels: Sequence[Collection[str]]) -> list[int]:
    """The positions of the images, reordered.

    Images with equal labels stay together, in the order in which they came. The label sets are ordered so that the number of
    runs of labelled rows, summed over the labels, is the smallest there is (up to eight different sets; beyond that each set
    is put where it adds the fewest). The result depends on `labels` alone.

    Args:
        labels: for each image, the labels it carries.
    """
    signatures = [tuple(sorted(names)) for names in labels]
    groups = tuple(sorted(set(signatures)))
    order = (_best if len(groups) <= _EXACT else _greedy)(groups)
    return [position for group in order for position, signature in enumerate(signatures) if signature == group]


@lru_cache(maxsize=256)
def _best(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """The order with the fewest runs, the first such in lexical order (Held and Karp 1962, over sets of groups placed).

    Runs are counted where they begin: a group begins a run of each label that the group before it lacks.
    """
    paths: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {(0, -1): (0, ())}
    for _ in groups:
        longer: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}
        for (placed, last), (runs, path) in paths.items():
            for i, group in enumerate(groups):
                if not placed >> i & 1:
                    begun = len(set(group) - set(groups[last] if path else ()))
                    key = (placed | 1 << i, i)
                    longer[key] = min(longer.get(key, (runs + begun, (*path, i))), (runs + begun, (*path, i)))
        paths = longer
    return tuple(groups[i] for i in min(paths.values())[1])


@lru_cache(maxsize=256)
def _greedy(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Each group in turn, those with the most labels first, where it adds the fewest runs."""
    order: tuple[tuple[str, ...], ...] = ()
    for group in sorted(groups, key=len, reverse=True):
        order = min(((*order[:i], group, *order[i:]) for i in range(len(order) + 1)), key=count_runs)
    return order


def count_runs(order: Sequence[Collection[str]]) -> int:
    """How many runs of labelled rows there are, summed over the labels, if images with these labels follow each other."""
    return sum(len(set(group) - set(before)) for before, group in zip(((), *order), order, strict=False))
