"""Scores of boundaries against the BSDS benchmark's own numbers, and against its procedure step by step."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics import BoundaryF
from ubertrain.metrics.boundary_counts import boundary_counts, steps
from ubertrain.metrics.boundary_scores import area, average_precision, best, own_best, shares
from ubertrain.ops.matching import matched
from ubertrain.ops.ridges import ridges
from ubertrain.ops.thinning import thinned

_HEAD, _BODY = "ODS_threshold recall precision ODS OIS_recall OIS_precision OIS AP", "threshold recall precision F"


def _fixture(root: Path, thresholds: int) -> BoundaryF:
    """The benchmark's five images, scored."""
    matlab = pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")
    folder, metric = root / "bench" / "BSDS500_bench", BoundaryF(thresholds=thresholds, nms=False)
    for file in sorted((folder / "png").glob("*.png")):
        cells = matlab.loadmat(folder / "groundTruth" / f"{file.stem}.mat")["groundTruth"]
        planes = np.stack([cells[0, k]["Boundaries"][0, 0] for k in range(cells.shape[1])]).astype(np.uint8)
        strength = np.asarray(Image.open(file), dtype=np.float64) / 255
        metric.update(torch.from_numpy(strength)[None], torch.from_numpy(planes)[None])
    return metric


def test_the_benchmarks_figures_are_reproduced(data_root: Path) -> None:
    """ODS, OIS, AP, each with its precision and recall, and the whole curve, as its MATLAB code wrote them: within 0.001."""
    metric, results = _fixture(data_root, 5), data_root / "bench" / "BSDS500_bench" / "test_2"
    wanted = dict(zip(_HEAD.split(), np.loadtxt(results / "eval_bdry.txt"), strict=True))
    _, precision, recall = shares(metric.sums.numpy()[:, -1:])
    given = metric.compute() | {"OIS_precision": float(precision[0]), "OIS_recall": float(recall[0])}
    given["ODS_threshold"] = given.pop("threshold")
    assert given == pytest.approx(wanted, abs=1e-3)
    curve = np.array([[point[name] for name in _BODY.split()] for point in metric.curve()])
    np.testing.assert_allclose(curve, np.loadtxt(results / "eval_bdry_thr.txt"), atol=1e-3)


def test_thresholds_fall_on_the_side_of_the_benchmarks() -> None:
    """A grey value of 85 of 255 is below the second of five thresholds, by the last bit; so says the curve above."""
    assert steps(5)[1] > 85 / 255
    assert steps(99)[19] <= 51 / 255


