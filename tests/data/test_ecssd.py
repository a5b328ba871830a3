"""ECSSD, real files, and masks as other sets keep them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.stubs import cut_short, picture
from ubertrain.data.ecssd import ECSSD
from ubertrain.data.inventory import count
from ubertrain.errors import DataError


def _mask(path: Path, values: list[list[int]], mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).convert(mode).save(path)
    return path


def test_every_image_is_labelled(data_root: Path) -> None:
    """All can be read and carry a mask."""
    found = count(ECSSD(str(data_root / "ECSSD")))
    assert (found.images, found.labels, found.unlabelled, found.faults) == (105, {"saliency": 105}, (), ())


def test_white_is_salient(data_root: Path) -> None:
    """Where the PNG has 255, and there alone."""
    reader = ECSSD(str(data_root / "ECSSD"), take=":1")
    sample = reader.read(0)
    stored = np.array(Image.open(data_root / f"ECSSD/ground_truth_mask/{sample.id}.png"))
    assert torch.equal(sample.annotations["saliency"], torch.from_numpy(stored == 255).long())
    assert 0 < sample.annotations["saliency"].float().mean() < 1


def test_training_and_validation_divide_the_set(data_root: Path) -> None:
    """With `drop` here and `take` there nothing is shared and nothing lost."""
    root = str(data_root / "ECSSD")
    train, val = ECSSD(root, drop="::4"), ECSSD(root, take="::4")
    assert not set(train.ids) & set(val.ids)
    assert len(train) + len(val) == 105


def test_folders_may_have_other_names(tmp_path: Path) -> None:
    """As in DUTS; an image without a mask is not labelled, one whose mask is black shows nothing salient."""
    for name in ("a", "b", "c"):
        picture(tmp_path / f"DUTS-TR-Image/{name}.jpg", (2, 3))
    _mask(tmp_path / "DUTS-TR-Mask/a.png", [[0, 127, 128], [255, 254, 0]])
    _mask(tmp_path / "DUTS-TR-Mask/b.png", [[0, 0, 0], [0, 0, 0]])
    reader = ECSSD(str(tmp_path), images="DUTS-TR-Image", masks="DUTS-TR-Mask")
    marked, black, missing = (reader.read(index).annotations for index in range(3))
    assert marked["saliency"].tolist() == [[0, 0, 1], [1, 1, 0]]
    assert not black["saliency"].any()
    assert missing == {}


def test_damaged_masks_name_set_sample_and_file(data_root: Path, tmp_path: Path) -> None:
    """A truncated one, and one of another size."""
    for name in ("cut", "other"):
        picture(tmp_path / f"images/{name}.jpg", (4, 4))
    whole = next((data_root / "ECSSD" / "ground_truth_mask").glob("*.png"))
    cut_short(whole, tmp_path / "ground_truth_mask/cut.png")
    _mask(tmp_path / "ground_truth_mask/other.png", [[0, 255]])
    reader = ECSSD(str(tmp_path))
    with pytest.raises(DataError, match=r"ecssd, sample 'cut': .*cut.png: cannot be decoded .* on_error: skip"):
        reader.read(0)
    with pytest.raises(DataError, match=r"sample 'other': .*other.png: class map must have shape \(4, 4\).*got \(1, 2\)"):
        reader.read(1)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The one that is missing, and what it should hold."""
    picture(tmp_path / "images/a.jpg")
    with pytest.raises(DataError, match=r"there is no folder .*/ground_truth_mask; it should hold the masks, as PNG"):
        ECSSD(str(tmp_path))
