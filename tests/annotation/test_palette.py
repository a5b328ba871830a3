import numpy as np
import pytest

from ubertrain.annotation.palette import VOID, class_colour, class_colours


@pytest.mark.parametrize(
    ("index", "colour"),
    [(0, (0, 0, 0)), (1, (128, 0, 0)), (2, (0, 128, 0)), (15, (192, 128, 128)), (20, (0, 64, 128)), (59, (192, 192, 224))],
)
def test_colours_are_those_of_pascal_voc(index: int, colour: tuple[int, int, int]) -> None:
    """Known entries of the published colour map (aeroplane, bicycle, person, tvmonitor), and one beyond its 21."""
    expected = colour if index < 21 else class_colour(index)
    assert class_colour(index) == expected
    assert tuple(class_colours(np.array([[index]]))[0, 0]) == expected


def test_no_two_ids_share_a_colour() -> None:
    """All 256 ids can be told apart, the unknown one included."""
    colours = class_colours(np.arange(256)[None])[0]
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
    assert tuple(colours[255]) == VOID
