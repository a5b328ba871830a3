"""Scores of predictions on disk, from the command line."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from tests.scoring.files import thing, write_json, write_png, write_text, xml
from ubertrain.cli import score as commands
from ubertrain.cli import score_boundaries
from ubertrain.metrics import depth_crops, depth_errors, mean_iou, semantic_boundary_f
from ubertrain.scoring import box_rows, boxes, id_maps

Command = Callable[..., Any]

ITSELF = [
    ("depth", "7scenes-redkitchen/data", "00.depth.png", {"AbsRel": 0, "delta1": 1}),
    ("depth", "NYUv2-samples/nyu_demo/depth", ".png", {"RMSE_image": 0, "missing": 0}),
    ("normals", "omnidata-samples", "_normal.png", {"mean": 0, "missing": 0}),
    ("saliency", "ECSSD/ground_truth_mask", "9.png", {"maxF": 1, "MAE": 0, "S": 1, "maxF_pooled": 1, "mIoU_astmt": 1}),
    ("segmentation", "CamVid/valannot", ".png", {"mIoU": 1, "pixel_accuracy": 1}),
    ("parts", "PASCAL-Person-Part/SegmentationPart", ".png", {"mIoU": 1}),
]
OPTIONS = {"segmentation": ("--classes", 11, "--ignore", 11)}


@pytest.mark.parametrize(("task", "folder", "ending", "expected"), ITSELF, ids=[row[1] for row in ITSELF])
def test_truth_scores_perfectly_against_itself(
    ubertrain: Command, data_root: Path, task: str, folder: str, ending: str, expected: dict[str, float]
) -> None:
    """Real labels of every format, taken as predictions, leave nothing to be desired."""
    there, endings = data_root / folder, ("--pred-ending", ending, "--truth-ending", ending)
    outcome = ubertrain("score", task, "--pred", there, "--truth", there, *endings, *OPTIONS.get(task, ()), "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["images"] == len(list(there.rglob(f"*{ending}")))
    assert {name: outcome.json["scores"][name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_true_boundaries_score_perfectly_against_themselves(ubertrain: Command, data_root: Path, tmp_path: Path) -> None:
    """Outlines of people as white lines, of which each pixel finds its own."""
    truth = data_root / "CIHP" / "edges"
    for file in truth.glob("*.png"):
        write_png(tmp_path / file.name, np.asarray(Image.open(file)) * 255)
    options = ("--thresholds", 1, "--no-thin", "--workers", 1, "--json")
    outcome = ubertrain("score", "boundaries", "--pred", tmp_path, "--truth", truth, *options)
    assert outcome.code == 0, outcome.err
    assert (outcome.json["scores"]["ODS"], outcome.json["scores"]["OIS"]) == (1, 1)


def test_true_boxes_score_perfectly_against_themselves(ubertrain: Command, data_root: Path, tmp_path: Path) -> None:
    """COCO's instances as results of score 1, crowds left out as no detector is asked for them."""
    pytest.importorskip("faster_coco_eval")
    import json

    truth = data_root / "coco" / "annotations" / "instances_train2017.json"
    regions = [region for region in json.loads(truth.read_text())["annotations"] if not region["iscrowd"]]
    results = [{key: region[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0} for region in regions]
    outcome = ubertrain("score", "boxes", "--pred", write_json(tmp_path / "r.json", results), "--truth", truth, "--json")
    assert outcome.code == 0, outcome.err
    assert {name: outcome.json["scores"][name] for name in ("AP", "APsmall", "AR100")} == {"AP": 1, "APsmall": 1, "AR100": 1}


def test_published_detections_score_as_published_code_scores_them(ubertrain: Command, data_root: Path, tmp_path: Path) -> None:
    """The figures of the tool they come with (as podm 0.4), which knows no difficult objects, so that they are taken out."""
    truth = data_root / "VOCdevkit" / "VOC2012" / "Annotations"
    for file in truth.glob("*.xml"):
        objects = file.read_text().split("<object>")
        kept = [part for part in objects[1:] if "<difficult>1</difficult>" not in part]
        end = "" if kept and kept[-1] is objects[-1] else "</annotation>"
        write_text(tmp_path / "t", {file.name: "<object>".join([objects[0], *kept]) + end})
    found = data_root / "bench" / "VOC2012_dets"
    options = ("--protocol", "voc12", "--layout", "xywh", "--json")
    outcome = ubertrain("score", "boxes", "--pred", found / "abs_xywh", "--truth", tmp_path / "t", *options)
    assert outcome.code == 0, outcome.err
    assert outcome.json["scores"] == pytest.approx({"AP": 0.6645254376703423, "AP11": 0.6546948503178881}, abs=1e-12)


def test_degraded_depth_scores_what_the_formulas_say(ubertrain: Command, data_root: Path, tmp_path: Path) -> None:
    """Kinect depth with noise, a crop and a range, against numpy in a few lines."""
    rng = np.random.default_rng(0)
    names, pairs = [], []
    for file in sorted((data_root / "7scenes-redkitchen" / "data").glob("*.depth.png"))[:2]:
        truth = np.asarray(Image.open(file)).astype(np.float64)
        found = np.clip(np.where(truth == 65535, 0, truth) * 1.2 + rng.normal(0, 99, truth.shape), 0, 60000).astype(np.uint16)
        write_png(tmp_path / file.name, found, np.uint16)
        names.append(file.name.removesuffix(".depth.png"))
        inside = np.zeros(truth.shape, bool)
        inside[45:471, 41:601] = True
        known = inside & (truth > 1) & (truth < 3000)
        pairs.append((found[known] / 1000, truth[known] / 1000))
    (tmp_path / "list.txt").write_text("\n".join(names))
    outcome = ubertrain(
        "score", "depth", "--pred", tmp_path, "--truth", data_root / "7scenes-redkitchen" / "data",
        "--pred-ending", ".depth.png", "--truth-ending", ".depth.png", "--crop", "nyu", "--max", 3,
        "--list", tmp_path / "list.txt", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    found, truth = (np.concatenate(values) for values in zip(*pairs, strict=True))
    found = found.clip(1e-3, 3)
    assert (
        outcome.json["scores"]
        | {
            "AbsRel": pytest.approx(np.mean(np.abs(found - truth) / truth), rel=1e-6),
            "RMSE": pytest.approx(np.sqrt(np.mean((found - truth) ** 2)), rel=1e-6),
            "log10": pytest.approx(np.mean(np.abs(np.log10(found / truth))), rel=1e-6),
            "delta1": pytest.approx(np.mean(np.maximum(found / truth, truth / found) < 1.25), abs=1e-9),
        }
        == outcome.json["scores"]
    )


def test_degraded_normals_score_what_the_formulas_say(ubertrain: Command, data_root: Path, tmp_path: Path) -> None:
    """Normals of a scan with noise, declared in OpenGL's axes, against arc cosines."""
    rng, angles = np.random.default_rng(0), []
    for file in sorted((data_root / "omnidata-samples").glob("hm3d/*_normal.png"))[:2]:
        stored = np.asarray(Image.open(file)).astype(np.float64)
        noisy = np.clip(stored + rng.normal(0, 20, stored.shape), 0, 255).round()
        write_png(tmp_path / file.name, np.concatenate([noisy[..., :1], 255 - noisy[..., 1:]], axis=-1))
        vectors = [2 * values / 255 - 1 for values in (stored, noisy)]
        lengths = [np.linalg.norm(values, axis=-1, keepdims=True) for values in vectors]
        truth, found = (values / np.maximum(length, 1e-9) for values, length in zip(vectors, lengths, strict=True))
        known, given = lengths[0][..., 0] > 0.5, lengths[1][..., 0] > 0.5
        angle = np.degrees(np.arccos((truth * found).sum(axis=-1).clip(-1, 1)))
        angles.append(np.where(given, angle, 90)[known])
    (tmp_path / "list.txt").write_text("\n".join(path.name.removesuffix("_normal.png") for path in tmp_path.glob("*.png")))
    outcome = ubertrain(
        "score", "normals", "--pred", tmp_path, "--truth", data_root / "omnidata-samples", "--pred-ending", "_normal.png",
        "--truth-ending", "_normal.png", "--axes", "right up back", "--truth-axes", "right down forward",
        "--list", tmp_path / "list.txt", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    every, scores = np.concatenate(angles), outcome.json["scores"]
    assert scores["mean"] == pytest.approx(every.mean(), rel=1e-5)
    assert scores["median"] == pytest.approx(np.median(every), abs=0.01)
    assert scores["RMSE"] == pytest.approx(np.sqrt((every**2).mean()), rel=1e-5)
    assert scores["within_11.25"] == pytest.approx((every < 11.25).mean(), abs=1e-4)


def test_classes_of_boxes_have_no_background(ubertrain: Command, tmp_path: Path) -> None:
    """The first of VOC's 20 is 0 in files of boxes, though it is 1 in class maps."""
    write_text(tmp_path / "t", {"a.txt": "aeroplane 0 0 9 9"})
    write_text(tmp_path / "p", {"a.txt": "0 0.9 0 0 9 9"})
    folders = ("--pred", tmp_path / "p", "--truth", tmp_path / "t")
    outcome = ubertrain("score", "boxes", *folders, "--classes", "voc", "--protocol", "voc12", "--json")
    assert outcome.json["scores"]["AP"] == 1


def test_degraded_classes_score_what_sets_say(ubertrain: Command, data_root: Path, tmp_path: Path) -> None:
    """Shifted street scenes, against intersections and unions of one class at a time."""
    found, truth = [], []
    for file in sorted((data_root / "CamVid" / "valannot").glob("*.png"))[:3]:
        true = np.asarray(Image.open(file))
        shifted = np.roll(true, (4, -6), axis=(0, 1))
        shifted = np.where(shifted == 11, 3, shifted)
        write_png(tmp_path / "p" / file.name, shifted)
        found.append(shifted[true != 11])
        truth.append(true[true != 11])
    options = ("--classes", 11, "--ignore", 11, "--skip-missing", "--json")
    outcome = ubertrain(
        "score", "segmentation", "--pred", tmp_path / "p", "--truth", data_root / "CamVid" / "valannot", *options
    )
    assert outcome.code == 0, outcome.err
    predicted, true = np.concatenate(found), np.concatenate(truth)
    ious = [
        ((predicted == k) & (true == k)).sum() / ((predicted == k) | (true == k)).sum() for k in range(11) if (true == k).any()
    ]
    assert outcome.json["scores"]["mIoU"] == pytest.approx(np.mean(ious))
    assert outcome.json["scores"]["pixel_accuracy"] == pytest.approx((predicted == true).mean())
    assert list(outcome.json["skipped"].values()) == ["no prediction"] * 3


def write_maps(folder: Path) -> tuple[Path, Path]:
    """Three predictions and three truths of classes, of which one truth is unknown everywhere, and one name is not shared."""
    for name, truth in (("a", [[0, 1]]), ("b", [[255, 255]]), ("c", [[1, 1]])):
        write_png(folder / "t" / f"{name}.png", truth)
    for name in "abx":
        write_png(folder / "p" / f"{name}.png", [[0, 0]])
    return folder / "p", folder / "t"


def test_tables_are_for_people(ubertrain: Command, tmp_path: Path) -> None:
    """The convention, the scores and the classes go to stdout; what was left out, and why, to stderr."""
    pred, truth = write_maps(tmp_path)
    outcome = ubertrain("score", "segmentation", "--pred", pred, "--truth", truth, "--classes", 2, "--skip-missing")
    assert outcome.code == 0, outcome.err
    for words in ("One table over all labelled pixels of 2 classes", "scores of 1 images", "mIoU", "0.25", "accuracy"):
        assert words in outcome.out
    for words in ("1 images left out, no prediction: c", "no truth: x", "no known pixel in its truth: b"):
        assert words in outcome.err


def test_both_sides_are_stored_alike_unless_told(ubertrain: Command, tmp_path: Path) -> None:
    """The encoding of predictions is that of the truth, too, and the sentence says both."""
    pred, truth = write_png(tmp_path / "p.png", [[1, 2, 2, 1]]), write_png(tmp_path / "t.png", [[1, 1, 2, 0]])
    base = (
        "score",
        "segmentation",
        "--pred",
        pred,
        "--truth",
        truth,
        "--classes",
        2,
        "--json",
        "--pred-encoding",
        "ids_from_1",
    )
    alike = ubertrain(*base).json
    assert alike["scores"]["pixel_accuracy"] == pytest.approx(2 / 3)
    assert alike["protocol"].endswith("stored as ids_from_1, truth as ids_from_1")
    assert ubertrain(*base, "--truth-encoding", "ids").code == 2  # 2 is no class then


def test_scores_of_single_images_are_a_table(ubertrain: Command, tmp_path: Path) -> None:
    """A line each, which other programs read."""
    pred, truth = write_maps(tmp_path)
    options = ("--classes", 2, "--skip-missing", "--per-image", tmp_path / "each.csv")
    outcome = ubertrain("score", "segmentation", "--pred", pred, "--truth", truth, *options)
    assert outcome.code == 0, outcome.err
    with (tmp_path / "each.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["image"], float(row["mIoU"])) == ("a", 0.25)


def test_a_curve_is_written_and_drawn(ubertrain: Command, tmp_path: Path) -> None:
    """As a table by its ending, or as a picture; other endings are refused."""
    write_png(tmp_path / "t.png", [[255, 0], [0, 0]])
    write_png(tmp_path / "p.png", [[200, 0], [100, 0]])
    base = ("score", "saliency", "--pred", tmp_path / "p.png", "--truth", tmp_path / "t.png", "--curve")
    assert ubertrain(*base, tmp_path / "curve.csv").code == 0
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 256
    assert [float(rows[150][key]) for key in ("precision", "recall")] == [1, 1]
    refused = ubertrain(*base, tmp_path / "curve.doc")
    assert (refused.code, "curve.doc: a curve is written as .csv" in refused.err) == (2, True)
    lost = ubertrain(*base, tmp_path / "nowhere" / "curve.csv", "--json")
    assert (lost.code, "nowhere/curve.csv" in lost.err, lost.json["scores"]["maxF"]) == (2, True, 1)
    pytest.importorskip("matplotlib")
    assert ubertrain(*base, tmp_path / "curve.png").code == 0
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width > 400


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("segmentation", "--classes", 2), "no prediction for 'c'"),
        (("segmentation", "--classes", "names.txt"), "'names.txt' is neither a number of classes, nor a file"),
        (("segmentation", "--classes", 0), "'0' is neither a number"),
        (("depth",), "where a 16-bit grey depth map is expected"),
        (("normals", "--axes", "up up up"), "axes of normals are three words"),
        (("boxes",), "neither .xml nor .txt files"),
        (("boundaries", "--tolerance", "inf"), "--tolerance"),
    ],
)
def test_mistakes_end_in_one_message(ubertrain: Command, tmp_path: Path, words: tuple[object, ...], message: str) -> None:
    """Exit code 2 and what to do; nothing on stdout."""
    pred, truth = write_maps(tmp_path)
    if words[0] in ("depth", "normals"):
        write_png(pred / "c.png", [[0, 0]])
    outcome = ubertrain("score", words[0], "--pred", pred, "--truth", truth, *words[1:])
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.out == ""


def test_classes_may_be_named_in_a_file(ubertrain: Command, tmp_path: Path) -> None:
    """A name in every line gives numbers in detections a meaning, and truth its order."""
    write_text(tmp_path, {"names.txt": "tree\nowl\n"})
    write_text(tmp_path / "t", {"a.xml": xml(thing("owl", (1, 1, 8, 8)))})
    write_text(tmp_path / "p", {"a.txt": "1 0.5 0 0 8 8\n0 0.9 0 0 8 8\n"})
    options = ("--classes", tmp_path / "names.txt", "--protocol", "voc07", "--json")
    outcome = ubertrain("score", "boxes", "--pred", tmp_path / "p", "--truth", tmp_path / "t", *options)
    assert outcome.code == 0, outcome.err
    assert outcome.json["classes"]["owl"]["AP11"] == 1
    assert outcome.json["classes"]["tree"]["AP11"] is None


@pytest.mark.parametrize(
    ("option", "known"),
    [
        (commands.Absent, mean_iou.Absent), (commands.Align, depth_errors.Align), (commands.Crop, depth_crops.Crop),
        (commands.Encoding, id_maps.Encoding), (commands.Layout, box_rows.Layout), (commands.Pixels, box_rows.Pixels),
        (commands.Protocol, boxes.Protocol), (score_boundaries.Leniency, semantic_boundary_f.Leniency),
    ],
)  # fmt: skip
def test_options_offer_what_the_library_knows(option: Any, known: Any) -> None:
    """The words that the command line repeats are all there are."""
    assert get_args(option) == get_args(known)


@pytest.mark.slow
def test_processes_do_not_change_a_score(ubertrain: Command, data_root: Path, tmp_path: Path) -> None:
    """Two workers give every digit of one."""
    truth, random = data_root / "CIHP" / "edges", np.random.default_rng(0)
    for file in truth.glob("*.png"):
        edges = np.asarray(Image.open(file))
        write_png(tmp_path / file.name, np.roll(edges, 3, axis=1) * random.integers(0, 256, edges.shape))
    base = ("score", "boundaries", "--pred", tmp_path, "--truth", truth, "--thresholds", 3, "--json", "--workers")
    one, two = (ubertrain(*base, workers) for workers in (1, 2))
    assert one.code == 0, one.err
    assert 0 < one.json["scores"]["ODS"] < 1
    assert one.out == two.out
