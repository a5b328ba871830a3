"""Schedules for budgets, also of batches that label some of the tasks."""

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch

from tests.training.rooms_model import DENSE, made
from ubertrain.data.batch import Batch
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import BudgetError, ConfigError
from ubertrain.planning.front import front
from ubertrain.planning.plan import plan
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import simulate
from ubertrain.training import planner as module
from ubertrain.training.build import Model
from ubertrain.training.memory import static_bytes
from ubertrain.training.planner import Planner, make_planner


def measured(graph: Graph, schedule: Schedule, batch: Batch) -> int:
    """The peak of a real step."""
    graph.zero_grad(set_to_none=True)
    with LiveBytes() as meter:
        Engine(graph, schedule).forward_backward(batch.images, batch.targets)
    return meter.peak


def smallest(folder: Path, *overrides: str) -> int:
    """The smallest feasible budget of the whole device, as the error for one that is too small names it."""
    model, batch = made(folder, *overrides, "memory.budget=1000")
    with pytest.raises(BudgetError, match=r"a memory.budget of 1000 B(, of which| is too small:) weights, ") as caught:
        make_planner(model.config, model.graph, batch)
    assert caught.value.smallest is not None
    assert f"{caught.value.smallest} bytes" in str(caught.value)
    return caught.value.smallest


def fitted(folder: Path, share: float = 0.0) -> tuple[Model, Batch, Planner, int]:
    """The dense experiment in a budget between the smallest feasible (0) and what plain autograd needs (1)."""
    least = smallest(folder, DENSE)
    model, batch = made(folder, DENSE, f"memory.budget={least}")
    planner = make_planner(model.config, model.graph, batch)
    if share:
        assert planner.chain is not None
        static = static_bytes(model.graph, model.config).total
        budget = int(least + share * (planner.chain.plain_peak + static - least))
        model, batch = made(folder, DENSE, f"memory.budget={budget}")
        return model, batch, make_planner(model.config, model.graph, batch), budget
    return model, batch, planner, least


def test_the_smallest_feasible_budget_is_feasible(tmp_path: Path) -> None:
    """A real step by the schedule for it needs no more than it, static bytes included, and at most a hundredth less."""
    model, batch, planner, budget = fitted(tmp_path)
    whole = static_bytes(model.graph, model.config).total + measured(model.graph, planner.schedule, batch)
    assert 0.99 * budget <= whole <= budget


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_every_set_of_tasks_fits_the_budget(tmp_path: Path, share: float) -> None:
    """Whatever tasks a batch labels, on whichever images, a real step by its schedule stays within the budget."""
    model, batch, planner, budget = fitted(tmp_path, share)
    left = budget - static_bytes(model.graph, model.config).total
    for count in (1, 2, 3):
        for tasks in combinations(batch.targets, count):
            for rows in ((0, 1, 2, 3), (1, 2)):
                targets = {task: Labels(batch.targets[task].part(0, len(rows)), rows) for task in tasks}
                part = Batch(batch.images, targets, batch.ids)
                assert measured(model.graph, planner.schedule_for(tasks), part) <= left


def test_fewer_tasks_are_planned_with_what_they_leave(tmp_path: Path) -> None:
    """One task alone is never more work by its own schedule than by the one for all; without a greedy branch it is less."""
    chain = fitted(tmp_path)[2].chain
    assert chain is not None
    greedy = chain.branches[1]
    need = 2 * chain.stages[0].whole.kept
    greedy = replace(greedy, first_peak=need, later_peak=need, one_row=None)
    chain = replace(chain, branches=(chain.branches[0], greedy, *chain.branches[2:]))
    spared = []
    for point in front(chain):
        planner = Planner(point.schedule, chain, point.peak_bytes)
        own, full = (simulate(chain.only(["normals"]), s) for s in (planner.schedule_for(["normals"]), point.schedule))
        spared.append(full.work - own.work)
    assert min(spared) == 0 < max(spared)


