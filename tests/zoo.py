"""Small architectures that have broken recompute, branching or partial labels somewhere, and the schedules they run under."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed_call

from ubertrain.engine.branch import Branch
from ubertrain.engine.graph import Graph
from ubertrain.engine.heads import head_stages
from ubertrain.engine.labels import Labels
from ubertrain.engine.level import Level
from ubertrain.planning.every_k import every_k
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.schedule import BranchRun, Item, Products, Schedule, Span, stage_of
from ubertrain.tasks.fusion import FusionHead

BATCH = 4


@dataclass(frozen=True)
class Case:
    """A graph with one batch for it."""

    graph: Graph
    images: Any
    targets: dict[str, Any]
    autocast: torch.dtype | None = None

    def forward_context(self) -> AbstractContextManager[Any]:
        """What the forward pass runs under."""
        return torch.autocast("cpu", self.autocast) if self.autocast else nullcontext()


ZOO: dict[str, Callable[[], Case]] = {}


def entry(build: Callable[[], Case]) -> Callable[[], Case]:
    """Put an architecture into the zoo under its function's name."""
    ZOO[build.__name__] = build
    return build


def schedules(graph: Graph) -> Iterator[Schedule]:
    """Schedules of every shape: those of `staged`, of `bracketed`, of `late`, of `narrow` and of `nested`."""
    yield from staged(graph)
    yield from bracketed(graph)
    yield from late(graph)
    yield from narrow(graph)
    yield from nested(graph)


def nested(graph: Graph) -> Iterator[Schedule]:
    """Nothing recomputed, equal spans, and deep nests to the left, to the right and balanced."""
    stages, tasks = graph.stage_names, tuple(graph.branches)
    yield keep_all(stages, tasks)
    for k in range(1, len(stages) + 1):
        yield every_k(stages, tasks, k)
    runs = tuple(map(BranchRun, tasks))
    for nest in (_left, _right, _halves):
        yield Schedule((nest(stages),), runs)
    if len(stages) > 2:
        yield Schedule((stages[0], _right(stages[1:-1]), stages[-1]), runs)


def bracketed(graph: Graph) -> Iterator[Schedule]:
    """Products kept of all stages, of every second one, and inside spans of each nest."""
    stages = graph.stage_names
    yield Schedule(tuple(map(Products, stages)))
    if len(stages) > 1:
        yield Schedule(tuple(Products(name) if place % 2 else name for place, name in enumerate(stages)))
        for nest in (_right, _halves):
            yield Schedule((_brackets(nest(stages)),))


def late(graph: Graph) -> Iterator[Schedule]:
    """Every branch late that may be: with kept stages, in a nest, and in one with brackets."""
    stages, may = graph.stage_names, late_branches(graph)
    if not may:
        return
    runs = tuple(BranchRun(task, late=task in may) for task in graph.branches)
    yield Schedule(stages, runs)
    yield Schedule((_left(stages),), runs)
    if len(stages) > 1:
        yield Schedule((_brackets(_halves(stages)),), runs)


def late_branches(graph: Graph) -> set[str]:
    """The branches with one tap that share it with such branches only, and parameters with nobody."""
    modules = [graph.trunk, *graph.heads.values(), *graph.criteria.values()]
    owners = Counter(parameter for module in modules for parameter in module.parameters())
    alone = {t: all(owners[p] == 1 for p in graph.heads[t].parameters()) for t in graph.branches}
    single = {t for t in graph.branches if len(set(graph.taps[t])) == 1 and alone[t]}
    others = {tap for t in graph.branches if t not in single for tap in graph.taps[t]}
    return {t for t in single if graph.taps[t][0] not in others}


def narrow(graph: Graph) -> Iterator[Schedule]:
    """Every branch narrow that may be, with kept stages, in a nest, and in one with brackets; then those of one tap late."""
    stages, may = graph.stage_names, narrow_branches(graph)
    if not may:
        return
    runs = tuple(BranchRun(task, narrow=task in may) for task in graph.branches)
    yield Schedule(stages, runs)
    yield Schedule((_left(stages),), runs)
    yield Schedule((_brackets(_halves(stages)),), runs)
    single = {task for task in may if len(set(graph.taps[task])) == 1}
    mixed = tuple(BranchRun(task, late=task in single, narrow=task in may - single) for task in graph.branches)
    yield Schedule((*stages[:1], *((_right(stages[1:]),) if stages[1:] else ())), mixed)


