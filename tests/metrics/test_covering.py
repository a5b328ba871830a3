"""Sizes of predictions and labels that belong together, and such that do not."""

import pytest
import torch

from ubertrain.errors import DataError
from ubertrain.metrics import AngularError, BoundaryF, DepthErrors, MeanIoU, Metric, SaliencyF, SemanticBoundaryF
from ubertrain.metrics.covering import covering


@pytest.mark.parametrize("size", [(64, 96), (50, 73), (32, 64), (49, 73), (56, 78)])
def test_rounding_to_a_stride_is_cut_or_continued(size: tuple[int, int]) -> None:
    """Pixels stay where they are."""
    prediction = torch.rand(2, *size)
    fitted = covering(prediction, torch.zeros(2, 52, 75))
    assert fitted.shape == (2, 52, 75)
    assert torch.equal(fitted[:, :32, :64], prediction[:, :32, :64])


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((2, 120, 75), ()),
        ((2, 26, 37), ()),
        ((2, 26, 75), ()),
        ((2, 0, 75), ()),
        ((2, 52, 107), ()),
        ((1, 52, 75), ()),
        ((2, 1, 52, 75), ()),
        ((52, 75), ()),
        ((2, 52, 75), (3,)),
        ((2, 4, 52, 75), (3,)),
    ],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], channels: tuple[int, ...]) -> None:
    """A map of half the resolution, of other rows or of other channels would be scored against the wrong pixels."""
    with pytest.raises(DataError, match="bring predictions to the size of their image"):
        covering(torch.zeros(shape), torch.zeros(2, 52, 75), channels=channels)


@pytest.mark.parametrize(
    ("metric", "prediction", "target"),
    [
        (MeanIoU(2), (2,), ()),
        (SaliencyF(), (), ()),
        (DepthErrors(), (), ()),
        (AngularError(), (3,), (3,)),
        (BoundaryF(thresholds=1), (), (4,)),
        (SemanticBoundaryF("ab", thresholds=1), (2,), (2,)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Metric) else "",
)
def test_no_metric_takes_a_map_of_another_resolution(
    metric: Metric, prediction: tuple[int, ...], target: tuple[int, ...]
) -> None:
    """Not even where its border would be repeated over three quarters of the image."""
    labels = torch.ones(
        1, *target, 80, 96, dtype=torch.float32 if isinstance(metric, DepthErrors | AngularError) else torch.int64
    )
    metric.update(torch.ones(1, *prediction, 80, 96), labels)
    with pytest.raises(DataError, match="bring predictions to the size of their image"):
        metric.update(torch.ones(1, *prediction, 40, 48), labels)
    with pytest.raises(DataError, match="bring predictions to the size of their image"):
        metric.update(torch.ones(1, *prediction, 10, 12), labels[..., :20, :24])
