"""One step of the engine against plain autograd on the same graph: the same bits, over the zoo and all shapes of schedule."""

import copy
import pickle
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.zoo import ZOO, Case, narrow, schedules
from ubertrain.engine.engine import Engine
from ubertrain.engine.graph import Graph
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ScheduleError
from ubertrain.measuring.rehearse import rehearse
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import Schedule


def build(name: str) -> Case:
    """The architecture, always with the same weights and batch."""
    torch.manual_seed(7)
    return ZOO[name]()


PAIRS = [(name, str(schedule)) for name in ZOO for schedule in schedules(build(name).graph)]


def seed(number: int) -> None:
    """Seed torch, numpy and Python."""
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def random_states() -> list[bytes]:
    """The states of the global generators of torch, numpy and Python."""
    return [torch.get_rng_state().numpy().tobytes(), pickle.dumps(np.random.get_state()), pickle.dumps(random.getstate())]


def plain_step(case: Case) -> tuple[Graph, dict[str, Tensor], list[bytes]]:
    """The graph, losses and random states after one step of plain autograd."""
    graph = copy.deepcopy(case.graph)
    seed(1)
    with case.forward_context():
        losses = graph.losses(case.images, case.targets)
        total = sum(losses.values())
    if isinstance(total, Tensor) and total.requires_grad:
        total.backward()
    return graph, losses, random_states()


def engine_step(case: Case, schedule: str) -> tuple[Graph, dict[str, Tensor], list[bytes]]:
    """The same after one step of the engine."""
    graph = copy.deepcopy(case.graph)
    seed(1)
    with case.forward_context():
        losses = Engine(graph, Schedule.parse(schedule)).forward_backward(case.images, case.targets)
    return graph, losses, random_states()


def same(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """The names under which two dicts of tensors (or None) differ in any bit."""
    assert left.keys() == right.keys()
    return [
        name
        for name, value in left.items()
        if (value is None) != (right[name] is None) or (value is not None and not torch.equal(value, right[name]))
    ]


WRITES_INTO_PRODUCTS = {
    "in_place_relu",
    "one_tap_read_twice",
    "zero_weight",
    "divided_by_the_batch",
    "stages_of_dicts",
    "parameters_shared_between_branches",
    "bfloat16_autocast_with_dropout_and_sharing",
    "integer_input",
    "a_loss_with_a_parameter",
    "a_loss_that_needs_its_head",
    "an_unused_level_and_an_unused_parameter",
}
"""Architectures with an in-place ReLU right behind a convolution or a linear layer."""


def refused(name: str, schedule: str) -> bool:
    """Whether the schedule keeps products that the architecture overwrites; brackets that end a span keep nothing."""
    return name in WRITES_INTO_PRODUCTS and re.search(r"\](?!\))", schedule) is not None


@pytest.mark.parametrize(("name", "schedule"), [pair for pair in PAIRS if refused(*pair)])
def test_products_that_are_overwritten_are_refused(name: str, schedule: str) -> None:
    """A product that an in-place operation writes into is an error that names its stage, never a wrong gradient."""
    with pytest.raises(ScheduleError, match=r"in stage \[\w+\] is kept, but then written into"):
        engine_step(build(name), schedule)


@pytest.mark.parametrize(("name", "schedule"), [pair for pair in PAIRS if not refused(*pair)])
def test_gradients_losses_buffers_and_random_numbers_are_those_of_plain_autograd(name: str, schedule: str) -> None:
    """Losses, every .grad (None included), every buffer and the random states agree bit for bit."""
    case = build(name)
    graph, losses, states = plain_step(case)
    ours, our_losses, our_states = engine_step(case, schedule)
    assert same(dict(losses), our_losses) == []
    grads = [{name: p.grad for name, p in g.named_parameters()} for g in (graph, ours)]
    assert same(*grads) == []
    assert same(dict(graph.named_buffers()), dict(ours.named_buffers())) == []
    assert states == our_states


@pytest.mark.parametrize("name", ZOO)
def test_zoo_steps_do_something(name: str) -> None:
    """Every architecture trains at least one parameter, unless it is frozen altogether."""
    graph, losses, _ = plain_step(build(name))
    trained = [p for p in graph.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert losses
    assert bool(trained) == (name != "frozen_altogether")


TORCH_LIMITS = {
    "recurrent_stage": "torch's fake LSTM is decomposed, the real one is one fused operator with a workspace",
    "batch_norm_cumulative": "batch norm with momentum=None reads its counter as a number, which a fake run does not have",
    "bfloat16_autocast": "torch's fake batch norm under mixed precision has bfloat16 statistics, the real one float32",
    "bfloat16_autocast_with_a_stage_used_twice": "as bfloat16_autocast",
}


def limited(name: str) -> Any:
    """The name, expected to fail where torch's fake operators differ from the real ones."""
    marks = pytest.mark.xfail(strict=True, reason=TORCH_LIMITS[name]) if name in TORCH_LIMITS else ()
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [limited(name) for name in ZOO])
def test_rehearsed_peak_is_the_measured_peak(name: str) -> None:
    """The peak of a run on fake tensors equals that of the real run, to the byte."""
    case = build(name)
    chosen = [*list(schedules(case.graph))[::7], *list(narrow(case.graph))[::3]]
    for schedule in (keep_all(case.graph.stage_names, case.graph.branches), *chosen):
        if refused(name, str(schedule)):
            continue
        graph = copy.deepcopy(case.graph)
        with case.forward_context():
            expected = rehearse(graph, schedule, case.images, case.targets)
            with LiveBytes() as meter:
                Engine(graph, schedule).forward_backward(case.images, case.targets)
        assert meter.peak == expected