def _drawings(rows: int, annotators: int, height: int, width: int) -> Tensor:
    planes = (torch.rand(rows, annotators, height, width) < 0.05).to(torch.uint8)
    planes[0, :, :, : width // 4] = 255
    planes[0, -1] = 255
    return planes


@pytest.mark.parametrize("thin", [False, True])
def test_counts_are_those_of_the_procedure_step_by_step(thin: bool) -> None:
    """One threshold and one annotator at a time, though many thresholds leave the same pixels and are matched once."""
    strength, planes = torch.rand(18, 24).mul(12).round().div(12).numpy(), _drawings(2, 3, 18, 24)[1].numpy() == 1
    excused = np.zeros((18, 24), bool)
    excused[5:9] = True
    thresholds = steps(33)
    counts = boundary_counts(strength, planes, 1.8, thresholds, thin=thin, excused=excused)
    for column, threshold in zip(counts.T, thresholds, strict=True):
        map_ = strength >= threshold
        map_ = (thinned(map_) if thin else map_) & ~excused
        hits = np.stack([matched(map_[None], plane, 1.8)[0] for plane in planes])
        assert column.tolist() == [map_.sum(), hits.any(axis=0).sum(), planes.sum(), hits.sum()]


def test_many_large_maps_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the parts give what the whole gives."""
    strength, planes = np.random.default_rng(0).random((18, 24)), _drawings(2, 3, 18, 24)[1].numpy() == 1
    whole = boundary_counts(strength, planes, 1.8, steps(20))
    monkeypatch.setattr("ubertrain.metrics.boundary_counts._PIXELS", 3 * strength.size)
    assert (boundary_counts(strength, planes, 1.8, steps(20)) == whole).all()


def test_the_best_f_lies_between_thresholds() -> None:
    """Precision and recall of neighbours are connected by lines: from (1, 0.2) to (0.2, 1), F is largest in the middle."""
    counts = np.array([[100.0, 100.0], [20, 100], [100, 100], [100, 20]])
    top = best(counts, np.array([0.4, 0.6]))
    assert top == pytest.approx((0.6, 0.6, 0.6, 0.5), abs=0.006)
    assert own_best(counts) == 1  # of two equal ones the stricter


def test_areas_of_a_curve_by_hand() -> None:
    """BSDS's interpolates precision in recall and begins at the least; SBD's takes the best precision from there on."""
    counts = np.array([[10.0, 10.0, 10.0], [5.0, 8.0, 6.0], [10.0, 10.0, 10.0], [8.0, 4.0, 4.0]])
    line = [0.6 + (0.5 - 0.6) * (recall - 40) / 40 for recall in range(40, 81)]  # the last of equal recalls begins it
    assert area(counts) == pytest.approx(sum(line) / 100)
    assert average_precision(counts) == pytest.approx((41 * 0.8 + 40 * 0.5) / 101)
    assert area(counts[:, 1:]) == 0  # a single recall spans nothing


def test_each_image_may_have_its_own_threshold() -> None:
    """Two images whose predictions have another scale: no common threshold serves both, their own ones do."""
    target = torch.zeros(2, 1, 40, 40, dtype=torch.uint8)
    target[:, :, 20] = 1
    answer = torch.stack([torch.full((40, 40), 0.3), torch.zeros(40, 40)])
    answer[0, 20], answer[1, 20] = 0.9, 0.2
    metric = BoundaryF(nms=False, thin=False)
    metric.update(answer, target)
    scores = metric.compute()
    assert scores["OIS"] == 1
    assert scores["ODS"] == pytest.approx(2 / 3)  # half of the lines are found at 0.9


def test_an_image_without_boundaries_is_at_its_best_left_empty() -> None:
    """For OIS; what is drawn on it at lower thresholds is not held against it."""
    target = torch.zeros(2, 1, 40, 40, dtype=torch.uint8)
    target[0, 0, 20] = 1
    answer = torch.stack([target[0, 0].float(), 0.5 * target[0, 0]])
    metric = BoundaryF(nms=False)
    metric.update(answer, target)
    assert metric.compute()["OIS"] == 1


@pytest.mark.parametrize("nms", [False, True])
def test_the_drawing_itself_scores_one(nms: bool) -> None:
    """Reduced to its ridges or not."""
    y, x = torch.meshgrid(torch.arange(96) - 47.5, torch.arange(96) - 47.5, indexing="ij")
    ring = ((x**2 + y**2).sqrt() - 30).abs() < 0.5
    metric = BoundaryF(nms=nms)
    metric.update(ring[None].float(), torch.from_numpy(thinned(ring.numpy()))[None, None].to(torch.uint8))
    assert metric.compute()["ODS"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("shift", "found"), [(0, 1.0), (4, 1.0), (5, 0.0)])
def test_a_line_is_matched_up_to_the_tolerance(shift: int, found: float) -> None:
    """0.0075 of the diagonal of a BSDS image is 4.3 pixels."""
    target, answer = torch.zeros(1, 1, 321, 481, dtype=torch.uint8), torch.zeros(1, 321, 481)
    target[..., 100, :], answer[:, 100 + shift] = 1, 1.0
    metric = BoundaryF(thresholds=3, nms=False)
    metric.update(answer, target)
    assert metric.compute()["ODS"] == found


def test_blurred_answers_are_as_good_as_their_ridges() -> None:
    """A line eight pixels wide counts once: what one-to-one matching would charge for it is not charged."""
    target = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    target[:, :, 32] = 1
    answer = torch.exp(-(((torch.arange(64) - 32) / 4) ** 2))[None, :, None].expand(1, 64, 64)
    metric = BoundaryF(tolerance=0.03)
    metric.update(answer, target)
    assert metric.compute()["ODS"] > 0.95


def test_what_surrounds_an_image_changes_nothing() -> None:
    """Rows and columns that no annotator knows are not part of the image: no diagonal grows, no line fades."""
    target, answer = _drawings(3, 2, 30, 40)[1:], torch.rand(2, 30, 40)
    padded = torch.full((2, 2, 50, 60), 255, dtype=torch.uint8)
    around = torch.full((2, 50, 60), torch.nan)
    padded[..., 7:37, 11:51], around[:, 7:37, 11:51] = target, answer
    first, second = BoundaryF(), BoundaryF()
    first.update(answer, target)
    second.update(around, padded)
    assert torch.equal(first.sums, second.sums)


def test_a_missing_annotator_does_not_lower_recall() -> None:
    """Planes of 255 fill up a batch; they are not drawings without boundaries."""
    target, answer = _drawings(2, 2, 16, 16), torch.rand(2, 16, 16)
    more = torch.cat([target, torch.full_like(target, 255)], dim=1)
    first, second = BoundaryF(), BoundaryF()
    first.update(answer, target)
    second.update(answer, more)
    assert torch.equal(first.sums, second.sums)


def test_merging_parts_gives_the_sums_of_the_whole() -> None:
    """Exactly, since they are counts."""
    target, answer = _drawings(3, 2, 16, 16), torch.rand(3, 16, 16)
    whole, first, second = BoundaryF(), BoundaryF(), BoundaryF()
    whole.update(answer, target)
    first.update(answer[:1], target[:1])
    second.update(answer[1:], target[1:])
    first.merge(second)
    assert torch.equal(first.sums, whole.sums)


def test_no_prediction_scores_zero_and_no_boundary_in_the_labels_nan() -> None:
    """A score of nothing found is told from a score of nothing to find, or of nothing known."""
    target = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    for labels in (target, torch.full_like(target, 255)):
        nothing = BoundaryF()
        nothing.update(torch.rand(1, 8, 8), labels)
        assert all(math.isnan(value) for value in nothing.compute().values())
    target[0, 0, 4] = 1
    missed = BoundaryF()
    missed.update(torch.zeros(1, 8, 8), target)
    scores = missed.compute()
    assert (scores["ODS"], scores["OIS"], scores["AP"]) == (0, 0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.5])
def test_what_is_no_probability_is_refused(value: float) -> None:
    """Where somebody knows the pixel; elsewhere nobody looks."""
    target, answer = torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.rand(1, 8, 8)
    answer[0, 3, 3] = value
    with pytest.raises(DataError, match="from 0 to 1; 1 of 64 are not"):
        BoundaryF().update(answer, target)
    target[0, 0, 3, 3] = 255
    BoundaryF().update(answer, target)


def test_ridges_are_taken_of_the_known_part() -> None:
    """The counts of a map of ridges, taken beforehand, are the same."""
    target, answer = _drawings(2, 3, 30, 40)[1:], torch.rand(1, 30, 40)
    first, second = BoundaryF(), BoundaryF(nms=False)
    first.update(answer, target)
    second.update(ridges(answer.double()), target)
    assert torch.equal(first.sums, second.sums)


@pytest.mark.slow
def test_ninety_nine_thresholds_refine_the_score(data_root: Path) -> None:
    """On the fixture: more thresholds find a better one, and AP is no longer cut off at the first."""
    scores = _fixture(data_root, 99).compute()
    assert (scores["ODS"], scores["OIS"], scores["AP"]) == pytest.approx((0.7627, 0.7863, 0.6945), abs=1e-3)
