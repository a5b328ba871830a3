"""BSDS500, real files."""

from pathlib import Path

import pytest
import torch

from tests.data.stubs import cut_short, picture
from ubertrain.data.bsds import BSDS500
from ubertrain.data.inventory import count
from ubertrain.errors import DataError

io = pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")


@pytest.mark.parametrize(("split", "images"), [("train", 90), ("val", 24)])
def test_every_image_is_labelled(data_root: Path, split: str, images: int) -> None:
    """All images of a split can be read and carry edges."""
    found = count(BSDS500(str(data_root / "BSDS500"), split))
    assert (found.images, found.labels, found.unlabelled, found.faults) == (images, {"edges": images}, (), ())


@pytest.mark.parametrize("sample", ["100075", "104022"])
def test_every_annotator_has_a_plane(data_root: Path, sample: str) -> None:
    """The planes are the annotators' boundaries one by one, for wide and for high images."""
    reader = BSDS500(str(data_root / "BSDS500"))
    read = reader.read(reader.ids.index(sample))
    cells = io.loadmat(data_root / f"BSDS500/data/groundTruth/train/{sample}.mat")["groundTruth"]
    edges = read.annotations["edges"]
    assert len(edges) == cells.size
    assert edges.shape[1:] == read.image.shape[1:]
    for plane, cell in zip(edges, cells[0], strict=True):
        assert torch.equal(plane, torch.from_numpy(cell["Boundaries"][0, 0]))


def test_damaged_labels_name_set_sample_and_file(data_root: Path, tmp_path: Path) -> None:
    """A truncated and a foreign .mat name the set, the sample, the file and the way out."""
    truth = tmp_path / "data/groundTruth/train"
    for name in ("cut", "foreign"):
        picture(tmp_path / f"data/images/train/{name}.jpg")
    cut_short(data_root / "BSDS500/data/groundTruth/train/100075.mat", truth / "cut.mat")
    io.savemat(truth / "foreign.mat", {"groundTruth": [1, 2, 3]})
    reader = BSDS500(str(tmp_path))
    with pytest.raises(DataError, match=r"bsds500, sample 'cut': .*/cut.mat: cannot be read .* on_error: skip"):
        reader.read(0)
    with pytest.raises(DataError, match=r"sample 'foreign': .*foreign.mat: its groundTruth is not a row of structs"):
        reader.read(1)


def test_boundaries_of_another_size_are_refused(data_root: Path, tmp_path: Path) -> None:
    """A label that belongs to a larger image says both shapes."""
    picture(tmp_path / "data/images/train/100075.jpg")
    target = tmp_path / "data/groundTruth/train/100075.mat"
    target.parent.mkdir(parents=True)
    target.symlink_to(data_root / "BSDS500/data/groundTruth/train/100075.mat")
    with pytest.raises(DataError, match=r"100075.mat: edges must have shape \(any, 6, 8\).*got \(\d, \d+, \d+\)"):
        BSDS500(str(tmp_path)).read(0)


def test_an_image_without_mat_is_not_labelled(tmp_path: Path) -> None:
    """A missing file is a missing label, not one without boundaries."""
    picture(tmp_path / "data/images/train/a.jpg")
    assert BSDS500(str(tmp_path)).read(0).annotations == {}
