"""Scores of class maps on disk."""

from pathlib import Path

import numpy as np
import pytest

from tests.scoring.files import write_png
from ubertrain.errors import DataError
from ubertrain.scoring.id_maps import Encoding
from ubertrain.scoring.segmentation import score_segmentation


def test_scores_are_those_of_a_table_by_hand(tmp_path: Path) -> None:
    """Two images, one confusion table: IoU 2/4 and 1/3; a class that neither shows counts by convention only."""
    write_png(tmp_path / "t" / "a.png", [[0, 0, 0, 255]])
    write_png(tmp_path / "p" / "a.png", [[0, 0, 1, 1]])
    write_png(tmp_path / "t" / "b.png", [[1, 1]])
    write_png(tmp_path / "p" / "b.png", [[1, 0]])
    score = score_segmentation(tmp_path / "p", tmp_path / "t", classes=("no", "yes", "never"))
    assert score.scores == pytest.approx({
        "mIoU": (1 / 2 + 1 / 3) / 2, "mean_accuracy": (2 / 3 + 1 / 2) / 2, "pixel_accuracy": 3 / 5,
        "frequency_weighted_iou": (3 / 2 + 2 / 3) / 5, "missing": 0, "mIoU_if_predicted": (1 / 2 + 1 / 3) / 2,
        "mIoU_zero": (1 / 2 + 1 / 3) / 3,
    })  # fmt: skip
    assert score.classes["yes"] == pytest.approx({"IoU": 1 / 3, "accuracy": 1 / 2, "share": 2 / 5})
    assert np.isnan(score.classes["never"]["IoU"])
    assert score.per_image["b"]["mIoU"] == 0.5
    assert score.images == 2


def test_a_pixel_without_an_answer_is_wrong(tmp_path: Path) -> None:
    """It costs its class recall, costs no other class precision, and is counted; where the truth is unknown it is nothing."""
    write_png(tmp_path / "t" / "a.png", [[0, 0, 1, 1, 255]])
    write_png(tmp_path / "p" / "a.png", [[0, 255, 1, 1, 255]])
    score = score_segmentation(tmp_path / "p", tmp_path / "t", classes=("no", "yes"), absent="zero")
    four = ("mIoU", "mean_accuracy", "pixel_accuracy", "frequency_weighted_iou")
    assert score.scores == pytest.approx({**dict.fromkeys(four, 0.75), "missing": 0.25})


def test_an_image_without_labels_is_left_out(tmp_path: Path) -> None:
    """It is told with the reason, and what is predicted there costs nothing."""
    for name, truth in (("a", [[0, 1]]), ("b", [[255, 255]])):
        write_png(tmp_path / "t" / f"{name}.png", truth)
        write_png(tmp_path / "p" / f"{name}.png", [[0, 1]])
    score = score_segmentation(tmp_path / "p", tmp_path / "t", classes=("no", "yes"))
    assert score.images == 1
    assert score.skipped == {"b": "no known pixel in its truth"}


@pytest.mark.parametrize(("encoding", "first", "classes"), [("ids", 0, 256), ("ids_from_1", 1, 255)])
def test_255_is_a_class_where_there_are_so_many(tmp_path: Path, encoding: Encoding, first: int, classes: int) -> None:
    """Of 16 bits, where its pixels count and 65535 is unknown unless something else is said."""
    write_png(tmp_path / "t" / "a.png", [[255, 255, first, 65535]], np.uint16)
    write_png(tmp_path / "p" / "a.png", [[255, first, first, first]], np.uint16)
    names = [str(index) for index in range(classes)]
    score = score_segmentation(tmp_path / "p", tmp_path / "t", classes=names, encoding=encoding)
    assert score.scores["pixel_accuracy"] == pytest.approx(2 / 3)
    assert score.classes[names[-1]]["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ([[0, 3]], [[0, 1]], r"p/a.png: class id 3, of 1 pixels, where there are 2 classes, 0 to 1.*--ignore"),
        ([[0, 1]], [[0, 3]], r"t/a.png: class id 3"),
        ([[0, 1, 1]], [[0, 1]], r"p/a.png: is 3 wide and 1 high, its truth .*t/a.png is 2 wide and 1 high"),
        ([[0, 1]], [[255, 255]], r"none of 1 images can be scored; .*t/a.png: no known pixel"),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, prediction: object, truth: object, message: str) -> None:
    """Unknown ids, sizes that differ, and nothing to score."""
    write_png(tmp_path / "p" / "a.png", prediction)
    write_png(tmp_path / "t" / "a.png", truth)
    with pytest.raises(DataError, match=message):
        score_segmentation(tmp_path / "p", tmp_path / "t", classes=("no", "yes"))


def test_ids_beyond_255_are_classes(tmp_path: Path) -> None:
    """16-bit maps of many classes, whose unknown is another id."""
    write_png(tmp_path / "p" / "a.png", [[299, 255, 0]], np.uint16)
    write_png(tmp_path / "t" / "a.png", [[299, 255, 65535]], np.uint16)
    score = score_segmentation(tmp_path / "p", tmp_path / "t", classes=[str(i) for i in range(300)], ignore=(65535,))
    assert score.scores["mIoU"] == 1
    assert score.classes["255"]["share"] == 0.5


def test_cityscapes_predictions_may_be_train_ids(tmp_path: Path) -> None:
    """Each side has its own encoding."""
    write_png(tmp_path / "p" / "x_leftImg8bit.png", [[0, 13, 13]])
    write_png(tmp_path / "t" / "city" / "x_leftImg8bit.png", [[7, 26, 3]])
    score = score_segmentation(tmp_path / "p", tmp_path / "t", classes=[str(i) for i in range(19)], truth_encoding="cityscapes")
    assert score.scores["mIoU"] == 1
