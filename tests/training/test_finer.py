"""A trunk in smaller stages."""

from pathlib import Path

import pytest
import torch

from tests.training.rooms_model import DENSE, made
from ubertrain.engine.engine import Engine
from ubertrain.errors import BudgetError
from ubertrain.planning.keep_all import keep_all
from ubertrain.training.planner import make_planner


def step(folder: Path, *overrides: str) -> tuple[dict[str, torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Losses, gradients and buffers of one step that keeps everything."""
    model, batch = made(folder, DENSE, *overrides)
    graph = model.graph
    torch.manual_seed(0)
    losses = Engine(graph, keep_all(graph.stage_names, list(graph.branches))).forward_backward(batch.images, batch.targets)
    gradients = [parameter.grad for parameter in graph.parameters() if parameter.grad is not None]
    return losses, gradients, list(graph.buffers())


@pytest.mark.parametrize(
    "trunk",
    ["name: resnet18, width: 0.25", "name: resnet18, width: 0.25, frozen: [stem, res2]", "name: vgg16, width: 0.25",
     "name: efficientnet_lite0, frozen: [stem]"],
)  # fmt: skip
def test_finer_stages_do_the_same(tmp_path: Path, trunk: str) -> None:
    """Losses, gradients and buffers of a step are the same bits, with frozen stages as without."""
    coarse, fine = (step(tmp_path, f"trunk={{{trunk}}}", f"memory.finer={finer}") for finer in ("false", "true"))
    assert {name: loss.item() for name, loss in coarse[0].items()} == {name: loss.item() for name, loss in fine[0].items()}
    for ours, others in zip(fine[1:], coarse[1:], strict=True):
        key = [sorted((value.double().sum().item(), *value.shape) for value in values) for values in (ours, others)]
        assert key[0] == key[1]


def test_a_frozen_stage_stays_whole_and_frozen(tmp_path: Path) -> None:
    """It is one stage under its own name, which training mode does not reach."""
    model, _ = made(tmp_path, DENSE, "trunk={name: resnet18, width: 0.25, frozen: [stem, res2]}", "memory.finer=true")
    model.graph.train()
    assert model.graph.stage_names[:3] == ("stem", "res2.0", "res2.1")
    norms = [module for module in model.graph.stage("res2.0").modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert any(name.startswith("res3.0.") for name in model.graph.stage_names)


def test_finer_stages_need_less(tmp_path: Path) -> None:
    """The smallest feasible budget of a trunk of blocks is lower when they are cut inside."""
    least, one = [], "tasks={depth: {taps: [res3], width: 8}}"
    for finer in ("false", "true"):
        model, batch = made(tmp_path, one, "trunk={name: resnet18, width: 0.5}", f"memory.finer={finer}", "memory.budget=9")
        with pytest.raises(BudgetError) as caught:
            make_planner(model.config, model.graph, batch)
        assert caught.value.smallest is not None
        least.append(caught.value.smallest)
    assert least[1] < least[0]
