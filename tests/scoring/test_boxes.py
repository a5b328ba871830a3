"""Scores of detections on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scoring.files import thing, write_json, write_text, xml
from ubertrain.errors import DataError
from ubertrain.scoring.boxes import score_boxes

VOC: dict[str, Any] = {"protocol": "voc12"}


def voc(folder: Path) -> Path:
    """Two images: a cat of 10 x 10 pixels from 1 on and a difficult dog; nothing."""
    return write_text(folder, {"a.xml": xml(thing("cat", (1, 1, 10, 10)), thing("dog", (21, 21, 30, 30), 1)), "b.xml": xml()})


def coco(path: Path) -> Path:
    """The same in COCO's words, as instances; the area of the cat is that of a mask."""
    return write_json(path, {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 17, "bbox": [0, 0, 10, 10], "area": 50, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 18, "bbox": [20, 20, 10, 10], "area": 100, "iscrowd": 1},
        ],
    })  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "pixels", "line"),
    [
        ("xyxy", "from_1", "cat 0.9 1 1 10 10"),
        ("xyxy", "from_0", "cat 0.9 0 0 9 9"),
        ("xyxy", "edges", "cat 0.9 0 0 10 10"),
        ("xywh", "edges", "cat 0.9 0 0 10 10"),
        ("xywh", "from_0", "cat 0.9 0 0 10 10"),
        ("xywh", "from_1", "cat 0.9 1 1 10 10"),
        ("xyxy", None, "7 0.9 0 0 10 10"),
        ("xyxy", "edges", "7 0.9 0 0 10 10\n7 0.8 0 0 5 1\n11 0.7 20 20 30 30"),
    ],
)
def test_one_box_in_every_way_of_writing_it(tmp_path: Path, layout: Any, pixels: Any, line: str) -> None:
    """At an overlap of 1, only the very box is right, so that each convention must be undone exactly."""
    found = write_text(tmp_path / "p", {"a.txt": line})
    score = score_boxes(found, voc(tmp_path / "t"), layout=layout, pixels=pixels, iou=1.0, **VOC)
    assert score.scores["AP"] == 1
    assert score.classes["cat"]["AP"] == 1
    assert score.images == 2


def test_vocs_files_per_class_count_pixels_from_1(tmp_path: Path) -> None:
    """comp4 files name the class in their own name, the image in every line."""
    found = write_text(
        tmp_path / "p", {"comp4_det_test_cat.txt": "a 0.9 1 1 10 10\nc 0.8 1 1 2 2\n", "comp4_det_test_dog.txt": ""}
    )
    score = score_boxes(found, voc(tmp_path / "t"), iou=1.0, **VOC)
    assert score.scores["AP"] == 1
    assert score.skipped == {"c": "no truth"}
    (found / "comp4_det_test_cat.txt").rename(found / "comp4_5f0e-77_det_test_cat.txt")
    assert score_boxes(found, voc(tmp_path / "t"), iou=1.0, **VOC).scores["AP"] == 1


def test_a_class_without_a_file_is_told(tmp_path: Path) -> None:
    """Its objects are not found, whether it was forgotten or has no detection."""
    truth = write_text(tmp_path / "t", {"a.txt": "cat 0 0 10 10\ndog 0 0 5 5\n"})
    found = write_text(tmp_path / "p", {"comp4_det_test_cat.txt": "a 0.9 1 1 10 10\n"})
    score = score_boxes(found, truth, **VOC)
    assert score.scores["AP"] == 0.5
    assert "images without any detection: 0, classes without any: 1" in score.protocol


def test_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    """On either side; no image is lost."""
    truth = write_text(tmp_path / "t", {"a.txt": "cat 0 0 10 10", "b.TXT": "cat 0 0 10 10"})
    found = write_text(tmp_path / "p", {"a.TXT": "cat 0.9 0 0 10 10", "b.txt": "cat 0.9 0 0 10 10"})
    score = score_boxes(found, truth, **VOC)
    assert (score.images, score.scores["AP"], score.skipped) == (2, 1, {})


