import math

import pytest
import torch

from tests.metrics.box_scenes import A, fill, found, scored, truth
from ubertrain.errors import DataError
from ubertrain.metrics.box_ap import BoxAP
from ubertrain.metrics.found_boxes import BoxMetric
from ubertrain.metrics.voc_ap import VocAP

METRICS = pytest.mark.parametrize("cls", [BoxAP, VocAP])


@METRICS
@pytest.mark.parametrize("images", [[], [truth()], [truth((A, 0, True))]])
def test_without_any_object_there_is_no_score(cls: type[BoxMetric], images: list[dict[str, torch.Tensor]]) -> None:
    """With nothing to find, every score is nan, whatever was detected."""
    scores = scored(cls(1), *((found((A, 0, 0.9)), image) for image in images))
    assert scores and all(math.isnan(value) for value in scores.values())


@METRICS
def test_nothing_detected_scores_nothing(cls: type[BoxMetric]) -> None:
    """The constant answer is no box at all, and its score is 0."""
    metric, target = cls(1), truth((A, 0, False))
    assert scored(metric, (metric.constant().prediction(target), target))[metric.primary] == 0


@METRICS
def test_parts_merge_to_the_whole_in_any_order(cls: type[BoxMetric]) -> None:
    """Metrics fed with single images and merged backwards score as the whole does."""
    whole, merged = cls(4), cls(4)
    fill(whole)
    for prediction, target in reversed(list(zip(whole.detections, whole.truths, strict=True))):
        part = cls(4)
        part.detections, part.truths = [prediction], [target]
        merged.merge(part)
    assert merged.compute() == pytest.approx(whole.compute(), nan_ok=True)


def test_a_label_that_is_no_class_is_refused() -> None:
    """A class id outside of the task is an error, not a box that nobody can find."""
    with pytest.raises(DataError, match="class id 3 in the labels; the task has 3 classes"):
        BoxAP(3).update(found(), truth((A, 3, False)))


def test_a_detection_that_is_no_class_is_refused() -> None:
    """So is one among detections, which would count for nothing."""
    with pytest.raises(DataError, match="class id 4 in the detections; the task has 3 classes"):
        VocAP(3).update(found((A, 4, 0.5)), truth((A, 2, False)))


@pytest.mark.parametrize("entry", ["boxes", "scores"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_detections_that_are_not_finite_are_refused(entry: str, value: float) -> None:
    """A diverged network is told about, not scored 0; what stands in padding does not matter."""
    table = found((A, 0, 0.5))
    table[entry][0, 3] = value
    BoxAP(1).update(table, truth((A, 0, False)))
    table[entry][0, 0] = value
    with pytest.raises(DataError, match="image 0 of 1: a detection's box or score is not finite"):
        BoxAP(1).update(table, truth((A, 0, False)))


def test_detections_of_other_images_are_refused() -> None:
    """As many images of detections as of labels."""
    with pytest.raises(DataError, match="detections of 1 images for the labels of 2"):
        VocAP(1).update(found(), {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in truth().items()})
