"""Static bytes, candidate schedules, and budgets of the whole device."""

import re
from pathlib import Path

import pytest
import torch

from tests.rooms import write_config, write_rooms
from ubertrain.data.batch import Batch
from ubertrain.data.scenes import Scenes
from ubertrain.engine.engine import Engine
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import BudgetError, ConfigError, DataError
from ubertrain.training.build import Model, make_model, make_readers, prepare
from ubertrain.training.comparison import compare_memory
from ubertrain.training.config import load
from ubertrain.training.memory import candidates, choose_schedule, full_batch, parse_schedule, static_bytes
from ubertrain.training.optimizer import make_optimizer


def made(folder: Path, *overrides: str) -> tuple[Model, Batch]:
    """The room experiment's model, and its fullest batch."""
    root = folder / "data"
    config = load(write_config(folder, root if root.exists() else write_rooms(root)), overrides)
    prepare(config)
    readers = make_readers(config, "train")
    model = make_model(config, readers)
    return model, full_batch(model.config, model.tasks, readers)


def test_the_fullest_batch_labels_every_image_for_every_task(tmp_path: Path) -> None:
    """Although no image on the disk has all labels, each row of the batch does."""
    model, batch = made(tmp_path)
    assert batch.images.shape == (4, 3, 48, 64)
    assert {task: labels.positions(4, task) for task, labels in batch.targets.items()} == dict.fromkeys(
        model.tasks, [0, 1, 2, 3]
    )


def test_a_label_that_no_sample_carries_is_an_error(tmp_path: Path) -> None:
    """A task that would never be trained is named by its label."""
    write_rooms(tmp_path / "data", parts=(("boxes", "class_map", "depth", "normals"),))
    with pytest.raises(DataError, match="no sample of the training sets rooms carries the label 'edges'"):
        made(tmp_path)


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


def test_candidates_are_rehearsed_to_the_byte(tmp_path: Path) -> None:
    """The peak of a candidate is that of a real step by its schedule; keeping all recomputes nothing, spans of one all."""
    model, batch = made(tmp_path, "tasks={depth: {taps: [res3], width: 8}}")
    found = {candidate.name: candidate for candidate in candidates(model.graph, batch)}
    assert found["keep_all"].recompute == 0
    assert found["every_k:1"].recompute == 1
    for name in ("keep_all", "every_k:2"):
        model.graph.zero_grad(set_to_none=True)
        with LiveBytes() as meter:
            Engine(model.graph, found[name].schedule).forward_backward(batch.images, batch.targets)
        assert meter.peak == found[name].peak_bytes
    assert found["every_k:2"].peak_bytes < found["keep_all"].peak_bytes


def test_a_budget_is_met_or_the_smallest_is_named(tmp_path: Path) -> None:
    """A real step by the schedule for the smallest feasible budget takes exactly that budget, static bytes included."""
    task = "tasks={depth: {taps: [res3], width: 8}}"
    model, batch = made(tmp_path, task, "memory.budget=1000")
    with pytest.raises(BudgetError, match="a budget of 1000 B is too small") as caught:
        choose_schedule(model.config, model.graph, batch)
    smallest = int(re.findall(r"(\d+) bytes", str(caught.value))[-1])
    enough, _ = made(tmp_path, task, f"memory.budget={smallest}")
    engine = Engine(enough.graph, choose_schedule(enough.config, enough.graph, batch))
    with LiveBytes() as meter:
        engine.forward_backward(batch.images, batch.targets)
    assert static_bytes(enough.graph, enough.config).total + meter.peak == smallest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("every_k", "memory.schedule: 'every_k' lacks its number of stages; write it like \"every_k:2\""),
        ("every_k:0", "memory.schedule: every_k needs at least one stage a span, got k=0"),
        ("(stem", "memory.schedule: this ( is never closed"),
    ],
)
def test_a_schedule_that_is_none_is_named(tmp_path: Path, text: str, message: str) -> None:
    """A schedule that does not parse is a mistake in the configuration."""
    model, batch = made(tmp_path, f"memory.schedule='{text}'")
    with pytest.raises(ConfigError, match=re.escape(message)):
        choose_schedule(model.config, model.graph, batch)


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


def test_a_budget_is_fitted_to_the_fullest_label(tmp_path: Path) -> None:
    """The boxes of the batch that stands for all are those of the image with most of them."""
    model, _ = made(tmp_path, "tasks={boxes: {taps: [res3], width: 8, channels: 8}}")
    rooms = Scenes(images=6, size=(48, 64), keep="boxes")
    counts = [len(rooms.read(index).annotations["boxes"]["boxes"]) for index in range(len(rooms))]
    batch = full_batch(model.config, model.tasks, {"rooms": rooms})
    assert batch.targets["boxes"].value["boxes"].shape[1] == max(counts) > counts[0]
