"""Parameter groups and the learning rate over a run."""

import pytest
import torch
from torch import nn

from ubertrain.training.config import LrScheduleConfig, OptimizerConfig
from ubertrain.training.optimizer import lr_factor, make_optimizer, set_lr


class Model(nn.Module):
    """A trunk and one head, each with a weight, a bias and a norm; one parameter is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.heads = nn.ModuleDict({"depth": nn.Conv2d(4, 1, 1)})
        self.trunk[1].bias.requires_grad_(False)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_groups_follow_part_and_shape(kind: str) -> None:
    """Heads have their own learning rate, vectors do not decay, frozen parameters are left out."""
    model = Model()
    optimizer = make_optimizer(model, OptimizerConfig(type=kind, lr=0.1, head_lr=10, weight_decay=0.5))
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    expected = {
        "trunk.0.weight": (0.1, 0.5), "trunk.0.bias": (0.1, 0.0), "trunk.1.weight": (0.1, 0.0),
        "heads.depth.weight": (1.0, 0.5), "heads.depth.bias": (1.0, 0.0),
    }  # fmt: skip
    assert found == {id(model.get_parameter(name)): setting for name, setting in expected.items()}


@pytest.mark.parametrize(
    ("kind", "factors"),
    [
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ("poly", [1 / 3, 2 / 3, 1, 0.75**2, 0.5**2, 0.25**2]),
        ("cosine", [1 / 3, 2 / 3, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),
    ],
)
def test_the_learning_rate_climbs_then_falls(kind: str, factors: list[float]) -> None:
    """Warm-up is a line that ends at the top; then the schedule runs over the steps that are left."""
    config = LrScheduleConfig(type=kind, warmup=2, power=2)
    assert [lr_factor(config, step, 6) for step in range(6)] == pytest.approx(factors)


def test_every_group_keeps_its_own_top() -> None:
    """Setting the factor scales each group from its own top, any number of times."""
    optimizer = make_optimizer(Model(), OptimizerConfig(lr=0.1, head_lr=10))
    set_lr(optimizer, 0.5)
    set_lr(optimizer, 0.25)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.025, 0.25])
    assert isinstance(optimizer, torch.optim.SGD)
