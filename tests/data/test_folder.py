"""A user's own folder: every label in every format, and every mistake that is made with them."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.stubs import cut_short, picture
from ubertrain.annotation import Warp
from ubertrain.data.folder import Folder
from ubertrain.data.readers import READERS
from ubertrain.errors import ConfigError, DataError

BOX = {"boxes": [[1, 1, 5, 4]], "classes": ["dog"]}


def write(path: Path, content: Any) -> None:
    """Write text, JSON (dict) or an array, as .npy or as a PNG of its type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        np.save(path, content) if path.suffix == ".npy" else Image.fromarray(content).save(path)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def one(root: Path, file: str, content: Any, **keywords: Any) -> Folder:
    """A folder with the image a.jpg of 6x8 pixels and one label file."""
    picture(root / "images/a.jpg")
    write(root / file, content)
    return Folder(str(root), **keywords)


def test_each_image_carries_the_labels_that_have_files(tmp_path: Path) -> None:
    """Whatever file is there is a label, whatever is not is not labelled, and an image may have none."""
    for name in ("a.jpg", "b.png", "c.jpeg"):
        picture(tmp_path / "images" / name)
    write(tmp_path / "boxes/a.json", {"boxes": [], "classes": []})
    write(tmp_path / "depth/a.npy", np.ones((6, 8)))
    write(tmp_path / "depth/b.png", np.full((6, 8), 2000, dtype=np.uint16))
    reader = Folder(str(tmp_path))
    assert [set(reader.read(index).annotations) for index in range(3)] == [{"boxes", "depth"}, {"depth"}, set()]
    assert len(reader.read(0).annotations["boxes"]["boxes"]) == 0
    assert reader.read(1).annotations["depth"].unique().tolist() == [2]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("boxes/a.json", BOX | {"ignore": [False]}),
        ("boxes/a.json", {"boxes": [[1, 1, 5, 4]], "classes": [1]}),
        ("boxes/a.txt", f"1 {3 / 8} {2.5 / 6} {4 / 8} {3 / 6}\n\n"),
    ],
)
def test_boxes_in_three_notations_are_the_same(tmp_path: Path, file: str, content: Any) -> None:
    """Names, ids and YOLO's fractions give one value."""
    boxes = one(tmp_path, file, content, classes={"boxes": ["cat", "dog"]}).read(0).annotations["boxes"]
    assert boxes["boxes"].tolist() == [pytest.approx([1, 1, 5, 4])]
    assert (boxes["classes"].tolist(), boxes["ignore"].tolist()) == ([1], [False])


NORMAL = np.broadcast_to(np.array([0.6, 0.0, -0.8]), (6, 8, 3))


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("class_map/a.png", np.full((6, 8), 3, dtype=np.uint8), torch.full((6, 8), 3)),
        ("depth/a.png", np.full((6, 8), 500, dtype=np.uint16), torch.full((6, 8), 0.5)),
        ("depth/a.npy", np.full((6, 8), 0.5, dtype=np.float64), torch.full((6, 8), 0.5)),
        ("normals/a.npy", NORMAL, torch.tensor([0.6, 0.0, -0.8])[:, None, None].expand(3, 6, 8)),
        ("normals/a.npy", NORMAL.transpose(2, 0, 1), torch.tensor([0.6, 0.0, -0.8])[:, None, None].expand(3, 6, 8)),
        ("edges/a.png", 255 * np.eye(6, 8, dtype=np.uint8), torch.eye(6, 8, dtype=torch.uint8)[None]),
        ("edges/a.npy", np.zeros((6, 8), dtype=bool), torch.zeros(1, 6, 8, dtype=torch.uint8)),
        ("semantic_edges/a.npy", np.full((3, 6, 8), 2), torch.full((3, 6, 8), 2, dtype=torch.uint8)),
        ("edges/a.npy", np.full((3, 6, 8), 255), torch.full((3, 6, 8), 255, dtype=torch.uint8)),
    ],
)
def test_dense_labels(tmp_path: Path, file: str, content: np.ndarray, expected: torch.Tensor) -> None:
    """Every format gives the value that was written."""
    value = one(tmp_path, file, content).read(0).annotations[file.split("/")[0]]
    assert value.dtype == expected.dtype
    assert torch.equal(value, expected)


def test_normals_as_a_picture(tmp_path: Path) -> None:
    """8-bit normals are read to within their rounding, with length 1."""
    stored = np.round((NORMAL + 1) / 2 * 255).astype(np.uint8)
    normals = one(tmp_path, "normals/a.png", stored).read(0).annotations["normals"]
    assert (normals[:, 0, 0] - torch.tensor([0.6, 0.0, -0.8])).abs().max() < 0.005


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_normals_in_other_axes(tmp_path: Path, suffix: str) -> None:
    """Channels x, z and -y are said once and come out as x, y, z."""
    vector = np.broadcast_to(np.array([0.0, -0.6, 0.8]), (6, 8, 3))
    stored = np.round((vector + 1) / 2 * 255).astype(np.uint8) if suffix == "png" else vector
    reader = one(tmp_path, f"normals/a.{suffix}", stored, normals_axes="right forward up")
    assert reader.read(0).annotations["normals"][:, 0, 0].tolist() == pytest.approx([0.0, -0.8, -0.6], abs=0.006)