def test_truth_may_be_text(tmp_path: Path) -> None:
    """Names of several words are names; without a list, those that occur make the classes."""
    truth = write_text(tmp_path / "t", {"a.txt": "potted plant 0 0 10 10\nbus 5 5 9 9 difficult\n"})
    found = write_text(tmp_path / "p", {"a.txt": "potted plant 0.5 0 0 10 10\nbus 0.9 5 5 9 9"})
    score = score_boxes(found, truth, protocol="voc07")
    assert list(score.classes) == ["bus", "potted plant"]
    assert score.scores == {"AP11": 1, "AP": 1}
    assert np.isnan(score.classes["bus"]["AP"])


def test_cocos_results_are_cocos_boxes(tmp_path: Path) -> None:
    """Ids of images and categories are those of the truth; sizes of objects are those of masks."""
    pytest.importorskip("faster_coco_eval")
    results = [{"image_id": 7, "category_id": 17, "bbox": [0, 0, 10, 10], "score": 0.3}]
    score = score_boxes(write_json(tmp_path / "r.json", results), coco(tmp_path / "t.json"))
    assert (score.scores["AP"], score.scores["APsmall"]) == (1, 1)
    assert np.isnan(score.scores["APlarge"])
    assert score.classes["cat"] == {"AP": 1, "AP50": 1, "AP75": 1}
    assert np.isnan(score.classes["dog"]["AP"])
    assert "images without any detection: 1" in score.protocol


@pytest.mark.parametrize(
    ("image", "name"), [(7, "a"), (7.0, "a"), ("a", "a"), ("a.jpg", "a"), ("a.b", "a.b"), ("a.b.jpg", "a.b")]
)
def test_results_name_their_image_by_number_or_by_file(tmp_path: Path, image: object, name: str) -> None:
    """The number is COCO's, the file's name stands with or without its ending."""
    truth = {
        "images": [{"id": 7, "file_name": f"{name}.jpg"}], "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}],
    }  # fmt: skip
    results = [{"image_id": image, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1}]
    files = write_json(tmp_path / "r.json", results), write_json(tmp_path / "t.json", truth)
    assert score_boxes(*files, iou=0.8, **VOC).scores["AP"] == 1
    assert score_boxes(*files, iou=1.0, **VOC).scores["AP"] == 0


def test_results_may_count_pixels_from_1(tmp_path: Path) -> None:
    """As asked; widths are widths."""
    results = [{"image_id": 7, "category_id": 17, "bbox": [1, 1, 10, 10], "score": 1}]
    files = write_json(tmp_path / "r.json", results), coco(tmp_path / "t.json")
    assert score_boxes(*files, pixels="from_1", iou=1.0, **VOC).scores["AP"] == 1
    assert score_boxes(*files, iou=1.0, **VOC).scores["AP"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": ["x"]}, "is not an instances file of COCO"),
        ({"categories": [{"id": 17, "name": "cat"}, {"id": 17, "name": "dog"}]}, "two of its categories, or .* same id"),
        ({"categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "cat"}]}, "two of its categories have the same name"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 7, "file_name": "b.jpg"}]}, "two of its images have the same id"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 17, "bbox": [0, 0, 9, 9], "area": float("nan")}]},
         "annotation 1 has an area of nan"),
    ],
)  # fmt: skip
def test_mistakes_in_instances_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """What cannot be told apart, or has no size."""
    import json

    truth = coco(tmp_path / "t.json")
    write_json(truth, json.loads(truth.read_text()) | change)
    with pytest.raises(DataError, match=f"t.json: .*{message}"):
        score_boxes(write_json(tmp_path / "r.json", []), truth)


def test_no_detection_at_all_scores_0(tmp_path: Path) -> None:
    """An empty list of results is an answer."""
    pytest.importorskip("faster_coco_eval")
    assert score_boxes(write_json(tmp_path / "r.json", []), coco(tmp_path / "t.json")).scores["AP"] == 0


def test_no_object_at_all_scores_nothing(tmp_path: Path) -> None:
    """Without an object that counts, there is no figure."""
    truth = write_text(tmp_path / "t", {"a.xml": xml(), "b.xml": xml()})
    found = write_text(tmp_path / "p", {"a.txt": "cat 0.9 0 0 9 9"})
    for protocol in ("coco", "voc07"):
        score = score_boxes(found, truth, protocol=protocol)  # type: ignore[arg-type]
        assert all(np.isnan(value) for value in score.scores.values())


