"""Class ids per pixel in the ways that data sets write them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.scoring.files import write_npy, write_png
from ubertrain.annotation.palette import class_colours
from ubertrain.data.images import read_ids
from ubertrain.errors import DataError
from ubertrain.scoring.id_maps import CITYSCAPES, read_map


def test_ids_are_taken_as_they_are(tmp_path: Path) -> None:
    """Of 8 and of 16 bits, and of .npy; those to be ignored are unknown."""
    for path in (
        write_png(tmp_path / "a.png", [[0, 7, 255]]),
        write_png(tmp_path / "b.png", [[0, 7, 255]], np.uint16),
        write_npy(tmp_path / "c.npy", np.array([[0, 7, 255]])),
    ):
        assert read_map(path, "ids", (255,)).tolist() == [[0, 7, -1]]
    assert read_map(write_png(tmp_path / "d.png", [[0, 7, 300]], np.uint16), "ids", (7, 255)).tolist() == [[0, -1, 300]]


def test_ids_from_1_leave_0_for_the_unknown(tmp_path: Path) -> None:
    """The first class is stored as 1."""
    assert read_map(write_png(tmp_path / "a.png", [[0, 1, 150]]), "ids_from_1", (255,)).tolist() == [[-1, 0, 149]]


def test_cityscapes_counts_19_of_its_labels(tmp_path: Path) -> None:
    """Label ids become train ids by the published table; the others are unknown, licence plates among them."""
    stored = write_npy(tmp_path / "a.npy", np.arange(-1, 34)[None])
    expected = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
                28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
    assert read_map(stored, "cityscapes", (255,)).tolist() == [[expected.get(label, -1) for label in range(-1, 34)]]
    assert len(CITYSCAPES) == 19
    assert (CITYSCAPES[0], CITYSCAPES[13], CITYSCAPES[18]) == ("road", "car", "bicycle")


def test_colours_are_those_of_the_palette(tmp_path: Path) -> None:
    """Every one of the 255 classes comes back from its colour, and so does the unknown."""
    ids = np.arange(256).reshape(16, 16)
    path = write_png(tmp_path / "a.png", class_colours(ids))
    assert read_map(path, "voc_colours", ()).tolist() == np.where(ids == 255, -1, ids).tolist()


def test_published_colours_are_read(data_root: Path) -> None:
    """PASCAL-Context in colours: three real files hold classes of the 59 and the background, and nothing else."""
    files = sorted((data_root / "PASCAL-Context" / "SegmentationColour").glob("*.png"))
    classes = torch.cat([read_map(file, "voc_colours", ()).flatten() for file in files])
    assert -1 <= int(classes.min()) <= int(classes.max()) < 60
    assert len(classes.unique()) > 10


def test_published_palette_and_its_colours_agree(data_root: Path, tmp_path: Path) -> None:
    """A VOC mask converted to RGB by its own palette gives the ids it holds."""
    file = sorted((data_root / "VOCdevkit" / "VOC2012" / "SegmentationClass").glob("*.png"))[0]
    with Image.open(file) as image:
        image.convert("RGB").save(tmp_path / "rgb.png")
    assert torch.equal(read_map(tmp_path / "rgb.png", "voc_colours", ()), read_map(file, "ids", (255,)))
    assert (read_ids(file) == 255).any()


@pytest.mark.parametrize(
    ("values", "encoding", "message"),
    [
        (np.full((2, 2, 3), 77, np.uint8), "voc_colours", "colour 77 77 77 is not in VOC's palette"),
        (np.full((2, 2, 3), 77, np.uint8), "ids", "one class id per pixel is expected"),
        (np.full((2, 2), 77, np.uint8), "cityscapes", "id 77 is no label id of Cityscapes"),
        (np.full((2, 2), 7, np.uint8), "voc_colours", "where RGB"),
    ],
)
def test_files_of_another_encoding_are_refused(tmp_path: Path, values: np.ndarray, encoding: str, message: str) -> None:
    """The message names the file and what it holds."""
    path = write_png(tmp_path / "map.png", values)
    with pytest.raises(DataError, match=rf"map.png: [^/]*{message}"):
        read_map(path, encoding, (255,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.5, 1.0]]), "holds numbers that are no class ids"),
        (np.array([[np.inf, 1.0]]), "holds numbers that are no class ids"),
        (np.zeros((2, 3, 4)), "has shape"),
    ],
)
def test_arrays_that_are_no_map_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    """Scores instead of ids, or too many dimensions."""
    path = write_npy(tmp_path / "map.npy", values)
    with pytest.raises(DataError, match=rf"map.npy: {message}"):
        read_map(path, "ids", (255,))
