"""Parts: what differs from a segmentation."""

import pytest
import torch

from ubertrain.annotation import Parts as PartsKind
from ubertrain.metrics import PartsIoU
from ubertrain.tasks.parts import Parts
from ubertrain.tasks.segmentation import Segmentation


def test_it_reads_a_label_of_its_own() -> None:
    """So that a segmentation may stand beside it."""
    assert Parts(classes=3).label == PartsKind.key != Segmentation(classes=3).label
    assert (Parts.name, Segmentation.name) == ("parts", "segmentation")


@pytest.mark.parametrize(
    ("classes", "background"),
    [(3, 0), (["background", "head"], 0), (["head", "Background"], 1), (["head", "torso"], 0)],
)
def test_the_background_is_found_by_name(classes: object, background: int) -> None:
    """Or is the first class; images of it alone do not count."""
    metric = Parts(classes=classes).metric()
    assert isinstance(metric, PartsIoU)
    metric.update(torch.zeros(1, len(metric.names), 2, 2), torch.full((1, 2, 2), background))
    assert not metric.sums.any()


def test_absent_classes_count_as_asked() -> None:
    """As in a segmentation."""
    scores = {}
    for absent in ("left_out", "zero"):
        metric = Parts(classes=4, absent=absent).metric()
        metric.update(torch.eye(4)[torch.tensor([[[0, 1]]])].permute(0, 3, 1, 2), torch.tensor([[[0, 1]]]))
        scores[absent] = metric.compute()["mIoU"]
    assert scores == {"left_out": 1, "zero": 0.5}


def test_it_learns_from_images_without_a_part() -> None:
    """They are labelled: background everywhere."""
    loss = Parts(classes=3).loss(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64))
    assert loss.item() > 1