def test_a_simulation_that_is_short_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the numbers are too small, the rehearsal notices, and schedules are planned in less until one fits."""
    model, batch, right, budget = fitted(tmp_path, 0.1)
    assert right.chain is not None
    first, *others = right.chain.stages
    whole = replace(first.whole, kept=first.whole.kept // 4, backward_peak=first.whole.backward_peak // 4)
    chain = replace(right.chain, stages=(replace(first, whole=whole), *others))
    monkeypatch.setattr(module, "remembered", lambda *args, **options: chain)
    left = budget - static_bytes(model.graph, model.config).total
    assert measured(model.graph, plan(chain, left), batch) > left, "else there is nothing to make up for"
    planner = make_planner(model.config, model.graph, batch)
    assert measured(model.graph, planner.schedule, batch) <= left
    assert planner.rehearsed is not None
    assert planner.rehearsed.peak_bytes <= left


def test_a_set_of_tasks_is_planned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in which tasks are named does not matter, and all tasks, or none, have the full schedule."""
    _, _, planner, _ = fitted(tmp_path)
    first = planner.schedule_for(["depth", "normals"])
    monkeypatch.setattr(module, "plan", None)
    assert planner.schedule_for(["normals", "depth"]) is first
    assert planner.schedule_for(["segmentation", "normals", "depth"]) is planner.schedule
    assert planner.schedule_for([]) is planner.schedule


def test_nothing_is_measured_for_fewer_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new set of tasks costs arithmetic alone: no tensor is made, not even one without memory."""
    _, _, planner, _ = fitted(tmp_path)
    for name in ("remembered", "fit"):
        monkeypatch.setattr(module, name, None)
    with LiveBytes() as meter:
        planner.schedule_for(["depth"])
    assert meter.peak == 0


def test_without_a_budget_there_is_one_schedule(tmp_path: Path) -> None:
    """Nothing is recomputed, or what is written down, whatever a batch labels."""
    model, _ = made(tmp_path, DENSE)
    planner = make_planner(model.config, model.graph, None)
    assert set(planner.schedule.recomputed().values()) == {0}
    assert planner.schedule_for(["depth"]) is planner.schedule
    model, _ = made(tmp_path, DENSE, "memory.schedule='every_k:2'")
    assert str(make_planner(model.config, model.graph, None).schedule).startswith("(res2 res3)")


def test_what_was_found_can_be_adopted(tmp_path: Path) -> None:
    """A planner that adopts answers as the other did, though its own schedules would be others."""
    _, _, tight, _ = fitted(tmp_path)
    _, _, loose, _ = fitted(tmp_path, 0.9)
    every = [("depth",), ("depth", "normals", "segmentation")]
    before = [loose.schedule_for(tasks) for tasks in every]
    answers = [tight.schedule_for(tasks) for tasks in every]
    assert before != answers
    loose.adopt(tight.found())
    assert [loose.schedule_for(tasks) for tasks in every] == answers


def test_more_budget_is_never_more_work(tmp_path: Path) -> None:
    """The front falls, and its first point is the smallest feasible budget."""
    model, _, planner, least = fitted(tmp_path)
    assert planner.chain is not None
    points = front(planner.chain)
    assert [point.work for point in points] == sorted((point.work for point in points), reverse=True)
    assert points[0].peak_bytes + static_bytes(model.graph, model.config).total == least


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
    model, batch = made(tmp_path, DENSE, f"memory.schedule='{text}'")
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_planner(model.config, model.graph, batch)


def test_the_error_names_the_moment_and_the_keys(tmp_path: Path) -> None:
    """Which part of the step needs most, and what to write instead, batch and size as they are now."""
    model, batch = made(tmp_path, DENSE, "memory.budget=1000")
    with pytest.raises(BudgetError) as caught:
        make_planner(model.config, model.graph, batch)
    text = str(caught.value)
    assert text.startswith("--set memory.budget=1000: a memory.budget of 1000 B")
    assert re.search(r"on top, at '(forward|recompute|recompute and backward|backward|branch) \w+'", text)
    assert "data.batch (now 4)" in text
    assert "data.size (now [48, 64])" in text


def test_planning_leaves_random_numbers_alone(tmp_path: Path) -> None:
    """A run draws the same with a budget and without."""
    model, batch = made(tmp_path, DENSE, "memory.budget=1GiB")
    before = torch.get_rng_state()
    make_planner(model.config, model.graph, batch).schedule_for(["depth"])
    assert torch.equal(before, torch.get_rng_state())


def test_a_budget_may_be_met_by_fewer_images_at_a_time(tmp_path: Path) -> None:
    """With memory.split_batch, and modules that keep images apart, a budget that no whole batch fits is met, to the byte."""
    apart = ("tasks={depth: {taps: [res3], width: 8}}", "trunk={name: resnet18, width: 0.25, norm: group}")
    whole, split = smallest(tmp_path, *apart), smallest(tmp_path, *apart, "memory.split_batch=true")
    assert split < whole
    model, batch = made(tmp_path, *apart, "memory.split_batch=true", f"memory.budget={split}")
    planner = make_planner(model.config, model.graph, batch)
    assert planner.schedule.rows is not None
    assert static_bytes(model.graph, model.config).total + measured(model.graph, planner.schedule, batch) <= split