def narrow_branches(graph: Graph) -> set[str]:
    """The branches with a head that narrows and parameters of their own, which share their taps with such branches only."""
    modules = [graph.trunk, *graph.heads.values(), *graph.criteria.values()]
    owners = Counter(parameter for module in modules for parameter in module.parameters())
    able = {
        task
        for task, head in graph.heads.items()
        if hasattr(head, "narrow") and graph.branches[task].loss and all(owners[p] == 1 for p in head.parameters())
    }
    while apart := {t for t in able for o in graph.branches if o not in able and set(graph.taps[t]) & set(graph.taps[o])}:
        able -= apart
    return able


def staged(graph: Graph) -> Iterator[Schedule]:
    """Heads of several stages: all kept, stage by stage, and in every nest, with and without brackets, some late."""
    stages, of, may = graph.stage_names, {task: head_stages(graph, task) for task in graph.branches}, late_branches(graph)
    if not any(of.values()):
        return
    nests: list[Callable[[Sequence[str]], tuple[Item, ...]]] = [
        tuple,
        lambda names: tuple(Span((name,)) for name in names),
        lambda names: (names[0], *((_halves(names[1:]),) if names[1:] else ())),
        *(lambda names, nest=nest: (nest(names),) for nest in (_left, _right, _halves)),
        lambda names: tuple(map(Products, names)),
        lambda names: (_brackets(_halves(names)),),
    ]
    for place, nest in enumerate(nests):
        runs = [BranchRun(task, head=nest(names) if names else ()) for task, names in of.items()]
        yield Schedule((_left(stages),) if place % 2 else stages, tuple(runs))
        if may:
            yield Schedule(stages, tuple(replace(run, late=run.task in may) for run in runs))


def _brackets(item: Item) -> Item:
    """The same with every stage in brackets."""
    if isinstance(item, Span):
        return Span(tuple(map(_brackets, item.items)))
    return Products(stage_of(item))


def _left(stages: Sequence[str]) -> Span:
    return Span((stages[0],)) if len(stages) == 1 else Span((_left(stages[:-1]), stages[-1]))


def _right(stages: Sequence[str]) -> Span:
    return Span((stages[0],)) if len(stages) == 1 else Span((stages[0], _right(stages[1:])))


def _halves(stages: Sequence[str]) -> Span:
    items: tuple[Item, ...] = tuple(stages)
    if len(stages) > 2:
        middle = len(stages) // 2
        items = (_halves(stages[:middle]), _halves(stages[middle:]))
    return Span(items)


class Head(nn.Module):
    """Sum over its levels of one projection each, pooled: (rows, out)."""

    def __init__(self, channels: Sequence[int], out: int = 3, extra: nn.Module | None = None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(c, out, 1) for c in channels)
        self.extra = extra if extra is not None else nn.Identity()

    def forward(self, levels: list[Any]) -> Tensor:
        return self.join([self.narrow(place, level) for place, level in enumerate(levels)])

    def narrow(self, place: int, level: Any) -> Any:
        return self.parts[place](level).tanh().mean((2, 3))

    def join(self, narrowed: list[Any]) -> Tensor:
        return self.extra(sum(narrowed))


class Flat(nn.Module):
    """A head on one level of any shape: (rows, out)."""

    def __init__(self, features: int, out: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(features, out)

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.linear(levels[0]).flatten(1)


def squared(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().flatten(1).mean(1)


def conv(inside: int, out: int, *after: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, out, 3, padding=1), *after)


def plain(channels: Sequence[int], make: Callable[[int], Sequence[nn.Module]]) -> dict[str, nn.Module]:
    """Stages of a convolution and what `make` puts behind it."""
    pairs = zip((3, *channels[:-1]), channels, strict=True)
    return {f"s{i}": conv(inside, out, *make(out)) for i, (inside, out) in enumerate(pairs)}


def images() -> Tensor:
    return torch.randn(BATCH, 3, 8, 8)


def labels(rows: int = BATCH, out: int = 3) -> Tensor:
    return torch.randn(rows, out)


def two_tasks(trunk: dict[str, nn.Module], channels: Sequence[int], *, autocast: torch.dtype | None = None) -> Case:
    """Tasks on the last stage, labelled everywhere; on two stages, on two scattered rows; on the first stage, on three rows."""
    names = list(trunk)
    branches = {
        "low": Branch(Head(channels[:1]), names[:1], squared, weight=2),
        "top": Branch(Head(channels[-1:]), names[-1:], squared),
        "both": Branch(Head([channels[1], channels[-1]]), [names[1], names[-1]], squared, weight=0.5),
    }
    targets = {"top": labels(), "both": Labels(labels(2), [0, 3]), "low": Labels(labels(3), [1, 2, 3])}
    return Case(Graph(trunk, branches), images(), targets, autocast)


WIDTHS = (4, 6, 6, 8)


@entry
def convolutions() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.Tanh()]), WIDTHS)


@entry
def in_place_relu() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.ReLU(inplace=True)]), WIDTHS)


