from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.tasks.box_targets import SIZE, TARGET, head_of, levels, truth
from ubertrain.errors import DataError
from ubertrain.ops.assign import assign
from ubertrain.ops.boxes import encode, iou
from ubertrain.tasks.boxes import Boxes
from ubertrain.tasks.faster_rcnn import FasterRCNN
from ubertrain.tasks.region_features import Views


def perfect(head: FasterRCNN, target: Mapping[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the second stage the right answer for every box that overlaps an object by half or more."""

    def answer(seen: Views, boxes: Tensor) -> tuple[Tensor, Tensor]:
        labels = assign(boxes, truth(target), positive=0.5, negative=0.5)
        nearest = labels.truth
        classes = torch.where(labels.positive, target["classes"].gather(1, nearest) + 1, 0)
        wanted = encode(target["boxes"].gather(1, nearest[..., None].expand(-1, -1, 4)), boxes)
        hot = F.one_hot(classes, head.regions.settings.classes + 1)
        own = wanted[:, :, None] * hot[..., 1:, None] + 9.0 * (1 - hot[..., 1:, None])
        return hot * 30.0, wanted[:, :, None] if head.regions.settings.agnostic else own

    monkeypatch.setattr(head.regions, "forward", answer)


@pytest.mark.parametrize("agnostic", [True, False])
def test_perfect_regions_cost_nothing(agnostic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second stage that knows class and offset has a loss of 0; it sees at least the objects themselves as positive.

    Where each class has an offset of its own, those of the other classes do not matter.
    """
    head = head_of(Boxes(classes=3, agnostic=agnostic))
    proposals, real = torch.rand(3, 20, 4) * 10, torch.ones(3, 20, dtype=torch.bool)
    proposals[..., 2:] += proposals[..., :2]
    chance = torch.rand(3, 20 + TARGET["boxes"].shape[1])
    boxes, used, labels = head.regions.choose(proposals, real, truth(TARGET), chance)
    assert (labels.positive & used).sum(dim=1).tolist() == [2, 0, 1]
    seen = Views(values := levels(), head.pyramid(values))
    untrained = head.regions.losses(seen, proposals, real, truth(TARGET), chance)
    perfect(head, TARGET, monkeypatch)
    losses = head.regions.losses(seen, proposals, real, truth(TARGET), chance)
    assert losses.max() < 1e-6 < 0.1 < untrained.min()


def test_perfect_regions_score_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the second stage is right about every proposal and the proposals cover the image, average precision is 1."""
    task = Boxes(classes=3, detections=20)
    head = head_of(task).eval()
    perfect(head, TARGET, monkeypatch)
    corners = torch.cartesian_prod(
        torch.arange(0.0, 90, 8), torch.arange(0.0, 60, 8), torch.tensor([24.0, 40]), torch.tensor([32.0, 56])
    )
    proposals = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], dim=1).expand(3, -1, 4)
    found = head.regions.detect(Views([], []), proposals, torch.ones(proposals.shape[:2], dtype=torch.bool), SIZE)
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "boxes": (3, 20, 4),
        "scores": (3, 20),
        "classes": (3, 20),
    }
    assert (found["classes"] >= 0).sum(dim=1).tolist() == [2, 0, 1]
    assert (found["scores"][found["classes"] < 0] == 0).all() and (found["boxes"][found["classes"] < 0] == 0).all()
    metric = task.metric()
    metric.update(found, TARGET)
    assert metric.compute()["AP"] == 1.0


def test_detections_below_the_threshold_are_dropped() -> None:
    """An untrained head, whose classes are about equally likely, detects nothing above 1/2 and much above 1/10."""
    for min_score, some in ((0.5, False), (0.1, True)):
        found = head_of(Boxes(classes=3, min_score=min_score)).eval()(levels())
        assert bool((found["classes"] >= 0).any()) == some
        assert (found["scores"][found["classes"] >= 0] > min_score).all()


def test_detections_of_a_class_do_not_overlap() -> None:
    """After suppression no two detections of one class overlap by more than `nms`; those of two classes may."""
    found = head_of(Boxes(classes=3, min_score=0.01, nms=0.4)).eval()(levels())
    for boxes, classes, scores in zip(found["boxes"], found["classes"], found["scores"], strict=True):
        count = int((classes >= 0).sum())
        overlap = iou(boxes, boxes)[:count, :count].fill_diagonal_(0)
        same = classes[:count, None] == classes[None, :count]
        assert (overlap[same] <= 0.4 + 1e-6).all() and overlap.max() > 0.4
        assert (scores[:count].diff() <= 0).all()


def test_padding_is_not_detected() -> None:
    """What is no proposal is never detected."""
    head, values = head_of(Boxes(classes=3, min_score=0.0)).eval(), levels()
    boxes, real = torch.zeros(3, 20, 4), torch.zeros(3, 20, dtype=torch.bool)
    found = head.regions.detect(Views(values, head.pyramid(values)), boxes, real, SIZE)
    assert (found["classes"] == -1).all()


def test_what_is_no_number_is_detected() -> None:
    """A diverged network's scores come out as they are, and its metric refuses them."""
    task, values = Boxes(classes=3), levels()
    head = head_of(task).eval()
    values[0].data[1] = torch.nan
    found = head(values)
    assert found["scores"][1].isnan().any() and not found["scores"][[0, 2]].isnan().any()
    with pytest.raises(DataError, match="image 1 of 3"):
        task.metric().update(found, TARGET)


def test_hard_negatives_alone() -> None:
    """With `background_from`, boxes far from every object are not sampled; in an image without objects all may be."""
    proposals = torch.tensor([[60.0, 5.0, 70.0, 12.0], [8.0, 8.0, 40.0, 15.0]]).expand(3, 2, 4)
    for least, used_rows in ((0.0, [4, 2, 3]), (0.1, [3, 2, 2])):
        head = head_of(Boxes(classes=3, background_from=least, region_samples=8, positives=1.0))
        chance = torch.rand(3, 2 + TARGET["boxes"].shape[1])
        _, used, _ = head.regions.choose(proposals, torch.ones(3, 2, dtype=torch.bool), truth(TARGET), chance)
        assert used.sum(dim=1).tolist() == used_rows


@pytest.mark.parametrize(("positives", "most"), [(0.25, 4), (0.5, 8), (1.0, 16)])
def test_the_part_of_objects_is_limited(positives: float, most: int) -> None:
    """At most so large a part of the sampled regions are objects; negatives fill the rest where there are any."""
    head = head_of(Boxes(classes=3, region_samples=16, positives=positives))
    box = TARGET["boxes"][:1, :1]
    proposals = torch.cat([box.expand(1, 30, 4), torch.zeros(1, 30, 4) + torch.tensor([70.0, 40.0, 90.0, 60.0])], dim=1)
    one = {name: values[:1] for name, values in TARGET.items()}
    chance = torch.rand(1, 60 + one["boxes"].shape[1])
    _, used, labels = head.regions.choose(proposals, torch.ones(1, 60, dtype=torch.bool), truth(one), chance)
    assert used.all() and int((labels.positive & used).sum()) == most
