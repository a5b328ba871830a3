"""Legends: they stand in a corner, fit, and leave the rest of the picture alone."""

import numpy as np
import pytest

from ubertrain.annotation.class_map import ClassMap
from ubertrain.annotation.legend import legend
from ubertrain.annotation.palette import class_colour

ENTRIES = [(name, class_colour(index)) for index, name in enumerate(["sky", "road", "a very long name of a class", "dog"], 1)]


def _has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=-1).any())


def test_every_entry_is_there_with_its_colour() -> None:
    """In the lower left corner, on at most half of each side; the given picture is not written to."""
    picture = np.full((120, 200, 3), 77, np.uint8)
    drawn = legend(picture, ENTRIES)
    assert all(_has(drawn[60:, :100], colour) for _, colour in ENTRIES)
    assert (drawn[:60] == 77).all() and (drawn[:, 100:] == 77).all() and (picture == 77).all()


def test_what_does_not_fit_is_counted() -> None:
    """A low picture has room for the first ones."""
    drawn = legend(np.zeros((64, 200, 3), np.uint8), ENTRIES)
    assert [_has(drawn, colour) for _, colour in ENTRIES] == [True, False, False, False]


def test_a_legend_takes_the_same_share_of_a_photo_of_any_size() -> None:
    """So that it can be read on a copy that was made smaller."""
    shares = []
    for factor in (1, 5):
        drawn = legend(np.full((480 * factor, 320 * factor, 3), 77, np.uint8), ENTRIES)
        rows, columns = np.nonzero((drawn != 77).any(axis=-1))
        shares.append(((480 * factor - rows.min()) / factor, (columns.max() + 1) / factor))
    assert shares[0] == pytest.approx(shares[1], rel=0.03)


@pytest.mark.parametrize("size", [(200, 40), (20, 200), (1, 1)])
def test_where_there_is_no_room_nothing_is_written(size: tuple[int, int]) -> None:
    """The picture is the given one."""
    picture = np.zeros((*size, 3), np.uint8)
    assert np.array_equal(legend(picture, ENTRIES), picture)


def test_a_class_map_names_the_classes_that_it_shows() -> None:
    """And no others; neither unknown pixels nor ids without a name."""
    ids = np.full((120, 200), 255)
    ids[:50], ids[50:60, 0] = 2, 9
    drawn = ClassMap.draw_named(np.zeros((120, 200, 3), np.uint8), ids, ["a", "b", "c"])
    assert _has(drawn[100:, :20], class_colour(2))
    assert not _has(drawn, class_colour(1)) and not _has(drawn, class_colour(9))