@entry
def flattened_sequential_with_in_place_relu() -> Case:
    flat = {
        f"f.{i}": module for i, module in enumerate([*conv(3, 4, nn.ReLU(True)), *conv(4, 6, nn.BatchNorm2d(6), nn.ReLU(True))])
    }
    branches = {"top": Branch(Head([6]), ["f"], squared), "low": Branch(Head([4]), ["f.1"], squared)}
    return Case(Graph(flat, branches), images(), {"top": labels(), "low": labels()})


@entry
def batch_norm() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU()]), WIDTHS)


@entry
def batch_norm_cumulative() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c, momentum=None), nn.ReLU()]), WIDTHS)


@entry
def batch_norm_in_eval_mode() -> Case:
    case = two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU()]), WIDTHS)
    case.graph.stage("s1").eval()
    return case


@entry
def group_norm() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.GroupNorm(2, c), nn.GELU()]), WIDTHS)


@entry
def instance_norm_with_statistics() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.InstanceNorm2d(c, track_running_stats=True), nn.ReLU()]), WIDTHS)


@entry
def dropout() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.Dropout(0.3), nn.ReLU()]), WIDTHS)


@entry
def dropout_in_place_and_random_relu() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.RReLU(), nn.Dropout2d(0.3, inplace=True)]), WIDTHS)


@entry
def dropout_in_trunk_and_heads() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.Dropout(0.3)])
    branches = {t: Branch(Head([8], extra=nn.Dropout(0.5)), ["s3"], squared) for t in "abc"}
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": Labels(labels(2), [1, 2]), "c": labels()})


@entry
def spectral_norm() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.LeakyReLU(0.1)])
    for stage in trunk.values():
        nn.utils.parametrizations.spectral_norm(stage[0])
    return two_tasks(trunk, WIDTHS)


@entry
def weight_norm() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.SiLU()])
    for stage in trunk.values():
        nn.utils.parametrizations.weight_norm(stage[0])
    return two_tasks(trunk, WIDTHS)


class Residual(nn.Module):
    """A basic block with an in-place ReLU on its own sum."""

    def __init__(self, channels: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.first, self.second = conv(channels, channels, norm(channels)), conv(channels, channels, norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.second(F.relu_(self.first(x))) + x)


class PreActivation(Residual):
    """Norm and ReLU out of place first, as in ResNet v2."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


@entry
def residual() -> Case:
    return two_tasks({"stem": conv(3, 6), **{f"res.{i}": Residual(6) for i in range(4)}}, [6] * 5)


@entry
def pre_activation_residual() -> Case:
    return two_tasks({"stem": conv(3, 6), **{f"res.{i}": PreActivation(6) for i in range(3)}}, [6] * 4)


class StochasticDepth(nn.Module):
    """Skips its block for random images of the batch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = conv(channels, channels, nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) * (torch.rand(len(x), 1, 1, 1) > 0.4)


@entry
def stochastic_depth() -> Case:
    return two_tasks({"stem": conv(3, 6), **{f"res.{i}": StochasticDepth(6) for i in range(3)}}, [6] * 4)


class HostRandom(nn.Module):
    """Draws from Python's and numpy's global random numbers, as some implementations of stochastic depth do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = conv(channels, channels, nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x).tanh() * random.random() * np.random.rand()


@entry
def random_numbers_of_python_and_numpy() -> Case:
    random.seed(0)
    np.random.seed(0)
    return two_tasks({"stem": conv(3, 6), **{f"r.{i}": HostRandom(6) for i in range(3)}}, [6] * 4)


class Patches(nn.Module):
    """Images as tokens: (batch, tokens, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, channels, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 4, channels) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.cut(x).flatten(2).transpose(1, 2) + self.position


@entry
def vision_transformer() -> Case:
    blocks = {
        f"block.{i}": nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True, norm_first=True) for i in range(3)
    }
    branches = {"a": Branch(Flat(8), ["block.2"], squared), "b": Branch(Flat(8), ["block.0"], squared)}
    graph = Graph({"patches": Patches(8), **blocks}, branches)
    return Case(graph, images(), {"a": torch.randn(BATCH, 12), "b": Labels(torch.randn(1, 12), [2])})


@entry
def multi_tap_decoders() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)])
    names = list(trunk)
    branches = {t: Branch(Head(WIDTHS), names, squared, weight=w) for t, w in zip("abcd", (1, 0.3, 2, 5), strict=True)}
    rows = {"a": labels(), "b": Labels(labels(3), [1, 2, 3]), "c": Labels(labels(2), [3, 0]), "d": Labels(labels(1), [1])}
    return Case(Graph(trunk, branches), images(), rows)


def pooled(scores: Tensor, target: Tensor) -> Tensor:
    """A loss on the means of maps."""
    return squared(scores.mean((2, 3)), target)


