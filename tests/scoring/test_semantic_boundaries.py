"""Scores of boundaries of classes on disk."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ubertrain.errors import DataError
from ubertrain.metrics import SemanticBoundaryF
from ubertrain.scoring.pairs import Naming
from ubertrain.scoring.semantic_boundaries import score_semantic_boundaries

_CLASSES = ("cat", "dog")


def _save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values) if path.suffix == ".npy" else Image.fromarray(values).save(path)
    return path


def _random(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction of both classes and its truth, 20 high and 24 wide."""
    random = np.random.default_rng(seed)
    truth = (random.random((2, 20, 24)) < 0.1).astype(np.uint8)
    truth[random.random(truth.shape) < 0.2] = 2
    return random.integers(0, 256, (2, 20, 24)).astype(np.uint8), truth


def test_the_benchmarks_figures_come_from_its_files(data_root: Path) -> None:
    """SBD's fixture, files as they are, at 99 thresholds: each figure within 0.0005 of those of its MATLAB code."""
    pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")
    folder = data_root / "bench" / "SBD_bench"
    score = score_semantic_boundaries(folder / "indir", folder / "datadir")
    threshold, recall, precision, f, _, _, ois, area, ap = np.loadtxt(folder / "outdir" / "eval_bdry.txt")
    assert score.scores == pytest.approx({"MF": f, "AP": ap, "OIS": ois, "area": area}, abs=5e-4)
    wanted = {"F": f, "AP": ap, "area": area, "precision": precision, "recall": recall, "threshold": threshold}
    assert dict(score.classes) == {"person": pytest.approx(wanted, abs=5e-4)}
    assert (score.images, len(score.curve or ())) == (2, 99)
    assert "1 of 20 classes" in score.protocol


def test_boundaries_of_objects_come_from_their_own_files(data_root: Path) -> None:
    """Those between two objects of a class count then, which the protocol tells."""
    pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")
    folder = data_root / "bench" / "SBD_bench"
    by_class, by_object = (
        score_semantic_boundaries(folder / "indir", folder / "datadir", thresholds=1, instances=flag) for flag in (False, True)
    )
    assert by_class.classes["person"]["recall"] != by_object.classes["person"]["recall"]
    assert by_class.protocol.endswith("boundaries of classes") and by_object.protocol.endswith("boundaries of objects")


@pytest.mark.parametrize("layout", ["class_{}", "class_00{}", "names", "stack"])
def test_predictions_lie_in_folders_of_classes_or_in_stacks(tmp_path: Path, layout: str) -> None:
    """All layouts give the scores of the metric, over all images."""
    whole = SemanticBoundaryF(_CLASSES, thresholds=9, tolerance=0.05)
    for seed in range(2):
        values, truth = _random(seed)
        whole.update(torch.from_numpy(values / 255)[None], torch.from_numpy(truth)[None])
        _save(tmp_path / f"truth/{seed}.npy", truth)
        if layout == "stack":
            _save(tmp_path / f"pred/{seed}.npy", values / 255)
            continue
        for index, plane in enumerate(values):
            folder = _CLASSES[index] if layout == "names" else layout.format(index + 1)
            _save(tmp_path / "pred" / folder / f"{seed}.png", plane)
    score = score_semantic_boundaries(tmp_path / "pred", tmp_path / "truth", classes=_CLASSES, thresholds=9, tolerance=0.05)
    assert (score.scores, score.classes, score.images) == (whole.compute(), whole.by_class(), 2)


def test_classes_that_are_not_predicted_are_not_scored(tmp_path: Path) -> None:
    """And the protocol says so."""
    values, truth = _random(0)
    _save(tmp_path / "pred/dog/a.png", values[1])
    _save(tmp_path / "truth/a.npy", truth)
    score = score_semantic_boundaries(tmp_path / "pred", tmp_path / "truth", classes=_CLASSES, thresholds=3)
    assert list(score.classes) == ["dog"] and "1 of 2 classes" in score.protocol