def test_published_results_are_those_of_the_published_code(data_root: Path, tmp_path: Path) -> None:
    """Jittered true boxes of real images give the twelve figures that the evaluator gives for the two files themselves."""
    api = pytest.importorskip("faster_coco_eval")
    truth = data_root / "coco" / "annotations" / "instances_train2017.json"
    gold = api.COCO(str(truth), print_function=lambda *_: None)
    rng = np.random.default_rng(0)
    results = [
        {"image_id": region["image_id"], "category_id": region["category_id"], "score": float(rng.random()),
         "bbox": (np.array(region["bbox"]) + rng.normal(0, 4, 4) * [1, 1, 0.5, 0.5]).clip(0.5).round(2).tolist()}
        for region in gold.dataset["annotations"] if rng.random() < 0.9
    ]  # fmt: skip
    evaluator = api.COCOeval_faster(gold, gold.loadRes(results), "bbox", print_function=lambda *_: None)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    scores = score_boxes(write_json(tmp_path / "r.json", results), truth).scores
    assert 0.3 < scores["AP"] < 0.9
    assert list(scores.values()) == pytest.approx(list(evaluator.stats[:12]), abs=1e-9)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": "cat 0.9 1 1 10"}, r"a.txt, line 1: 'cat 0.9 1 1 10'; expected class score x0 y0 x1 y1"),
        ({"a.txt": "\ncat 0.9 1 1 10 ten"}, r"a.txt, line 2: .* are not numbers"),
        ({"a.txt": "cat 0.9 1 1 10 nan"}, r"a.txt, line 1: 1 1 10 nan is not finite"),
        ({"a.txt": "cat inf 1 1 10 10"}, r"a.txt, line 1: its score inf is not finite"),
        ({"a.txt": "cat 0.9 5 5 1 10"}, r"a.txt, line 1: 5 5 1 10 is no box: as xyxy its width is -4"),
        ({"a.txt": "unicorn 0.9 1 1 10 10"}, r"a.txt, line 1: class 'unicorn' is neither one of the 20 classes \(aeroplane"),
        ({"a.txt": "20 0.9 1 1 10 10"}, r"a.txt, line 1: class '20' is neither"),
        ({"x.txt": "cat 0.9 1 1 10 10"}, r"none of its images \('x', ...\) is among those of .* \('a', ...\)"),
        (
            {"comp3_det_test_cat.txt": "a 0.9 1 1 10 10", "comp4_det_test_cat.txt": "a 0.9 1 1 10 10"},
            r"comp3_det_test_cat.txt and .*comp4_det_test_cat.txt are both detections of 'cat'",
        ),
        (
            {"comp4_det_test_cat.txt": "a 0.9 1 1 10 10", "dog.txt": "a 0.9 1 1 10 10"},
            r"dog.txt: is not named comp4_det_SET_CLASS.txt, as comp4_det_test_cat.txt beside it is",
        ),
        ({"a.md": ""}, r"p: no detections; expected files that end in .txt$"),
        ({"comp4_det_test_cat.txt": "a 0.9 1 1 10"}, r"comp4_det_test_cat.txt, line 1: .*; expected image score x0 y0 x1 y1"),
    ],
)
def test_mistakes_in_detections_name_file_and_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    """Broken lines, boxes that are none, classes and images that the truth does not have."""
    with pytest.raises(DataError, match=message):
        score_boxes(write_text(tmp_path / "p", files), voc(tmp_path / "t"), **VOC)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"r.json: is not a list of results"),
        ([{"image_id": 7}], r"r.json: result 0 has no image_id, category_id, score, and bbox"),
        ([{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}],
         r"r.json: result 0: category_id 1 is not among those of the truth, 17 to 18"),
        ([{"image_id": 7, "category_id": 17, "bbox": [0, 0, -1, 1], "score": 1}], r"r.json: result 0: 0 0 -1 1 is no box"),
    ],
)  # fmt: skip
def test_mistakes_in_results_name_the_entry(tmp_path: Path, content: Any, message: str) -> None:
    """COCO's results, and ids that the truth does not have."""
    with pytest.raises(DataError, match=message):
        score_boxes(write_json(tmp_path / "r.json", content), coco(tmp_path / "t.json"), **VOC)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.xml": "<annotation>"}, r"t/a.xml: is not an annotation of VOC"),
        ({"a.xml": xml(thing("cat", (9, 1, 1, 10)))}, r"t/a.xml, object 1: 9 1 1 10 is no box"),
        ({"a.txt": "cat 1 2 3"}, r"t/a.txt, line 1: 'cat 1 2 3'; expected class x0 y0 x1 y1"),
        ({"a.txt": "", "b.xml": xml()}, r"t: holds both .xml and .txt"),
        ({"a.md": ""}, r"t: holds neither .xml nor .txt files"),
    ],
)
def test_mistakes_in_the_truth_name_the_file(tmp_path: Path, files: dict[str, str], message: str) -> None:
    """Damaged XML, boxes that are none, files that are no truth."""
    with pytest.raises(DataError, match=message):
        score_boxes(write_text(tmp_path / "p", {"a.txt": "cat 0.9 1 1 10 10"}), write_text(tmp_path / "t", files), **VOC)