@entry
def fusion_heads() -> Case:
    trunk = {f"s{i}": nn.Sequential(nn.Conv2d(c, o, 3, 2, 1), nn.Tanh()) for i, (c, o) in enumerate([(3, 4), (4, 6), (6, 8)])}
    levels, names = [Level(4, 2), Level(6, 4), Level(8, 8)], list(trunk)
    channels = {"concat": 3, "sum": 2, "features": 1, "top": 2}
    heads = {
        "concat": FusionHead(levels, 3),
        "sum": FusionHead(levels, 2, fusion="sum"),
        "features": FusionHead(levels[1:], 1, width=8),
        "top": FusionHead(levels[2:], 2),
    }
    branches = {task: Branch(head, names[3 - len(head.strides) :], pooled) for task, head in heads.items()}
    rows = {"concat": [0, 1, 2, 3], "sum": [3, 1], "features": [1, 2], "top": [0, 2, 3]}
    targets = {task: Labels(labels(len(given), channels[task]), given) for task, given in rows.items()}
    return Case(Graph(trunk, branches), torch.randn(BATCH, 3, 13, 10), targets)


@entry
def bfloat16_autocast_with_fusion_heads() -> Case:
    case = fusion_heads()
    return Case(case.graph, case.images, case.targets, torch.bfloat16)


class Merge(nn.Module):
    """The first stage of a head: its levels, projected and added, and the first of them, pooled."""

    def __init__(self, channels: Sequence[int], out: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(c, out, 1) for c in channels)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        return sum(part(level) for part, level in zip(self.parts, levels, strict=True)), F.avg_pool2d(levels[0], 2)


class OnFirst(nn.Module):
    """A stage that changes the first tensor of a tuple and hands the others on."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.inside = nn.Sequential(*modules)

    def forward(self, value: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first, *others = value
        return self.inside(first), *others


class Score(nn.Module):
    """The last stage of a head: a tensor, or a tuple of two, pooled and projected."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(channels), 3)

    def forward(self, value: Any) -> Tensor:
        parts = value if isinstance(value, tuple) else (value,)
        return self.linear(torch.cat([part.mean((2, 3)) for part in parts], 1))


class Only(nn.Module):
    """The first stage of a head that reads one level."""

    def forward(self, levels: list[Tensor]) -> Tensor:
        (level,) = levels
        return level


def staged_head(*channels: int, norm: nn.Module | None = None) -> nn.Sequential:
    """Several levels, batch norm or another, dropout, and a tuple all the way."""
    stages = {
        "merge": Merge(channels, 6),
        "norm": OnFirst(nn.Conv2d(6, 6, 3, padding=1), norm or nn.BatchNorm2d(6), nn.ReLU(True)),
        "drop": OnFirst(nn.Conv2d(6, 4, 1), nn.Dropout(0.3)),
        "score": Score(4, channels[0]),
    }
    return nn.Sequential(OrderedDict(stages))


def flat_head(channels: int) -> nn.Sequential:
    """Layer by layer, some of which write into what the one before gave, with state in buffers and random numbers."""
    norm, relu, last = nn.BatchNorm2d(6), nn.ReLU(True), MovingAverage(6)
    return nn.Sequential(Only(), nn.Conv2d(channels, 6, 1), norm, relu, HostRandom(6), nn.Dropout(0.3, True), last, Score(6))


@entry
def heads_of_stages() -> Case:
    random.seed(0)
    np.random.seed(0)
    trunk = plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU()])
    branches = {
        "low": Branch(flat_head(6), ["s1"], squared, weight=0.7),
        "whole": Branch(Head([8], extra=nn.Dropout(0.2)), ["s3"], squared),
        "two": Branch(staged_head(4, 8), ["s0", "s3"], squared),
        "top": Branch(staged_head(8), ["s3"], LearnedScale()),
    }
    targets = {"low": Labels(labels(3), [0, 2, 3]), "whole": labels(), "two": Labels(labels(2), [3, 1]), "top": labels()}
    return Case(Graph(trunk, branches), images(), targets)


@entry
def bfloat16_autocast_with_heads_of_stages() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.Tanh()])
    flat = nn.Sequential(Only(), nn.Conv2d(8, 6, 1), nn.Tanh(), nn.Conv2d(6, 6, 3), nn.Dropout(0.3, True), Score(6))
    heads = {"one": flat, "two": staged_head(6, 8, norm=nn.AvgPool2d(3, 1, 1))}
    taps = {"one": ["s3"], "two": ["s1", "s3"]}
    branches = {task: Branch(head, taps[task], squared) for task, head in heads.items()}
    return Case(Graph(trunk, branches), images(), {"one": labels(), "two": Labels(labels(2), [3, 1])}, torch.bfloat16)