def test_an_image_that_misses_a_class_is_an_error_or_left_out(tmp_path: Path) -> None:
    """As asked; the error names the file that is missing."""
    for name in "ab":
        values, truth = _random(0)
        _save(tmp_path / f"pred/cat/{name}.png", values[0])
        _save(tmp_path / f"truth/{name}.npy", truth)
    _save(tmp_path / "pred/dog/a.png", values[1])
    with pytest.raises(DataError, match="dog/b.png: no prediction of this class, where .*cat/b.png"):
        score_semantic_boundaries(tmp_path / "pred", tmp_path / "truth", classes=_CLASSES, thresholds=3)
    naming = Naming(missing="skip")
    score = score_semantic_boundaries(tmp_path / "pred", tmp_path / "truth", classes=_CLASSES, thresholds=3, naming=naming)
    assert (score.images, list(score.skipped)) == (1, ["b"])


def test_empty_truth_and_empty_predictions_are_defined(tmp_path: Path) -> None:
    """Nothing to find is nan, nothing found 0; what nobody knows is left out."""
    truth = np.zeros((2, 20, 24), np.uint8)
    pred = _save(tmp_path / "a.npy", np.zeros((2, 20, 24)))
    assert math.isnan(
        score_semantic_boundaries(pred, _save(tmp_path / "t.npy", truth), classes=_CLASSES, thresholds=3).scores["MF"]
    )
    truth[:, 5] = 1
    assert score_semantic_boundaries(pred, _save(tmp_path / "t.npy", truth), classes=_CLASSES, thresholds=3).scores["MF"] == 0
    with pytest.raises(DataError, match="no known pixel"):
        score_semantic_boundaries(pred, _save(tmp_path / "t.npy", np.full_like(truth, 255)), classes=_CLASSES)


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (np.full((2, 20, 24), np.nan), np.ones((2, 20, 24)), "a.npy: is nan or infinite at 960 of 960"),
        (np.full((2, 20, 24), 3.0), np.ones((2, 20, 24)), "a.npy: boundary probabilities must be from 0 to 1"),
        (np.zeros((3, 20, 24)), np.ones((2, 20, 24)), "a.npy: has 3 planes; there are 2 classes"),
        (np.zeros((2, 20, 24)), np.ones((3, 20, 24)), "t.npy: has 3 planes; there are 2 classes"),
        (np.zeros((2, 20, 22)), np.ones((2, 20, 24)), "a.npy: is 22 wide and 20 high, its truth .*t.npy is 24 wide"),
        (np.zeros((2, 20, 24)), np.full((2, 20, 24), 0.9), "t.npy: holds 0.9, which is no label"),
        (np.zeros((2, 20, 24)), np.full((2, 20, 24), 7), r"t.npy: semantic edges must be 0, 1 \(boundary\)"),
        (np.zeros((20, 24)), np.ones((2, 20, 24)), r"a.npy: has shape \(20, 24\); expected 3 dimensions"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path: Path, pred: np.ndarray, truth: np.ndarray, message: str) -> None:
    """The file, and what is wrong with it."""
    with pytest.raises(DataError, match=message):
        score_semantic_boundaries(_save(tmp_path / "a.npy", pred), _save(tmp_path / "t.npy", truth), classes=_CLASSES)


def test_masks_of_0_and_1_do_not_score_0(tmp_path: Path) -> None:
    """One of 255 is below any threshold; a class that is black may stand beside it, but not beside one that is seen."""
    truth = np.zeros((2, 20, 24), np.uint8)
    truth[:, 5] = 1
    _save(tmp_path / "truth/a.npy", truth)
    folder = tmp_path / "pred"
    _save(folder / "cat/a.png", 0 * truth[0])
    _save(folder / "dog/a.png", truth[0])
    with pytest.raises(DataError, match="dog/a.png: no pixel is brighter than 1 of 255"):
        score_semantic_boundaries(folder, tmp_path / "truth", classes=_CLASSES, thresholds=3)
    _save(folder / "cat/a.png", 255 * truth[0])
    assert score_semantic_boundaries(folder, tmp_path / "truth", classes=_CLASSES, thresholds=3).scores["MF"] == 0.5


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["horse"], "horse: is named like no class; expected class_001 to class_002"),
        (["dog", "class_2"], "both predictions of 'dog'"),
    ],
)
def test_folders_say_their_class(tmp_path: Path, folders: list[str], message: str) -> None:
    """One each, by number or by name."""
    for name in folders:
        _save(tmp_path / "pred" / name / "a.png", _random(0)[0][0])
    with pytest.raises(DataError, match=message):
        score_semantic_boundaries(tmp_path / "pred", tmp_path, classes=_CLASSES)