def test_an_image_without_detections_can_be_an_error(tmp_path: Path) -> None:
    """Where every image should have a file, a missing one is named."""
    found = write_text(tmp_path / "p", {"a.txt": "cat 0.9 0 0 10 10"})
    assert score_boxes(found, voc(tmp_path / "t"), **VOC).scores["AP"] == 1
    with pytest.raises(DataError, match="p: no detections in 'b', nor in 0 more of 2 images"):
        score_boxes(found, voc(tmp_path / "t"), missing="error", **VOC)


def test_a_list_says_which_images_count(tmp_path: Path) -> None:
    """A wrong detection in an image that is not listed costs nothing."""
    found = write_text(tmp_path / "p", {"a.txt": "cat 0.5 0 0 10 10", "b.txt": "cat 0.9 0 0 10 10"})
    (tmp_path / "list.txt").write_text("a\n")
    assert score_boxes(found, voc(tmp_path / "t"), **VOC).scores["AP"] == 0.5
    assert score_boxes(found, voc(tmp_path / "t"), only=tmp_path / "list.txt", **VOC).scores["AP"] == 1


@pytest.mark.parametrize("protocol", ["coco", "voc07", "voc12"])
@pytest.mark.filterwarnings("error")
def test_boxes_without_area_find_nothing(tmp_path: Path, protocol: Any) -> None:
    """A line and a point are boxes that overlap nothing: false when detected, not found when true, and never nan."""
    truth = write_text(tmp_path / "t", {"a.txt": "cat 5 5 5 9\ncat 20 20 30 30\n"})
    found = write_text(tmp_path / "p", {"a.txt": "cat 0.9 5 5 5 9\ncat 0.8 7 7 7 7\ncat 0.7 20 20 30 30\n"})
    scores = score_boxes(found, truth, protocol=protocol).scores
    first = next(iter(scores.values()))
    assert first == pytest.approx({"coco": 51 / 101 / 3, "voc07": 6 / 11 / 3, "voc12": 1 / 2 / 3}[protocol])


def test_500_boxes_in_an_image_all_count(tmp_path: Path) -> None:
    """VOC looks at every detection, COCO at the best 100 of a class, as their codes do."""
    lines = [f"{20 * (k % 25)} {20 * (k // 25)} {20 * (k % 25) + 10} {20 * (k // 25) + 10}" for k in range(500)]
    truth = write_text(tmp_path / "t", {"a.txt": "".join(f"cat {line}\n" for line in lines)})
    found = write_text(tmp_path / "p", {"a.txt": "".join(f"cat 0.5 {line}\n" for line in lines)})
    assert score_boxes(found, truth, protocol="voc12").scores["AP"] == pytest.approx(1)
    pytest.importorskip("faster_coco_eval")
    assert score_boxes(found, truth).scores["AR100"] == pytest.approx(0.2)
