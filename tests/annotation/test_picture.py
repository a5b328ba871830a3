import numpy as np
import pytest

from ubertrain.annotation.picture import Tile, blend, contact_sheet


def plain(height: int, width: int, value: int) -> np.ndarray:
    """A picture of one colour, which is not grey, as letters and papers are."""
    return np.full((height, width, 3), (value, 0, value), np.uint8)


def boxes_of(sheet: np.ndarray, value: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the pixels that `plain(..., value)` has."""
    rows, columns = np.nonzero((sheet == (value, 0, value)).all(axis=-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_every_picture_is_shown_whole() -> None:
    """Each picture stands in the sheet with all its pixels and does not touch another."""
    sheet = contact_sheet([[("one", plain(20, 30, 101)), ("two", plain(20, 50, 102))], [("three", plain(10, 40, 103))]])
    assert sheet.dtype == np.uint8
    for value, area in ((101, 600), (102, 1000), (103, 400)):
        assert (sheet == (value, 0, value)).all(axis=-1).sum() == area


def test_columns_are_aligned() -> None:
    """Pictures of one column start at the same place, whatever their sizes; later rows are lower."""
    first = [("", plain(20, 30, 101)), ("", plain(20, 50, 102))]
    sheet = contact_sheet([first, [("", plain(10, 70, 103)), ("", plain(9, 9, 104))]])
    one, two, three, four = (boxes_of(sheet, value) for value in (101, 102, 103, 104))
    assert one[2] == three[2]
    assert two[2] == four[2] >= three[3]
    assert one[0] == two[0] < one[1] < three[0] == four[0]


def test_an_absent_picture_is_a_grey_field_of_the_size_of_its_neighbours() -> None:
    """What an image is not labelled with leaves a visible gap of the right size, and no crash."""
    labelled = [Tile("", plain(20, 30, 102)), Tile("", plain(20, 30, 103))]
    sheet = contact_sheet([[Tile("", plain(20, 30, 101)), Tile("", None)], labelled])
    rows, columns = np.nonzero((sheet != 255).all(axis=-1) & (sheet != 0).all(axis=-1))
    assert (rows.min(), rows.max() + 1) == boxes_of(sheet, 101)[:2]
    assert (columns.min(), columns.max() + 1) == boxes_of(sheet, 103)[2:]


@pytest.mark.parametrize("title", ["", "a title much longer than the picture below it is wide"])
def test_titles_stay_above_their_own_picture(title: str) -> None:
    """A long title is cut, so that it never runs into the next column."""
    sheet = contact_sheet([[(title, plain(20, 60, 101)), ("", plain(20, 60, 102))]])
    neighbour = boxes_of(sheet, 102)
    assert (sheet[: neighbour[0], neighbour[2] :] == 255).all()
    assert (sheet[: neighbour[0], : neighbour[2]] != 255).any() == bool(title)


def test_blend_lies_between_the_picture_and_the_colours() -> None:
    """Strength 0 is the greyed image, strength 1 the colours."""
    image, colours = plain(2, 2, 100), plain(2, 2, 200)
    assert [int(blend(image, colours, strength)[0, 0, 0]) for strength in (0.0, 0.5, 1.0)] == [66, 133, 200]