@entry
def a_head_of_stages_shared_by_two_branches() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.BatchNorm2d(c)])
    head = staged_head(6, norm=nn.GroupNorm(2, 6))
    branches = {"a": Branch(head, ["s1"], squared), "b": Branch(head, ["s2"], squared, weight=0.4)}
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": Labels(labels(3), [1, 2, 3])})


@entry
def heads_of_stages_partly_frozen() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)])
    layer = nn.Conv2d(6, 6, 3, padding=1)
    twice = nn.Sequential(Only(), layer, nn.Tanh(), layer, nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(True)), Score(6))
    branches = {"low": Branch(staged_head(4), ["s0"], squared), "twice": Branch(twice, ["s2"], squared)}
    graph = Graph(trunk, branches)
    return frozen(Case(graph, images(), {"low": labels(), "twice": labels()}), "trunk.s0", "heads.low.merge", "heads.low.norm")


@entry
def one_tap_read_twice() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.ReLU(True)])
    return Case(Graph(trunk, {"a": Branch(Head([8, 8, 4]), ["s3", "s3", "s0"], squared)}), images(), {"a": labels()})


@entry
def one_stage() -> Case:
    return Case(Graph({"only": conv(3, 4)}, {"a": Branch(Head([4]), ["only"], squared)}), images(), {"a": labels()})


@entry
def one_branch() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.BatchNorm2d(c)])
    return Case(Graph(trunk, {"a": Branch(Head([8]), ["s3"], squared, weight=3)}), images(), {"a": labels()})


@entry
def twelve_branches() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)])
    branches = {f"t{i}": Branch(Head([WIDTHS[i % 4]]), [f"s{i % 4}"], squared, weight=0.1 * i) for i in range(12)}
    targets = {f"t{i}": Labels(labels(1 + i % 4), range(1 + i % 4)) for i in range(12)}
    return Case(Graph(trunk, branches), images(), targets)


@entry
def branch_without_rows() -> Case:
    case = two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c)]), WIDTHS)
    return Case(case.graph, case.images, {"both": case.targets["both"], "top": Labels(labels(0), [])})


@entry
def only_a_low_tap_is_labelled() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.BatchNorm2d(c)])
    branches = {"low": Branch(Head([6]), ["s1"], squared), "top": Branch(Head([8]), ["s3"], squared)}
    return Case(Graph(trunk, branches), images(), {"low": labels()})


@entry
def zero_weight() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.ReLU(True)])
    branches = {"a": Branch(Head([8]), ["s3"], squared, weight=0), "b": Branch(Head([6]), ["s1"], squared)}
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": labels()})


@entry
def divided_by_the_batch() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.ReLU(True)])
    branches = {t: Branch(Head([8]), ["s3"], squared) for t in "ab"}
    return Case(Graph(trunk, branches, normalise="batch"), images(), {"a": labels(), "b": Labels(labels(2), [1, 2])})


def frozen(case: Case, *names: str) -> Case:
    for name in names:
        case.graph.get_submodule(name).requires_grad_(False)
    return case


@entry
def frozen_stem() -> Case:
    return frozen(two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)]), WIDTHS), "trunk.s0", "trunk.s1")


@entry
def frozen_middle() -> Case:
    return frozen(two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)]), WIDTHS), "trunk.s2")


@entry
def frozen_trunk() -> Case:
    return frozen(two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)]), WIDTHS), "trunk")


@entry
def frozen_head() -> Case:
    return frozen(two_tasks(plain(WIDTHS, lambda c: [nn.Dropout(0.2)]), WIDTHS), "heads.top")


@entry
def frozen_altogether() -> Case:
    return frozen(two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c)]), WIDTHS), "trunk", "heads")