@pytest.mark.parametrize("truth", ["png", "npy", None])
def test_stereo_pairs(tmp_path: Path, truth: str | None) -> None:
    """The second camera's view, the true disparity where there is one, and the calibration, in shares of the width."""
    write(tmp_path / "stereo/a.png", np.full((6, 8, 3), 7, np.uint8))
    if truth:
        write(tmp_path / f"disparity/a.{truth}", np.full((6, 8), 512, np.uint16) if truth == "png" else np.full((6, 8), 2.0))
    picture(tmp_path / "images/a.jpg")
    sample = Folder(str(tmp_path), baseline=4.0).read(0)
    pair = sample.annotations["stereo"]
    assert torch.equal(pair["own"], sample.image) and (pair["other"] == 7).all()
    assert (pair["disparity"] == (0.25 if truth else 0)).all()
    assert (float(pair["side"]), float(pair["scale"])) == (1, 0.5)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("stereo/a.png", r"a.png: stereo view 'other' must have shape \(3, 6, 8\)"),
        ("disparity/a.npy", "a.npy: disparity must have shape"),
    ],
)
def test_stereo_pairs_of_other_sizes_are_refused(tmp_path: Path, file: str, message: str) -> None:
    """The error names the file."""
    write(tmp_path / "stereo/a.png", np.zeros((6, 8, 3), np.uint8))
    write(tmp_path / file, np.zeros((5, 8, 3), np.uint8) if file.endswith("png") else np.zeros((5, 8)))
    picture(tmp_path / "images/a.jpg")
    with pytest.raises(DataError, match=message):
        Folder(str(tmp_path)).read(0)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("boxes/a.json", '{"boxes": [[1, 1', "a.json: cannot be read as JSON"),
        ("boxes/a.json", "[1, 2]", r"a.json: is not \{\"boxes\""),
        ("boxes/a.json", {"boxes": [[1, 1, 5]], "classes": ["dog"]}, r"a.json: is not \{\"boxes\""),
        ("boxes/a.json", BOX | {"classes": []}, "a.json: 1 boxes, 0 classes and 1 ignore; expected one each"),
        ("boxes/a.json", BOX | {"classes": ["dgo"]}, "a.json: class 'dgo' is not among those that the set declares"),
        ("boxes/a.json", BOX | {"classes": [2]}, r"a.json: class id 2, but the set declares 2 classes \(0 to 1\)"),
        ("boxes/a.json", BOX | {"boxes": [[5, 1, 1, 4]]}, "a.json: box 0 of 1 .* is not x0 y0 x1 y1"),
        ("boxes/a.json", BOX | {"boxes": [[5, 1, 50, 4]]}, "a.json: box 0 of 1 .* is outside the image"),
        ("boxes/a.txt", "1 0.5 0.5 0.5", "a.txt: line 1: '1 0.5 0.5 0.5' is not five numbers"),
        ("boxes/a.txt", "nan 0.5 0.5 0.5 0.5", "a.txt: line 1: .* is not five numbers"),
        ("boxes/a.txt", "inf 0.5 0.5 0.5 0.5", "a.txt: line 1: .* is not five numbers"),
        ("boxes/a.txt", "1.7 0.5 0.5 0.5 0.5", "a.txt: line 1: .* is not five numbers"),
        ("boxes/a.txt", "1 0.5 0.5 -0.5 0.5", "a.txt: box 0 of 1 .* is not x0 y0 x1 y1"),
        ("boxes/a.txt", "-1 0.5 0.5 0.5 0.5", "a.txt: box 0 of 1 .* has a negative class id"),
        ("class_map/a.png", np.full((6, 8), 31, dtype=np.uint8), r"a.png: class id 31, but the set declares 21 classes"),
        ("class_map/a.png", np.full((6, 8), 300, dtype=np.uint16), "a.png: class map has ids outside"),
        ("class_map/a.png", np.zeros((8, 6), dtype=np.uint8), r"a.png: class map must have shape \(6, 8\)"),
        ("class_map/a.png", np.zeros((6, 8, 3), dtype=np.uint8), "a.png: pixels of type RGB"),
        ("depth/a.npy", np.full((6, 8), np.nan), "a.npy: depth .*finite"),
        ("depth/a.npy", np.full((6, 8), -1.0), "a.npy: depth .*negative"),
        ("depth/a.npy", np.ones((6, 9)), r"a.npy: depth must have shape \(6, 8\)"),
        ("depth/a.npy", np.ones((6, 8), complex), "a.npy: cannot be read as a .npy file of real numbers; it holds complex128"),
        ("depth/a.npy", np.array([["x"]]), "a.npy: cannot be read as a .npy file"),
        ("depth/a.npy", "text", "a.npy: cannot be read as a .npy file"),
        ("normals/a.npy", np.full((6, 8, 3), 1.0), "a.npy: normals must have length 1"),
        ("normals/a.npy", np.full((6, 8, 4), 1.0), r"a.npy: normals must have shape \(3, 6, 8\)"),
        (
            "edges/a.png",
            np.full((6, 8), 255, dtype=np.uint8),
            "a.png: more than half of it is a boundary; expected white lines",
        ),
        ("edges/a.npy", np.full((6, 8), 0.5), "a.npy: has other values than 0, 1 and 255"),
        ("semantic_edges/a.npy", np.full((2, 6, 8), 3), r"a.npy: has other values than 0, 1 \(boundary\), 2"),
        ("edges/a.npy", np.zeros((0, 6, 8)), "a.npy: edges have no annotator's plane"),
    ],
)
def test_wrong_labels_name_sample_and_file(tmp_path: Path, file: str, content: Any, message: str) -> None:
    """Each mistake names the set, the sample, the file, what is wrong and the way out."""
    classes = {"boxes": ["cat", "dog"], "class_map": [str(number) for number in range(21)]}
    reader = one(tmp_path, file, content, classes=classes)
    with pytest.raises(DataError, match=rf"folder, sample 'a': .*{message}.*; mend it, or .* on_error: skip"):
        reader.read(0)


