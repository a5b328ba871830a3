"""Static bytes, and budgets of the whole device."""

import re
from pathlib import Path

import pytest
import torch

from tests.training.rooms_model import DENSE, made
from ubertrain.engine.engine import Engine
from ubertrain.training import memory
from ubertrain.training.comparison import compare_memory
from ubertrain.training.memory import parse_schedule, static_bytes, whole_budget
from ubertrain.training.optimizer import make_optimizer


@pytest.mark.parametrize("override", ["optimizer.type=sgd", "optimizer.type=adamw", "optimizer.momentum=0"])
def test_static_bytes_are_what_a_step_leaves(tmp_path: Path, override: str) -> None:
    """Weights, gradients and averages weigh what they weigh after a real step; an optimizer's step counters are neglected."""
    model, batch = made(tmp_path, override)
    graph, static = model.graph, static_bytes(model.graph, model.config)
    optimizer = make_optimizer(graph, model.config.optimizer)
    Engine(graph, parse_schedule("keep_all", graph)).forward_backward(batch.images, batch.targets)
    trained = [parameter for parameter in graph.parameters() if parameter.grad is not None]
    optimizer.step()
    averages = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    assert static.parameters == sum(tensor.nbytes for tensor in (*graph.parameters(), *graph.buffers()))
    assert static.gradients >= sum(parameter.nbytes for parameter in trained)
    unused = sum(p.nbytes for p in graph.parameters() if p.requires_grad and p.grad is None)
    assert static.gradients - unused == sum(parameter.nbytes for parameter in trained)
    factor = {"optimizer.type=sgd": 1, "optimizer.type=adamw": 2, "optimizer.momentum=0": 0}[override]
    assert static.optimizer == factor * static.gradients
    assert sum(value.nbytes for value in averages if value.ndim) == factor * (static.gradients - unused)


def test_static_bytes_are_rounded_tensor_by_tensor(tmp_path: Path) -> None:
    """Where memory is handed out in blocks, every tensor takes whole ones."""
    model, _ = made(tmp_path, DENSE)
    blocks = static_bytes(model.graph, model.config, 512)
    assert blocks.parameters == sum(512 * -(-t.nbytes // 512) for t in (*model.graph.parameters(), *model.graph.buffers()))
    assert blocks.gradients % 512 == 0


@pytest.mark.parametrize(("text", "expected"), [("none", None), ("3MiB", 3 * 2**20)])
def test_a_budget_is_a_number_of_bytes_or_none(tmp_path: Path, text: str, expected: int | None) -> None:
    """What the configuration says is what is meant, static bytes included."""
    model, _ = made(tmp_path, DENSE, f"memory.budget={text}")
    assert whole_budget(model.config, model.graph) == expected


def test_auto_is_a_share_of_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are there already; of what is free besides, a part is left to others."""
    model, _ = made(tmp_path, DENSE, "memory.budget=auto")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000 if device.type == "cpu" else 0)
    held = static_bytes(model.graph, model.config).parameters
    assert whole_budget(model.config, model.graph) == held + 700


@pytest.mark.parametrize("text", ["keep_all", "every_k:2", "(res2 res3) [res4] res5 | segmentation rows=2, depth, normals"])
def test_a_schedule_is_named_or_written(tmp_path: Path, text: str) -> None:
    """Names stand for schedules of the graph at hand; a text is taken as it is."""
    model, _ = made(tmp_path, DENSE)
    schedule = parse_schedule(text, model.graph)
    assert schedule.stages == model.graph.stage_names
    assert re.fullmatch(r"keep_all|every_k:2", text) or str(schedule) == text


def test_the_comparison_grows_with_plain_autograd_alone(tmp_path: Path) -> None:
    """With more tasks on one tap plain autograd takes more, the step by schedule does not, and the graph is left alone."""
    heads = {f"depth{i}": "{type: depth, taps: [res3], width: 8}" for i in range(3)}
    model, batch = made(tmp_path, f"tasks={{{', '.join(f'{name}: {text}' for name, text in heads.items())}}}")
    before = {name: tensor.clone() for name, tensor in model.graph.state_dict().items()}
    one, two, three = compare_memory(model.graph, parse_schedule("every_k:2", model.graph), batch)
    assert [one.tasks, two.tasks, three.tasks] == [1, 2, 3]
    assert three.autograd > two.autograd > one.autograd >= one.ours
    assert three.ours - two.ours == 4, "one more loss, a float"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.graph.state_dict().items())
    assert all(parameter.grad is None for parameter in model.graph.parameters())