class Skips(nn.Module):
    """A U-Net's way down or up: its value is a tuple (x, skip, ...)."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up, self.conv = up, conv(channels, channels, nn.BatchNorm2d(channels), nn.ReLU(True))

    def forward(self, value: Any) -> Any:
        x, *skips = value if isinstance(value, tuple) else (value,)
        if not self.up:
            return F.max_pool2d(self.conv(x), 2), x, *skips
        x = self.conv(F.interpolate(x, scale_factor=2) + skips[0])
        return (x, *skips[1:]) if len(skips) > 1 else x


@entry
def u_net_of_tuples() -> Case:
    trunk = {
        "stem": conv(3, 4),
        "down1": Skips(4, up=False),
        "down2": Skips(4, up=False),
        "up2": Skips(4, up=True),
        "up1": Skips(4, up=True),
    }
    branches = {"a": Branch(Head([4]), ["up1"], squared), "b": Branch(TupleHead(4), ["down2"], squared)}
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": Labels(labels(2), [0, 2])})


class TupleHead(Head):
    """A head whose level is a tuple of tensors, of which it reads the first two."""

    def __init__(self, channels: int) -> None:
        super().__init__([channels, channels])

    def narrow(self, place: int, level: Any) -> Any:
        return [super(TupleHead, self).narrow(place, part) for place, part in enumerate(level[:2])]

    def join(self, narrowed: list[Any]) -> Tensor:
        return super().join(narrowed[0])


class TwoRates(nn.Module):
    """A stage whose value is a dict of a fine and a coarse tensor, and a word."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = conv(4, 4, nn.ReLU(True)), conv(4, 4, nn.Dropout(0.2))

    def forward(self, value: Any) -> dict[str, Any]:
        fine, coarse = (value["fine"], value["coarse"]) if isinstance(value, dict) else (value, F.avg_pool2d(value, 2))
        mixed = self.fine(fine) + F.interpolate(coarse, scale_factor=2)
        return {"fine": mixed, "coarse": self.coarse(coarse), "word": "not a tensor"}


class DictHead(Head):
    """A head that reads one entry of a dict level."""

    def narrow(self, place: int, level: Any) -> Any:
        return super().narrow(place, level["coarse"])


@entry
def stages_of_dicts() -> Case:
    trunk = {"stem": conv(3, 4), "a": TwoRates(), "b": TwoRates(), "c": TwoRates()}
    branches = {"low": Branch(DictHead([4]), ["a"], squared), "top": Branch(DictHead([4]), ["c"], squared)}
    return Case(Graph(trunk, branches), images(), {"low": labels(), "top": Labels(labels(3), [0, 1, 2])})


@entry
def a_stage_used_twice() -> Case:
    twice = Residual(6)
    trunk = {"stem": conv(3, 6), "one": twice, "between": conv(6, 6, nn.Dropout(0.2)), "two": twice}
    return two_tasks(trunk, [6] * 4)


@entry
def a_weight_tied_across_stages() -> Case:
    trunk = plain([6, 6, 6, 6], lambda c: [nn.Tanh()])
    trunk["s3"][0].weight = trunk["s1"][0].weight
    return two_tasks(trunk, [6] * 4)


@entry
def parameters_shared_between_branches() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.ReLU(True)])
    shared = nn.Linear(3, 3)
    branches = {
        t: Branch(Head([8], extra=shared), ["s3"], squared, weight=w) for t, w in zip("abc", (1, 0.7, 0.1), strict=True)
    }
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": labels(), "c": Labels(labels(2), [1, 3])})


@entry
def a_head_shared_by_two_branches() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.BatchNorm2d(c)])
    head = Head([6], extra=nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.3)))
    branches = {"a": Branch(head, ["s1"], squared), "b": Branch(head, ["s2"], squared)}
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": labels()})


@entry
def a_head_with_batch_norm() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.ReLU()])
    branches = {t: Branch(Head([8], extra=nn.BatchNorm1d(3)), ["s3"], squared) for t in "ab"}
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": Labels(labels(3), [0, 1, 3])})


@entry
def a_parameter_shared_by_trunk_and_head() -> Case:
    trunk = plain([4, 3, 4], lambda c: [nn.Tanh()])
    head = Head([4])
    head.parts[0].weight = nn.Parameter(torch.randn(3, 4, 1, 1))
    trunk["s2"] = nn.Sequential(trunk["s2"], Projection(head.parts[0].weight))
    return Case(
        Graph(trunk, {"a": Branch(head, ["s0"], squared), "b": Branch(Head([3]), ["s2"], squared)}),
        images(),
        {"a": labels(), "b": labels()},
    )


class Projection(nn.Module):
    """A 1x1 convolution with somebody else's weight."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight)


@entry
def float64() -> Case:
    case = two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)]), WIDTHS)
    double = {"top": labels().double(), "both": Labels(labels(2).double(), [0, 3])}
    return Case(case.graph.double(), case.images.double(), double)


@entry
def bfloat16_autocast() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.BatchNorm2d(c), nn.ReLU(True)]), WIDTHS, autocast=torch.bfloat16)


@entry
def bfloat16_autocast_with_dropout_and_sharing() -> Case:
    case = parameters_shared_between_branches()
    return Case(case.graph, case.images, case.targets, torch.bfloat16)


@entry
def bfloat16_autocast_with_a_stage_used_twice() -> Case:
    case = a_stage_used_twice()
    return Case(case.graph, case.images, case.targets, torch.bfloat16)


class MovingAverage(nn.Module):
    """Keeps an average of its input in a buffer that it replaces, and uses it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(channels, 1, 1))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.average = 0.9 * self.average + 0.1 * x.detach().mean((0, 2, 3)).view(-1, 1, 1)
        self.steps += 1
        return x * (1 + self.average) / self.steps


