"""SBD's layout: the two real files that are at hand, and broken ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.stubs import picture
from ubertrain.data.inventory import count
from ubertrain.data.sbd import Sbd
from ubertrain.errors import DataError

io = pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")
sparse = pytest.importorskip("scipy.sparse")

_PERSON = 14


def _made(root: Path, *, classes: int = 20, side: int = 6, fields: tuple[str, ...] = ("Boundaries", "Segmentation")) -> Path:
    """A data set of one image with a square of class 1 that stands as two objects."""
    segments = np.zeros((6, 8), np.uint8)
    segments[1:5, 1:7] = 1
    drawn = [sparse.csc_array((side, 8), dtype=np.uint8) for _ in range(classes)]
    drawn[0] = sparse.csc_array((segments == 1).astype(np.uint8)[:side])
    cells = np.empty((classes, 1), object)
    cells[:, 0] = drawn
    content = {"Boundaries": cells, "Segmentation": segments, "CategoriesPresent": np.array([1])}
    for folder in ("img", "cls", "inst"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    io.savemat(root / "cls/a.mat", {"GTcls": {name: content[name] for name in fields}})
    (root / "train.txt").write_text("a\n")
    picture(root / "img/a.jpg", size=(6, 8))
    return root


def test_the_two_real_images_are_read(data_root: Path) -> None:
    """Boundaries of persons as many as the benchmark's own results say, with their insides; and the map of classes."""
    reader = Sbd(str(data_root / "bench/SBD_bench/datadir"), "val")
    found = count(reader)
    assert (found.images, found.labels, found.faults) == (2, {"semantic_edges": 2, "class_map": 2}, ())
    for index, wanted in enumerate((713, 1420)):
        labels = reader.read(index).annotations
        plane, segments = labels["semantic_edges"][_PERSON], labels["class_map"]
        assert int((plane == 1).sum()) == wanted
        assert torch.equal(plane == 2, (segments == _PERSON + 1) & (plane != 1))


def test_instances_add_the_boundaries_between_objects(data_root: Path) -> None:
    """Of one class; nothing goes."""
    root = str(data_root / "bench/SBD_bench/datadir")
    by_class, by_object = (Sbd(root, "val", instances=flag).read(0).annotations["semantic_edges"] for flag in (False, True))
    assert bool(((by_class != 1) | (by_object == 1)).all())
    assert int((by_object[_PERSON] == 1).sum()) > int((by_class[_PERSON] == 1).sum())


def test_a_made_file_is_read(tmp_path: Path) -> None:
    """Control for the broken ones below."""
    planes = Sbd(str(_made(tmp_path))).read(0).annotations["semantic_edges"]
    assert planes.shape == (20, 6, 8) and int((planes[0] == 1).sum()) == 24 and not planes[1:].any()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"classes": 3}, "sbd, sample 'a': .*cls/a.mat: has boundaries of 3 classes; SBD has 20"),
        ({"side": 5}, r"a boundary has shape \(5, 8\), its segmentation \(6, 8\)"),
        ({"fields": ("Segmentation",)}, "a.mat: is not one of SBD's: it has no Boundaries"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, how: dict[str, object], message: str) -> None:
    """And what is wrong with them."""
    reader = Sbd(str(_made(tmp_path, **how)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        reader.read(0)


def test_a_split_without_a_list_is_an_error(tmp_path: Path) -> None:
    """It says which file would list it."""
    with pytest.raises(DataError, match="no list .*test.txt; is 'test' a split"):
        Sbd(str(_made(tmp_path)), "test")
