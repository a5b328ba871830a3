"""What a step costs is known without computing it, and in seconds with."""

import copy
import json

import pytest
import torch
from torch import nn

from tests.zoo import BATCH, Case, plain, two_tasks
from ubertrain.engine.branch import Branch
from ubertrain.engine.graph import Graph
from ubertrain.engine.labels import Labels
from ubertrain.engine.meter import LiveBytes
from ubertrain.errors import ConfigError
from ubertrain.measuring.estimate import estimate
from ubertrain.measuring.profile import profile
from ubertrain.measuring.work import Work, flops
from ubertrain.planning.chain import Chain

WIDTHS = (8, 8, 8)


@pytest.fixture
def case() -> Case:
    """Three stages of convolution, batch norm and ReLU; three tasks."""
    return two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)]), WIDTHS)


def flops_chain(case: Case, **changes: object) -> Chain:
    """The chain of the case in FLOPs."""
    return estimate(case.graph, case.images, case.targets, **{"cost": "flops", **changes})  # type: ignore[arg-type]


def test_plain_autograd_is_measured_as_it_runs(case: Case) -> None:
    """Peak and FLOPs of plain autograd are those of the real step."""
    chain, graph = flops_chain(case), copy.deepcopy(case.graph)
    with LiveBytes() as meter, Work(flops) as work:
        sum(graph.losses(case.images, case.targets).values()).backward()
    assert chain.plain_peak == meter.peak
    assert chain.plain_work == pytest.approx(work.total, rel=1e-3)


def test_the_parts_make_the_whole(case: Case) -> None:
    """Stages and branches by themselves do the work of the step."""
    chain = flops_chain(case)
    parts = sum(s.forward + s.whole.backward for s in chain.stages) + sum(b.work for b in chain.branches)
    assert parts == pytest.approx(chain.plain_work, rel=1e-2)


def test_bytes_of_a_stage_are_those_of_its_tensors(case: Case) -> None:
    """The convolution's output and the ReLU's, which is the batch norm's too, are kept; a recompute runs no more than all."""
    size = BATCH * 8 * 8 * 8 * 4
    for number, stage in enumerate(flops_chain(case).stages):
        assert stage.output == ((number, size),)
        assert stage.gradient == size
        assert 2 * size <= stage.whole.kept < 2 * size + 1000
        assert stage.products is None or 2 * size <= stage.products.kept <= stage.whole.kept
        assert stage.partial == pytest.approx(stage.forward, rel=1e-3)


def test_a_stage_that_hands_a_tensor_on_makes_only_the_other() -> None:
    """Of a tuple the tensor that was there before belongs to the stage that made it."""

    class Doubles(nn.Module):
        def forward(self, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return value, value * 2

    class Adds(nn.Module):
        def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return pair[0] + pair[1]

    trunk = {"first": nn.Conv2d(3, 4, 1), "doubles": Doubles(), "adds": Adds()}
    head = nn.Sequential(nn.Flatten(), nn.Linear(256, 1))
    branch = Branch(Only(head), ["adds"], lambda prediction, target: (prediction - target).square().mean(1))
    chain = estimate(Graph(trunk, {"t": branch}), torch.rand(2, 3, 8, 8), {"t": torch.rand(2, 1)}, cost="flops")
    size = 2 * 4 * 8 * 8 * 4
    assert chain.stages[1].output == ((0, size), (1, size))
    assert chain.stages[1].gradient == 2 * size


class Only(nn.Module):
    """A head on one level."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        return self.module(levels[0])


def test_a_shape_is_enough(case: Case) -> None:
    """A shape, a batch without memory and a real batch give the same chain."""
    chain = flops_chain(case)
    targets = {task: Labels.of(target) for task, target in case.targets.items()}
    empty = {task: Labels(labels.value.to("meta"), labels.rows) for task, labels in targets.items()}
    for images in (tuple(case.images.shape), case.images.to("meta")):
        assert estimate(case.graph, images, empty, cost="flops") == chain


def test_a_graph_without_memory_is_measured(case: Case) -> None:
    """A graph on the meta device has the chain of a real one."""
    assert estimate(copy.deepcopy(case.graph).to("meta"), case.images, case.targets, cost="flops") == flops_chain(case)


def test_nothing_is_touched(case: Case) -> None:
    """Parameters, buffers, gradients and random numbers stay; nothing of the step's size is allocated."""
    before, state = copy.deepcopy(case.graph.state_dict()), torch.get_rng_state()
    flops_chain(case)
    profile(case.graph, case.images, case.targets, repeats=1)
    assert all(torch.equal(value, before[name]) for name, value in case.graph.state_dict().items())
    assert all(parameter.grad is None for parameter in case.graph.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_rounding_rounds_every_storage_up(case: Case) -> None:
    """With multiples of 512 bytes no figure falls, and every output is one."""
    exact, rounded = flops_chain(case), flops_chain(case, rounding=512)
    for left, right in zip(exact.stages, rounded.stages, strict=True):
        assert right.whole.kept >= left.whole.kept
        assert all(size % 512 == 0 for _, size in right.output)
    assert rounded.plain_peak > exact.plain_peak


def test_seconds_are_a_device_s(case: Case) -> None:
    """A faster device takes less time, and the bytes stay."""
    slow, fast = (flops_chain(case, cost=name) for name in ("t4", "h100"))
    assert slow.unit == fast.unit == "seconds"
    assert 0 < fast.plain_work < slow.plain_work
    assert [stage.whole.kept for stage in slow.stages] == [stage.whole.kept for stage in fast.stages]


def test_an_unknown_device_is_refused(case: Case) -> None:
    """The error names the nearest device."""
    with pytest.raises(ConfigError, match="h100"):
        flops_chain(case, cost="h10")


def test_a_profile_has_the_bytes_of_the_estimate_and_real_seconds(case: Case) -> None:
    """Only work differs; it is positive wherever something runs."""
    chain, timed = flops_chain(case), profile(case.graph, case.images, case.targets, repeats=1)
    assert timed.unit == "seconds" and timed.plain_peak == chain.plain_peak
    for left, right in zip(chain.stages, timed.stages, strict=True):
        assert (left.output, left.whole.kept, left.tail_peak) == (right.output, right.whole.kept, right.tail_peak)
        assert right.forward > 0 and right.whole.backward > 0 and 0 <= right.partial <= right.forward
    assert all(branch.work > 0 for branch in timed.branches)


def test_only_labelled_branches_and_the_stages_they_need_are_measured(case: Case) -> None:
    """A batch that labels the lowest tap alone needs one stage."""
    chain = estimate(case.graph, case.images, {"low": case.targets["low"]}, cost="flops")
    assert [stage.name for stage in chain.stages] == ["s0"]
    assert chain.unused == ("s1", "s2")
    assert [branch.task for branch in chain.branches] == ["low"] and chain.order == tuple(case.graph.branches)


def test_a_measured_chain_survives_json(case: Case) -> None:
    """What is read back is what was measured."""
    chain = flops_chain(case)
    assert Chain.from_dict(json.loads(json.dumps(chain.to_dict()))) == chain
