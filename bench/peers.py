"""What else one would write: other ways to take the same step of the same graph, each leaving the gradients in `.grad`."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed_call

import ubertrain as ut
from ubertrain.engine.graph import BranchCall, term

Step = Callable[[ut.Graph, Any, Mapping[str, Any]], None]
"""`step(graph, images, targets)`: forward and backward, with labels of all rows."""


def plain(graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> None:
    """Plain autograd: everything is kept, all branches at once."""
    torch.stack(list(graph.losses(images, targets).values())).sum().backward()


def recompute_each(graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> None:
    """`torch.utils.checkpoint` around every stage and every branch."""
    taps = _trunk(graph, images, _each(graph))
    _backward_of_sum(_losses(graph, taps, targets, recompute=True))


def recompute_segments(graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> None:
    """What `checkpoint_sequential` does: sqrt(stages) segments of equal length, the last of them kept; and every branch."""
    taps = _trunk(graph, images, _segments(graph))
    _backward_of_sum(_losses(graph, taps, targets, recompute=True))


def per_task(graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> None:
    """Branch by branch from detached taps, then one backward through a trunk that keeps everything."""
    _branch_by_branch(graph, _trunk(graph, images, _all(graph)), targets)


def per_task_recompute_each(graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> None:
    """`per_task` with `torch.utils.checkpoint` around every stage."""
    _branch_by_branch(graph, _trunk(graph, images, _each(graph)), targets)


def per_task_recompute_segments(graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> None:
    """`per_task` with the trunk in sqrt(stages) segments."""
    _branch_by_branch(graph, _trunk(graph, images, _segments(graph)), targets)


def torchjd(graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> None:
    """TorchJD's `mtl_backward`, one task at a time, and the sum of its Jacobian's rows.

    What it calls features are views of the taps, one each: no path may lead from one feature to another, or it would count
    twice.
    """
    from torchjd.aggregation import Sum
    from torchjd.autojac import jac_to_grad, mtl_backward

    taps = {name: value.view_as(value) for name, value in _trunk(graph, images, _all(graph)).items()}
    losses = _losses(graph, taps, targets, recompute=False)
    heads = [list(BranchCall(graph, task).parameters()) for task in targets]
    mtl_backward(losses, list(taps.values()), tasks_params=heads, parallel_chunk_size=1)
    jac_to_grad(list(graph.trunk.parameters()), Sum())


PEERS: Mapping[str, Step] = {
    "plain autograd": plain,
    "recompute each stage and branch": recompute_each,
    "recompute sqrt(L) segments and branches": recompute_segments,
    "per task": per_task,
    "per task, recompute each stage": per_task_recompute_each,
    "per task, recompute sqrt(L) segments": per_task_recompute_segments,
    "TorchJD mtl_backward": torchjd,
}


def compiled(budget: float) -> Step:
    """Plain autograd under `torch.compile` with `activation_memory_budget`, which compiles at the first call, for minutes.

    Its backward hands over all gradients at its end, so that the allocator's peak holds them, unlike the other methods'.
    """
    # a code object of its own: what is compiled belongs to that, whatever the budget was
    step = torch.compile(FunctionType(_objective.__code__.replace(), globals()))

    def run(graph: ut.Graph, images: Any, targets: Mapping[str, Any]) -> None:
        with torch._functorch.config.patch(activation_memory_budget=budget):
            step(graph, graph.needed(graph.branches), images, targets).backward()

    return run


def _objective(graph: ut.Graph, stages: Sequence[str], images: Any, targets: Mapping[str, Any]) -> Tensor:
    """Without the checks that `Branch.per_row` makes, at which the compiler would cut its graph."""
    _, taps = _stages(graph, stages, images)
    terms = []
    for task, target in targets.items():
        branch = graph.branches[task]
        assert branch.loss is not None
        prediction = graph.heads[task]([taps[tap] for tap in graph.taps[task]])
        terms.append(branch.loss(prediction, target).mean() * branch.weight)
    return torch.stack(terms).sum()


Part = tuple[tuple[str, ...], bool]
"""Consecutive stages, and whether they are recomputed."""


def _all(graph: ut.Graph) -> list[Part]:
    return [(graph.needed(graph.branches), False)]


def _each(graph: ut.Graph) -> list[Part]:
    """Stage by stage; one without parameters, a pool, goes with the stage before, which needs less."""
    parts: list[tuple[str, ...]] = []
    for name in graph.needed(graph.branches):
        if parts and next(graph.stage(name).parameters(), None) is None:
            parts[-1] += (name,)
        else:
            parts.append((name,))
    return [(part, True) for part in parts]


def _segments(graph: ut.Graph) -> list[Part]:
    stages = graph.needed(graph.branches)
    count = round(math.sqrt(len(stages)))
    size = len(stages) // count
    starts = [size * index for index in range(count)]
    return [(stages[start : start + size], True) for start in starts[:-1]] + [(stages[starts[-1] :], False)]


def _trunk(graph: ut.Graph, images: Any, parts: Sequence[Part]) -> dict[str, Any]:
    """The values of all taps."""
    value: Any = images
    taps: dict[str, Any] = {}
    for stages, recompute in parts:
        run = partial(_stages, graph, stages)
        value, tapped = recomputed_call(run, value, use_reentrant=False) if recompute else run(value)
        taps |= tapped
    return taps


def _stages(graph: ut.Graph, stages: Sequence[str], value: Any) -> tuple[Any, dict[str, Any]]:
    """The last value of some stages, and those of the taps among them."""
    wanted = {tap for taps in graph.taps.values() for tap in taps}
    taps = {}
    for name in stages:
        value = graph.stage(name)(value)
        if name in wanted:
            taps[name] = value
    return value, taps


def _losses(graph: ut.Graph, taps: Mapping[str, Any], targets: Mapping[str, Any], *, recompute: bool) -> list[Tensor]:
    run = partial(_term, graph)
    if recompute:
        run = partial(recomputed_call, run, use_reentrant=False)
    return [run(task, taps, target) for task, target in targets.items()]


def _term(graph: ut.Graph, task: str, taps: Mapping[str, Any], target: Any) -> Tensor:
    levels = [taps[tap] for tap in graph.taps[task]]
    values = BranchCall(graph, task)(levels, target, len(levels[0]))
    return term(values, graph.branches[task].weight, len(levels[0]))


def _backward_of_sum(losses: list[Tensor]) -> None:
    torch.stack(losses).sum().backward()


def _branch_by_branch(graph: ut.Graph, taps: dict[str, Any], targets: Mapping[str, Any]) -> None:
    leaves = {name: value.detach().requires_grad_() for name, value in taps.items()}
    for task, target in targets.items():
        _term(graph, task, leaves, target).backward()
    torch.autograd.backward(list(taps.values()), [leaf.grad for leaf in leaves.values()])