def test_a_truncated_array_is_named(tmp_path: Path) -> None:
    """An .npy file that was cut short names itself."""
    np.save(tmp_path / "whole.npy", np.ones((6, 8)))
    picture(tmp_path / "images/a.jpg")
    cut_short(tmp_path / "whole.npy", tmp_path / "depth/a.npy")
    with pytest.raises(DataError, match=r"a.npy: cannot be read as a .npy file"):
        Folder(str(tmp_path)).read(0)


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    """A JPEG that was cut short names the sample and the file."""
    cut_short(picture(tmp_path / "whole.jpg", (60, 80)), tmp_path / "images/a.jpg", 0.6)
    with pytest.raises(DataError, match=r"folder, sample 'a': .*/images/a.jpg: cannot be decoded as an image"):
        Folder(str(tmp_path)).read(0)


def test_class_names_for_other_labels_are_refused(tmp_path: Path) -> None:
    """Only boxes and class maps have classes."""
    with pytest.raises(ConfigError, match="folder, classes: 'depth' has no classes"):
        one(tmp_path, "boxes/a.json", BOX, classes={"depth": ["near", "far"]})


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: None, r"there is no folder .*/images; it should hold the images"),
        (lambda root: (root / "images").mkdir(), r"folder: .*/images lists 0 of 0 images"),
        (lambda root: one(root, "depth/a_depth.npy", np.ones((6, 8))),
         r"none of the 1 files in .*/depth has the name of an image; a_depth.npy needs an images/a_depth.jpg"),
        (lambda root: (picture(root / "images/a.png"), picture(root / "images/a.jpg")), r"a.png and .*a.jpg have one name"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_meant(tmp_path: Path, prepare: Callable[[Path], Any], message: str) -> None:
    """No images, labels that belong to no image, and two images of one name are found before anything is read."""
    with pytest.raises(DataError, match=message):
        prepare(tmp_path)
        Folder(str(tmp_path))


def test_saliency_is_black_and_white(tmp_path: Path) -> None:
    """White is salient; a mask of class ids is refused."""
    marked = np.zeros((6, 8), np.uint8)
    marked[2:4] = 255
    assert one(tmp_path, "saliency/a.png", marked).read(0).annotations["saliency"].sum() == 16
    with pytest.raises(DataError, match=r"saliency/a.png: its brightest pixel is 2"):
        one(tmp_path, "saliency/a.png", marked // 100).read(0)


def test_parts_are_exchanged_where_their_names_are_pairs(tmp_path: Path) -> None:
    """The set's own names say which; without a pair a flip moves pixels only."""
    ids, names = np.ones((6, 8), np.uint8), ["background", "left arm", "right arm"]
    for classes, mirrored in (({"parts": names}, 2), ({"parts": [*names[:1], "arm", "leg"]}, 1), (None, 1)):
        reader = pickle.loads(pickle.dumps(one(tmp_path, "parts/a.png", ids, classes=classes)))
        value = reader.kinds["parts"].warp(reader.read(0).annotations["parts"], Warp.about((6, 8), (6, 8), flip=True))
        assert (value == mirrored).all()


def test_half_a_pair_names_the_place_in_the_file(tmp_path: Path) -> None:
    """A left part without its right one is a mistake in the configuration."""
    picture(tmp_path / "images/a.jpg")
    (tmp_path / "parts").mkdir()
    with pytest.raises(ConfigError, match=r"a.yaml:7.*there is a class 'left arm' but none called 'right arm'"):
        READERS.make("folder", "a.yaml:7", root=str(tmp_path), classes={"parts": ["background", "left arm"]})