@entry
def a_replaced_buffer_and_a_counter() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [MovingAverage(c), nn.ReLU()]), WIDTHS)


class Doubling(torch.autograd.Function):
    """A custom function that saves its input and its output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = 2 * x.sigmoid()
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, result = ctx.saved_tensors
        return gradient * result * (1 - x.sigmoid())


class Custom(nn.Module):
    """A stage of a custom autograd function."""

    def forward(self, x: Tensor) -> Tensor:
        return Doubling.apply(x)


@entry
def custom_autograd_function() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [Custom()]), WIDTHS)


class RecomputesItself(nn.Module):
    """A stage that already calls torch's own recompute."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inside = conv(channels, channels, nn.Dropout(0.2), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return x + recomputed_call(self.inside, x, use_reentrant=False)


@entry
def stages_that_recompute_themselves() -> Case:
    return two_tasks({"stem": conv(3, 6), **{f"r.{i}": RecomputesItself(6) for i in range(3)}}, [6] * 4)


class Recurrent(nn.Module):
    """An LSTM over the rows of the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels * 8, channels * 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows, _ = self.lstm(x.permute(0, 2, 3, 1).flatten(2))
        return rows.unflatten(2, (8, -1)).permute(0, 3, 1, 2)


@entry
def recurrent_stage() -> Case:
    return two_tasks({"stem": conv(3, 2), "rows": Recurrent(2), "top": conv(2, 4, nn.Tanh())}, [2, 2, 4])


@entry
def integer_input() -> Case:
    trunk = {"embed": nn.Embedding(10, 6), "a": nn.Sequential(nn.Linear(6, 6), nn.ReLU(True)), "b": nn.Linear(6, 6)}
    branches = {"a": Branch(Flat(6), ["a"], squared), "b": Branch(Flat(6), ["b"], squared)}
    return Case(
        Graph(trunk, branches), torch.randint(10, (BATCH, 5)), {"a": labels(BATCH, 15), "b": Labels(labels(2, 15), [2, 3])}
    )


class LearnedScale(nn.Module):
    """A loss with a parameter: uncertainty weighting."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return squared(prediction, target) * (-self.log_variance).exp() + self.log_variance


@entry
def a_loss_with_a_parameter() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.ReLU(True)])
    branches = {t: Branch(Head([8]), ["s3"], LearnedScale()) for t in "ab"}
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": Labels(labels(2), [1, 2])})


@entry
def a_loss_that_needs_its_head() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.ReLU(True)])

    def losses(head: nn.Module, levels: list[Any], target: Tensor) -> Tensor:
        return squared(head(levels), target) + 0.1 * head.parts[0](levels[0]).flatten(1).square().mean(1)

    return Case(Graph(trunk, {"a": Branch(Head([8]), ["s3"], losses=losses)}), images(), {"a": labels()})


@entry
def an_unused_level_and_an_unused_parameter() -> Case:
    trunk = plain(WIDTHS, lambda c: [nn.ReLU(True)])
    return Case(Graph(trunk, {"a": Branch(FirstOnly([4, 8]), ["s0", "s3"], squared)}), images(), {"a": labels()})


class FirstOnly(Head):
    """A head that ignores its last level."""

    def join(self, narrowed: list[Any]) -> Tensor:
        return narrowed[0]


class SumOfLevels(nn.Module):
    """A head whose levels get views of one gradient."""

    def forward(self, levels: list[Tensor]) -> Tensor:
        return sum(level.flatten(1) for level in levels) * torch.linspace(0, 1, levels[0][0].numel())


@entry
def gradients_that_share_memory() -> Case:
    trunk = plain([4, 4, 4], lambda c: [nn.Tanh()])
    branches = {
        "low": Branch(Head([4]), ["s1"], squared),
        "twice": Branch(SumOfLevels(), ["s2", "s2"], squared),
        "two": Branch(SumOfLevels(), ["s1", "s2"], squared),
    }
    return Case(Graph(trunk, branches), images(), {"low": labels(), "twice": labels(BATCH, 256), "two": labels(BATCH, 256)})


class Pair(nn.Module):
    """A stage whose value holds one tensor twice."""

    def forward(self, x: Tensor) -> Any:
        return x, x


class PairHead(Head):
    """A head that reads all of a tuple level."""

    def narrow(self, place: int, level: Any) -> Any:
        return [super(PairHead, self).narrow(place, part) for place, part in enumerate(level)]

    def join(self, narrowed: list[Any]) -> Tensor:
        return super().join(narrowed[0])


