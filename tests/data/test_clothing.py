"""Clothing Co-Parsing, real files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.stubs import cut_short, picture
from ubertrain.data.clothing import ClothingCoParsing
from ubertrain.data.inventory import count
from ubertrain.errors import ConfigError, DataError

io = pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")


@pytest.fixture
def root(data_root: Path) -> Path:
    """The folder of the set."""
    return data_root / "clothing-co-parsing"


@pytest.fixture
def broken(root: Path, tmp_path: Path) -> Path:
    """A set of the real names with five photographs and labels that are wrong in four ways; the last has none."""
    for name in ("cut", "fraction", "strange", "size", "none"):
        picture(tmp_path / f"photos/{name}.jpg", (2, 2))
    shutil.copy(root / "label_list.mat", tmp_path)
    truth = tmp_path / "annotations/pixel-level"
    cut_short(next((root / "annotations/pixel-level").glob("*.mat")), truth / "cut.mat")
    io.savemat(truth / "fraction.mat", {"groundtruth": np.full((2, 2), 0.5)})
    io.savemat(truth / "strange.mat", {"groundtruth": np.array([[0, 59], [1, 2]], np.uint8)})
    io.savemat(truth / "size.mat", {"groundtruth": np.zeros((3, 2), np.uint8)})
    return tmp_path


def test_every_image_is_labelled(root: Path) -> None:
    """All can be read and carry parts."""
    found = count(ClothingCoParsing(str(root)))
    assert (found.images, found.labels, found.unlabelled, found.faults) == (75, {"parts": 75}, (), ())


def test_ids_are_those_of_the_file(root: Path) -> None:
    """With all classes kept; the first is the background, called so and not null."""
    reader = ClothingCoParsing(str(root), take=":1")
    sample = reader.read(0)
    stored = io.loadmat(root / f"annotations/pixel-level/{sample.id}.mat")["groundtruth"]
    assert torch.equal(sample.annotations["parts"], torch.from_numpy(stored).long())
    names = reader.classes["parts"]
    assert (len(names), names[0], names[19], names[41], names[58]) == (59, "background", "hair", "skin", "wedges")


def test_groups_join_classes(root: Path) -> None:
    """What is named becomes one class, the rest another; both halves of the picture agree pixel by pixel."""
    wanted = {"background": ["background"], "head": ["hair", "hat"], "skin": ["skin"]}
    whole, grouped = ClothingCoParsing(str(root), take=":1"), ClothingCoParsing(str(root), class_map=wanted, take=":1")
    ids = whole.read(0).annotations["parts"]
    expected = torch.full_like(ids, 255)
    for new, old in ((0, 0), (1, 19), (1, 20), (2, 41)):
        expected[ids == old] = new
    assert grouped.classes["parts"] == ("background", "head", "skin")
    assert torch.equal(grouped.read(0).annotations["parts"], expected)
    rest = ClothingCoParsing(str(root), class_map={"skin": ["skin"]}, rest="background", take=":1")
    assert rest.classes["parts"] == ("background", "skin")
    assert torch.equal(rest.read(0).annotations["parts"], (ids == 41).long())


def test_a_class_that_there_is_not_is_explained(root: Path) -> None:
    """With a near match."""
    with pytest.raises(ConfigError, match="clothing_co_parsing, class_map: no class 'jeens'; did you mean 'jeans'"):
        ClothingCoParsing(str(root), class_map={"legs": ["jeens"]})


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("cut", r"cut.mat: cannot be read as a MATLAB file"),
        ("fraction", r"fraction.mat: its groundtruth is not a table of whole numbers"),
        ("strange", r"strange.mat: has class ids from 0 to 59; .*label_list.mat names 59"),
        ("size", r"size.mat: class map must have shape \(2, 2\).*got \(3, 2\)"),
    ],
)
def test_damaged_labels_name_set_sample_and_file(broken: Path, sample: str, message: str) -> None:
    """And what is wrong with them."""
    reader = ClothingCoParsing(str(broken))
    with pytest.raises(DataError, match=f"clothing_co_parsing, sample '{sample}': .*{message}"):
        reader.read(reader.ids.index(sample))


def test_a_photograph_without_labels_has_none(broken: Path) -> None:
    """As most of the set's photographs."""
    reader = ClothingCoParsing(str(broken))
    assert reader.read(reader.ids.index("none")).annotations == {}
    assert "none" not in ClothingCoParsing(str(broken), labels=["parts"]).ids


def test_without_names_there_is_no_set(broken: Path) -> None:
    """A missing list and one of numbers are named."""
    io.savemat(broken / "label_list.mat", {"label_list": np.arange(3)})
    with pytest.raises(DataError, match=r"label_list.mat: its label_list is not a row of names"):
        ClothingCoParsing(str(broken))
    (broken / "label_list.mat").unlink()
    with pytest.raises(DataError, match=r"label_list.mat: there is no such file"):
        ClothingCoParsing(str(broken))
