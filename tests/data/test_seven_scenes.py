"""7-Scenes, real files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.stubs import picture
from ubertrain.data.inventory import count
from ubertrain.data.seven_scenes import SevenScenes
from ubertrain.errors import DataError


def reader(data_root: Path, **keywords: object) -> SevenScenes:
    """The kitchen."""
    return SevenScenes(str(data_root / "7scenes-redkitchen"), **keywords)


def test_some_frames_have_normals(data_root: Path) -> None:
    """Depth is everywhere; the frames without normals do not carry them."""
    found = count(reader(data_root, take="::5"))
    assert (found.images, found.labels) == (14, {"depth": 14, "normals": 7})


def test_without_normals_none_are_offered(tmp_path: Path) -> None:
    """A task cannot be promised a label that no frame has."""
    picture(tmp_path / "data/frame-000001.color.jpg")
    assert set(SevenScenes(str(tmp_path)).kinds) == {"depth"}


def test_depth_is_metres(data_root: Path) -> None:
    """Millimetres become metres, what was not measured is 0, and labels have the image's size."""
    sample = reader(data_root).read(0)
    depth = sample.annotations["depth"]
    with Image.open(data_root / "7scenes-redkitchen/data/frame-000000.depth.png") as stored:
        millimetres = torch.from_numpy(np.array(stored).astype(np.float32))
    assert depth.shape == sample.image.shape[1:] == (480, 640)
    assert 0.03 < (depth == 0).float().mean() < 0.15
    assert torch.equal((depth * 1000).round(), torch.where(millimetres == 65535, 0, millimetres))


def test_normals_are_those_of_the_depth(data_root: Path) -> None:
    """Normals derived here from depth by central differences agree: same axes, same signs, same place."""
    sample = reader(data_root, labels=["normals", "depth"]).read(0)
    depth, normals = sample.annotations["depth"], sample.annotations["normals"]
    rows, columns = torch.meshgrid(torch.arange(480) + 0.5, torch.arange(640) + 0.5, indexing="ij")
    points = torch.stack([(columns - 320) / 585 * depth, (rows - 240) / 585 * depth, depth])
    right = points[:, 8:-8, 16:] - points[:, 8:-8, :-16]
    down = points[:, 16:, 8:-8] - points[:, :-16, 8:-8]
    expected = torch.nn.functional.normalize(torch.linalg.cross(down, right, dim=0), dim=0)
    cosine = (expected * normals[:, 8:-8, 8:-8]).sum(dim=0)[(normals != 0).any(dim=0)[8:-8, 8:-8]]
    assert torch.rad2deg(cosine.clamp(-1, 1).acos()).median() < 10


def test_splits_by_frame_number(data_root: Path) -> None:
    """A range of frame numbers keeps frames inside it, and two ranges divide the set."""
    early, late = reader(data_root, frames=":400"), reader(data_root, frames="400:")
    assert len(early) + len(late) == 70
    assert max(early.ids) < "frame-000400" <= min(late.ids)


def test_what_is_not_there_is_explained(tmp_path: Path, data_root: Path) -> None:
    """An empty range of frames, an empty folder and a missing one say so."""
    with pytest.raises(DataError, match="none of the frames in .*data is in frames: '5000:'"):
        reader(data_root, frames="5000:")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="seven_scenes: .*/data lists 0 of 0 images"):
        SevenScenes(str(tmp_path))
    with pytest.raises(DataError, match="no folder .*/seq-07; it should hold the frames of 7-Scenes"):
        SevenScenes(str(tmp_path), "seq-07")


def test_a_depth_map_of_another_type_is_named(tmp_path: Path) -> None:
    """8-bit depth, which is a picture of depth and no measurement, names set, sample and file."""
    picture(tmp_path / "data/frame-000001.color.jpg")
    picture(tmp_path / "data/frame-000001.depth.png")
    with pytest.raises(DataError, match=r"seven_scenes, sample 'frame-000001': .*depth.png: pixels of type RGB, where a"):
        SevenScenes(str(tmp_path)).read(0)
