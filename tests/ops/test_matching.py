"""One-to-one matching against every assignment there is, and against a slow maximal one."""

import numpy as np
import pytest

from ubertrain.ops.matching import matched


def _most_pairs(first: np.ndarray, second: np.ndarray, radius: float) -> int:
    """The size of the greatest matching, by augmenting one pixel at a time (Kuhn's algorithm)."""
    left, right = np.argwhere(first), np.argwhere(second)
    near = ((left[:, None] - right) ** 2).sum(axis=-1) <= radius**2
    mate: dict[int, int] = {}

    def place(i: int, seen: set[int]) -> bool:
        for j in np.flatnonzero(near[i]):
            if j not in seen:
                seen.add(j)
                if j not in mate or place(mate[j], seen):
                    mate[j] = i
                    return True
        return False

    return sum(place(i, set()) for i in range(len(left)))


def _noise(shape: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize("radius", [0, 1, 1.5, 2.3, 4])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_there_are_as_many_pairs_as_there_can_be(radius: float, share: float) -> None:
    """For sparse and for crowded maps, of which several are matched at once with one drawing."""
    maps, drawn = _noise((4, 13, 16), share, 1), _noise((13, 16), 0.25, 2)
    hits = matched(maps, drawn, radius)
    assert not (hits & ~maps).any()
    assert hits.sum(axis=(1, 2)).tolist() == [_most_pairs(one, drawn, radius) for one in maps]


def test_a_pixel_has_one_partner_only() -> None:
    """Three predictions beside one drawn pixel: one of them is right."""
    maps, drawn = np.zeros((1, 5, 5), bool), np.zeros((5, 5), bool)
    maps[0, 1:4, 1], drawn[2, 2] = True, True
    hits = matched(maps, drawn, 2)
    assert hits.sum() == 1 and hits[0, 2, 1]  # the nearest


def test_near_pairs_are_given_up_where_that_makes_more_pairs() -> None:
    """The middle one of three moves on, so that the first finds a partner: a path of length five."""
    maps, drawn = np.zeros((1, 1, 12), bool), np.zeros((1, 12), bool)
    maps[0, 0, [0, 3, 6]] = True
    drawn[0, [2, 5, 8]] = True  # greedily 3-2 and 6-5, and nothing within 2 for the first
    assert matched(maps, drawn, 2).all(where=maps)


@pytest.mark.parametrize(("shift", "found"), [(4, 1.0), (5, 0.0)])
def test_pairs_are_made_up_to_the_radius(shift: int, found: float) -> None:
    """A line beside its drawing."""
    maps, drawn = np.zeros((1, 20, 30), bool), np.zeros((20, 30), bool)
    maps[0, 5 + shift], drawn[5] = True, True
    assert matched(maps, drawn, 4.3).sum() == found * 30


def test_maps_do_not_meet_and_their_number_does_not_matter() -> None:
    """Each is matched as it would be alone, also where they are too many to be matched together."""
    maps, drawn = _noise((40, 60, 80), 0.3, 3), _noise((60, 80), 0.2, 4)
    maps[7] = False
    together = matched(maps, drawn, 6.5)
    assert (together == np.concatenate([matched(one[None], drawn, 6.5) for one in maps])).all()


@pytest.mark.parametrize(("maps", "drawn"), [((3, 4, 5), 0.0), ((3, 4, 5), 1.0), ((0, 4, 5), 1.0)])
def test_nothing_to_match_is_no_pair(maps: tuple[int, ...], drawn: float) -> None:
    """Empty drawings, empty maps, no maps."""
    given = np.zeros(maps, bool) if drawn else np.ones(maps, bool)
    assert not matched(given, np.full(maps[1:], bool(drawn)), 2).any()
