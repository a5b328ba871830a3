"""Semantic boundaries: loss, head, picture, and the contract."""

from typing import Any

import numpy as np
import pytest
import torch

from ubertrain.annotation.palette import class_colour
from ubertrain.engine.level import Level
from ubertrain.errors import ConfigError
from ubertrain.ops.boundary_losses import class_boundary_loss
from ubertrain.registry import TASKS
from ubertrain.tasks.semantic_boundaries import SemanticBoundaries
from ubertrain.testing import check_task


def test_inside_is_no_boundary_and_unknown_is_nothing() -> None:
    """0 and 2 are learned alike, 255 not at all."""
    target, logits = torch.randint(0, 3, (2, 3, 6, 7)).to(torch.uint8), torch.randn(2, 3, 6, 7, requires_grad=True)
    target[:, :, 0], target[0, 1] = 255, 255
    loss = SemanticBoundaries(classes=3).loss(logits, target)
    torch.testing.assert_close(loss, class_boundary_loss(logits, target == 1, (target == 0) | (target == 2)))
    loss.sum().backward()
    assert logits.grad is not None and not logits.grad[:, :, 0].any() and not logits.grad[0, 1].any()


@pytest.mark.parametrize("width", [0, 16])
def test_a_new_head_is_undecided(width: int) -> None:
    """It answers a probability near 1/2 for each class at the resolution of the image."""
    answer = SemanticBoundaries(classes=5, width=width).make_head([Level(8, 4)]).eval()([torch.randn(2, 8, 4, 4)])
    assert answer.shape == (2, 5, 16, 16)
    assert (answer - 0.5).abs().mean().item() < 0.15


@pytest.mark.parametrize("keys", [{"classes": 3}, {"classes": ["cat", "dog"], "width": 0, "leniency": "none"}])
def test_it_keeps_the_contract(keys: dict[str, Any]) -> None:
    """Shapes, gradients, missing labels, determinism, narrow runs, scores."""
    check_task(SemanticBoundaries(**keys))


def test_it_is_found_by_name() -> None:
    """With its keys, and the benchmark's metric at a third of the thresholds."""
    task = TASKS.make("semantic_boundaries", "a.yaml:1", classes=["cat", "dog"], tolerance=0.01)
    metric = task.metric()
    assert (metric.primary, metric.names, metric.tolerance) == ("MF", ("cat", "dog"), 0.01)  # type: ignore[attr-defined]


@pytest.mark.parametrize("keys", [{"classes": 0}, {"classes": 255}, {"classes": 2, "tolerance": 1.0}])
def test_keys_that_mean_nothing_are_refused(keys: dict[str, Any]) -> None:
    """The message names the task."""
    with pytest.raises(ConfigError, match="semantic_boundaries"):
        SemanticBoundaries(**keys)


def test_the_picture_has_the_strongest_classes_colours() -> None:
    """On white, as dark as they are probable, and cut to the image."""
    answer = torch.zeros(2, 4, 8)
    answer[1, 1], answer[0, 1], answer[0, 2] = 1.0, 0.5, 1.0
    picture = SemanticBoundaries(classes=2).draw(np.zeros((3, 6, 3), np.uint8), answer)
    assert picture.shape == (3, 6, 3)
    assert [picture[y, 0].tolist() for y in range(3)] == [[255] * 3, list(class_colour(2)), list(class_colour(1))]