@entry
def one_tensor_in_several_taps() -> Case:
    trunk = {**plain([4, 4], lambda c: [nn.BatchNorm2d(c)]), "same": nn.Identity(), "pair": Pair()}
    branches = {
        "a": Branch(Head([4, 4]), ["s1", "same"], squared),
        "b": Branch(PairHead([4, 4]), ["pair"], squared),
        "c": Branch(Head([4]), ["same"], squared),
        "d": Branch(Head([4]), ["s1"], squared),
    }
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": Labels(labels(2), [3, 1]), "c": labels(), "d": labels()})


class SumPooled(nn.Module):
    """A head that hands an expanded gradient, with strides of 0, to its level."""

    def forward(self, levels: list[Tensor]) -> Tensor:
        return levels[0].sum((2, 3))


@entry
def an_expanded_gradient() -> Case:
    trunk = plain([4, 4], lambda c: [nn.BatchNorm2d(c)])
    graph = Graph(trunk, {"a": Branch(SumPooled(), ["s1"], squared)})
    return Case(graph.to(memory_format=torch.channels_last), images(), {"a": labels(BATCH, 4)})


@entry
def several_expanded_gradients() -> Case:
    trunk = plain([4, 4], lambda c: [nn.BatchNorm2d(c)])
    branches = {t: Branch(SumPooled(), ["s1"], squared) for t in "abc"}
    return Case(Graph(trunk, branches), images(), {t: labels(BATCH, 4) for t in "abc"})


class LateBuffers(nn.Module):
    """Makes its buffers in its first run, and writes to one behind the version counter's back."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", None)
        self.register_buffer("started", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.detach().mean()
        if not hasattr(self, "largest"):
            self.register_buffer("largest", torch.zeros(()))
        self.largest += mean.abs()
        self.started.data += 1
        self.average = mean if self.average is None else 0.9 * self.average + 0.1 * mean
        return x * (1 + self.average + self.largest) / self.started


@entry
def buffers_made_in_the_first_run() -> Case:
    return two_tasks(plain(WIDTHS, lambda c: [nn.Tanh(), LateBuffers()]), WIDTHS)


class Concatenated(nn.Module):
    """A head that joins its levels by their channels, so that the gradient of each is a strided part of another tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, 3, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.project(torch.cat(levels, 1).tanh()).mean((2, 3))


@entry
def gradients_with_gaps() -> Case:
    trunk = {"a": conv(3, 6, nn.ReLU()), "b": conv(6, 6), "norm": nn.BatchNorm2d(6), "top": conv(6, 6, nn.BatchNorm2d(6))}
    branches = {
        "low": Branch(Head([6]), ["b"], squared),
        "cat": Branch(Concatenated(12), ["b", "norm"], squared),
        "late": Branch(Concatenated(12), ["top", "top"], squared),
    }
    targets = {"low": Labels(labels(2), [0, 3]), "cat": labels(), "late": labels()}
    return Case(Graph(trunk, branches), images(), targets)


class LastChannels(nn.Module):
    """A linear layer on the channels, whose output has them innermost in memory."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@entry
def some_rows_of_channels_last_values() -> Case:
    trunk = {"stem": conv(3, 4), "a": LastChannels(4), "b": LastChannels(4)}
    branches = {task: Branch(Head([4]), [tap], squared) for task, tap in (("x", "a"), ("y", "b"), ("z", "b"))}
    return Case(
        Graph(trunk, branches),
        images(),
        {"x": Labels(labels(2), [0, 1]), "y": Labels(labels(2), [0, 2]), "z": Labels(labels(1), [3])},
    )


class ReadsPairs(nn.Module):
    """Reads each place of a pair more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv(4, 4), conv(4, 4)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        x, y = pair
        return self.left(x) * x.sigmoid() + self.right(y) * y.tanh() * x.exp()


@entry
def one_tensor_twice_in_a_tap_below_other_stages() -> Case:
    trunk = {"stem": conv(3, 4), "pair": Pair(), "mixed": ReadsPairs(), "top": conv(4, 4, nn.Tanh())}
    branches = {"a": Branch(PairHead([4, 4]), ["pair"], squared), "b": Branch(Head([4]), ["top"], squared)}
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": labels()})


class DrawsOnTheHost(nn.Module):
    """Scales what it is given by random numbers of Python and numpy."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + random.random()) * (1 + np.random.rand())


@entry
def heads_that_draw_on_the_host() -> Case:
    trunk = plain(WIDTHS, lambda c: [DrawsOnTheHost(), nn.Tanh()])
    branches = {t: Branch(Head([c], extra=DrawsOnTheHost()), [s], squared) for t, s, c in (("a", "s1", 6), ("b", "s3", 8))}
    return Case(Graph(trunk, branches), images(), {"a": labels(), "b": Labels(labels(2), [1, 2])})
