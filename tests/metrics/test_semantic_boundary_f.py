"""Scores of boundaries by class against the SBD benchmark's own numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ubertrain.errors import DataError
from ubertrain.metrics import BoundaryF, SemanticBoundaryF

_NAMES = "threshold recall precision F OIS_recall OIS_precision OIS area AP"


def _fixture(root: Path) -> tuple[Tensor, Tensor, Path]:
    """Predictions of persons and what SBD says of them, each cut to one size; and the reference results."""
    pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")
    from ubertrain.data.sbd import Sbd

    folder = root / "bench" / "SBD_bench"
    reader = Sbd(str(folder / "datadir"), "val")
    predictions, truths = torch.full((2, 1, 371, 500), torch.nan, dtype=torch.float64), torch.full((2, 1, 371, 500), 255)
    for row, name in enumerate(reader.ids):
        values = np.asarray(Image.open(folder / "indir" / "class_015" / f"{name}.bmp"), dtype=np.float64) / 255
        predictions[row, 0, : len(values)] = torch.from_numpy(values)
        truths[row, 0, : len(values)] = reader.read(row).annotations["semantic_edges"][14]
    return predictions, truths.to(torch.uint8), folder / "outdir"


@pytest.mark.slow
def test_the_benchmarks_figures_are_reproduced(data_root: Path) -> None:
    """Every count at 99 thresholds within one pixel of its MATLAB code's, and every score within 0.0005."""
    predictions, truths, results = _fixture(data_root)
    whole = SemanticBoundaryF(["person"])
    for row, name in enumerate(("2008_000051", "2008_000195")):
        part = SemanticBoundaryF(["person"])
        part.update(predictions[row : row + 1], truths[row : row + 1])
        counts = part.sums[0, [3, 2, 1, 0], :-1].T.numpy()
        np.testing.assert_allclose(counts, np.loadtxt(results / f"{name}_ev1.txt")[:, 1:], atol=1)
        whole.merge(part)
    wanted = dict(zip(_NAMES.split(), np.loadtxt(results / "eval_bdry.txt"), strict=True))
    given = {**whole.compute(), **whole.by_class()["person"]}
    assert given["MF"] == given["F"]
    assert {name: given[name] for name in wanted if name in given} == pytest.approx(
        {name: value for name, value in wanted.items() if name in given}, abs=5e-4
    )


def _random(rows: int, classes: int) -> tuple[Tensor, Tensor]:
    target = (torch.rand(rows, classes, 20, 24) < 0.1).to(torch.uint8)
    target[torch.rand(target.shape) < 0.2] = 2
    return torch.rand(rows, classes, 20, 24), target


def test_without_leniency_a_class_is_scored_as_boundaries_are() -> None:
    """One annotator, same tolerance: the same counts, class by class."""
    answer, target = _random(2, 3)
    metric = SemanticBoundaryF("abc", tolerance=0.05, leniency="none", nms=True)
    metric.update(answer, target)
    for index in range(3):
        alone = BoundaryF(tolerance=0.05)
        alone.update(answer[:, index], (target[:, index : index + 1] == 1).to(torch.uint8))
        assert torch.equal(metric.sums[index], alone.sums)


def test_what_lies_inside_of_an_object_is_excused() -> None:
    """Unless it is near its boundary; outside nothing is."""
    target = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    target[..., 5:35, 5:35] = 2
    target[..., 5, 5:35] = 1
    answer = (target == 1).float()
    answer[..., 30, 5:35] = 1  # deep inside
    lenient, strict = SemanticBoundaryF("a", thresholds=1), SemanticBoundaryF("a", thresholds=1, leniency="none")
    lenient.update(answer, target)
    strict.update(answer, target)
    assert (lenient.compute()["MF"], strict.by_class()["a"]["precision"]) == (1, 0.5)
    answer[..., 38, 5:35] = 1  # outside
    lenient.update(answer, target)
    assert lenient.by_class()["a"]["precision"] == pytest.approx(60 / 90)


def test_images_without_a_class_count_only_without_leniency() -> None:
    """Then what is drawn on them is wrong."""
    answer, target = torch.ones(2, 1, 9, 9), torch.zeros(2, 1, 9, 9, dtype=torch.uint8)
    target[0, 0, 4] = 1
    lenient, strict = SemanticBoundaryF("a", thin=False), SemanticBoundaryF("a", thin=False, leniency="none")
    lenient.update(answer, target)
    strict.update(answer, target)
    assert (float(lenient.sums[0, 0, 0]), float(strict.sums[0, 0, 0])) == (81, 162)


def test_classes_that_the_truth_never_shows_are_left_out() -> None:
    """Of all means; without any class the scores are nan, also where nothing is known."""
    answer, target = _random(1, 2)
    target[:, 1] = 255
    metric = SemanticBoundaryF("ab", leniency="none")
    metric.update(answer, target)
    assert metric.compute()["MF"] == metric.by_class()["a"]["F"] > 0
    assert math.isnan(metric.by_class()["b"]["F"])
    empty = SemanticBoundaryF("ab", leniency="none")
    empty.update(answer, torch.full_like(target, 255))
    assert all(math.isnan(value) for value in empty.compute().values())


def test_merging_parts_gives_the_sums_of_the_whole() -> None:
    """Exactly, since they are counts."""
    answer, target = _random(3, 2)
    whole, first, second = (SemanticBoundaryF("ab") for _ in range(3))
    whole.update(answer, target)
    first.update(answer[:1], target[:1])
    second.update(answer[1:], target[1:])
    first.merge(second)
    assert torch.equal(first.sums, whole.sums)


def test_other_classes_than_the_tasks_are_refused() -> None:
    """And so are numbers that are no probabilities."""
    answer, target = _random(1, 2)
    with pytest.raises(DataError, match="2 planes of semantic edges in the labels; the task has 3 classes"):
        SemanticBoundaryF("abc").update(answer, target)
    with pytest.raises(DataError, match="from 0 to 1"):
        SemanticBoundaryF("ab").update(answer * torch.nan, target)


def test_its_own_constant_is_scored() -> None:
    """Lines as dense as each class is drawn."""
    answer, target = _random(2, 2)
    metric = SemanticBoundaryF("ab", leniency="none")
    constant = metric.constant()
    constant.observe(target)
    metric.update(constant.prediction(target), target)
    assert 0 < metric.compute()["MF"] < 1
