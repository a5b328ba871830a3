"""Boundary matching against a search over all pairs of pixels, and against the BSDS benchmark's own numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ubertrain.metrics import BoundaryF
from ubertrain.ops.ridges import ridges


def _by_search(strength: np.ndarray, planes: np.ndarray, radius: float, threshold: float) -> tuple[int, int, int, int]:
    """Predicted, of these matched, drawn, of these matched, with every distance computed."""
    known = (planes != 255).any(axis=0)
    predicted = np.argwhere((strength >= threshold) & known)

    def near(points: np.ndarray, others: np.ndarray) -> int:
        return sum(bool(len(others)) and bool((((others - point) ** 2).sum(axis=1) <= radius**2).any()) for point in points)

    drawn = [np.argwhere(plane == 1) for plane in planes]
    matched = near(predicted, np.concatenate(drawn))
    return len(predicted), matched, sum(map(len, drawn)), sum(near(points, predicted) for points in drawn)


def _drawings(rows: int, annotators: int, height: int, width: int) -> Tensor:
    planes = (torch.rand(rows, annotators, height, width) < 0.05).to(torch.uint8)
    planes[0, :, :, : width // 4] = 255
    planes[0, -1] = 255
    return planes


@pytest.mark.parametrize("tolerance", [0.01, 0.05, 0.12])
@pytest.mark.parametrize("thin", [False, True])
def test_counts_equal_a_search_over_all_pairs(tolerance: float, thin: bool) -> None:
    """At several thresholds, for several annotators, with unknown pixels."""
    target, answer = _drawings(2, 3, 18, 24), torch.rand(2, 18, 24)
    metric = BoundaryF(tolerance=tolerance, thin=thin)
    metric.update(answer, target)
    strength = (ridges(answer) if thin else answer).numpy()
    for percent in (1, 20, 50, 77, 99):
        threshold = np.float32(torch.tensor(percent) / 100)
        wanted = [_by_search(strength[row], target[row].numpy(), tolerance * 30, threshold) for row in range(2)]
        assert metric.sums[0, :, percent - 1].tolist() == np.sum(wanted, axis=0).tolist()


def test_f_is_the_best_over_thresholds_of_the_pooled_counts() -> None:
    """And precision, recall and threshold are those of that place."""
    target, answer = _drawings(3, 2, 20, 20), torch.rand(3, 20, 20)
    metric = BoundaryF(tolerance=0.04)
    metric.update(answer, target)
    predicted, right, drawn, found = metric.sums[0].numpy()
    precision, recall = right / predicted, found / drawn
    f = 2 * precision * recall / (precision + recall)
    best = int(f.argmax())
    scores = metric.compute()
    assert scores["F"] == pytest.approx(f.max())
    assert (scores["precision"], scores["recall"]) == pytest.approx((precision[best], recall[best]))
    assert scores["threshold"] == pytest.approx((best + 1) / 100)


def test_f_image_takes_the_best_threshold_of_each_image() -> None:
    """Two images whose predictions have another scale: no common threshold serves both, their own ones do."""
    target = torch.zeros(2, 1, 40, 40, dtype=torch.uint8)
    target[:, :, 20] = 1
    answer = torch.stack([torch.full((40, 40), 0.3), torch.zeros(40, 40)])
    answer[0, 20], answer[1, 20] = 0.9, 0.2
    metric = BoundaryF(thin=False)
    metric.update(answer, target)
    scores = metric.compute()
    assert scores["F_image"] == 1
    assert scores["F"] == pytest.approx(2 / 3)  # half of the line is found at 0.9


def test_an_image_without_boundaries_is_at_its_best_left_empty() -> None:
    """For F_image; what is drawn on it at lower thresholds is not held against it."""
    target = torch.zeros(2, 1, 40, 40, dtype=torch.uint8)
    target[0, 0, 20] = 1
    answer = torch.stack([target[0, 0].float(), torch.full((40, 40), 0.5)])
    metric = BoundaryF(thin=False)
    metric.update(answer, target)
    assert metric.compute()["F_image"] == 1


def test_the_drawing_itself_scores_one() -> None:
    """Thinned or not."""
    y, x = torch.meshgrid(torch.arange(96) - 47.5, torch.arange(96) - 47.5, indexing="ij")
    ring = ((x**2 + y**2).sqrt() - 30).abs() < 0.6
    for thin in (False, True):
        metric = BoundaryF(thin=thin)
        metric.update(ring[None].float(), ring[None, None].to(torch.uint8))
        assert metric.compute()["F"] == 1


@pytest.mark.parametrize(("shift", "found"), [(0, 1.0), (4, 1.0), (5, 0.0)])
def test_a_line_is_matched_up_to_the_tolerance(shift: int, found: float) -> None:
    """0.0075 of the diagonal of a BSDS image is 4.3 pixels."""
    target, answer = torch.zeros(1, 1, 321, 481, dtype=torch.uint8), torch.zeros(1, 321, 481)
    target[..., 100, :], answer[:, 100 + shift] = 1, 1.0
    metric = BoundaryF()
    metric.update(answer, target)
    assert metric.compute()["F"] == found


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
    """A score of nothing found is told from a score of nothing to find."""
    target = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    nothing = BoundaryF()
    nothing.update(torch.rand(1, 8, 8), target)
    assert math.isnan(nothing.compute()["F"])
    target[0, 0, 4] = 1
    missed = BoundaryF()
    missed.update(torch.zeros(1, 8, 8), target)
    assert missed.compute()["F"] == 0


def test_matching_by_distance_scores_above_the_benchmark(data_root: Path) -> None:
    """On the benchmark's five images, at its threshold 1/6: both shares are at least the official ones, F by less than 0.1."""
    matlab = pytest.importorskip("scipy.io")
    folder = data_root / "bench" / "BSDS500_bench"
    metric = BoundaryF()
    for file in sorted((folder / "png").glob("*.png")):
        cells = matlab.loadmat(folder / "groundTruth" / f"{file.stem}.mat")["groundTruth"]
        planes = np.stack([cells[0, k]["Boundaries"][0, 0] for k in range(cells.shape[1])]).astype(np.uint8)
        strength = np.asarray(Image.open(file), dtype=np.float32) / 255
        metric.update(torch.from_numpy(strength)[None], torch.from_numpy(planes)[None])
    predicted, right, drawn, found = metric.sums[0, :, 16].tolist()  # 0.17
    recall, precision, f = 0.60236, 0.848723, 0.704628  # test_2/eval_bdry.txt
    assert found / drawn >= recall
    assert right / predicted >= precision
    assert f <= metric.compute()["F"] < f + 0.1
