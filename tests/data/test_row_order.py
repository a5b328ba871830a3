"""The order of rows, against trying all orders."""

import random
from itertools import permutations

import pytest

from ubertrain.data.row_order import count_runs, row_order


def batch(seed: int, sets: int, size: int) -> list[frozenset[str]]:
    """Images with labels from a few random sets of labels."""
    chance = random.Random(seed)
    kinds = [frozenset(chance.sample("abcde", chance.randint(1, 4))) for _ in range(sets)]
    return [chance.choice(kinds) for _ in range(size)]


@pytest.mark.parametrize("seed", range(30))
def test_runs_are_as_few_as_can_be(seed: int) -> None:
    """No order of the images has fewer runs of labelled rows."""
    labels = batch(seed, sets=6, size=16)
    fewest = min(count_runs(order) for order in permutations(set(labels)))
    assert count_runs([labels[row] for row in row_order(labels)]) == fewest


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        ([], []),
        (["a", "b", "a", "b"], [0, 2, 1, 3]),
        (["a", "c", "ab", "b"], [0, 2, 3, 1]),
        (["b", "", "b"], [1, 0, 2]),
        (["ba", "ab", "ab"], [0, 1, 2]),
    ],
)
def test_known_orders(labels: list[str], order: list[int]) -> None:
    """Equal sets stay together in the order they came; overlapping sets lie side by side."""
    assert row_order(labels) == order


@pytest.mark.parametrize("sets", [5, 14])
def test_the_order_is_a_function_of_the_labels(sets: int) -> None:
    """A permutation, the same for the same labels however they are held, and the same sets of rows for shuffled images."""
    labels = batch(1, sets=sets, size=40)
    order = row_order(labels)
    assert sorted(order) == list(range(40))
    assert order == row_order([sorted(names, reverse=True) for names in labels])
    shuffled = random.Random(2).sample(labels, 40)
    assert [shuffled[row] for row in row_order(shuffled)] == [labels[row] for row in order]


@pytest.mark.parametrize("seed", range(10))
def test_many_sets_are_ordered_better_than_they_came(seed: int) -> None:
    """Beyond the exact search the order has fewer runs than sorting alone gives."""
    labels = batch(seed, sets=14, size=60)
    by_name = sorted(labels, key=sorted)
    assert count_runs([labels[row] for row in row_order(labels)]) < count_runs(by_name)
