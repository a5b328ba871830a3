"""A trunk with branches as one module, and its objective by plain autograd: the oracle the engine is held to."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.engine.branch import Branch
from ubertrain.engine.inplace import TapVersions
from ubertrain.engine.labels import Labels
from ubertrain.engine.module_tree import add_named, nested
from ubertrain.engine.rows import take_rows
from ubertrain.engine.streams import BranchStreams
from ubertrain.engine.taps import alias, check_tap
from ubertrain.errors import TaskError


@dataclass(frozen=True)
class Labelled:
    """One task's share of a batch: the labels, their rows, and what the sum of their losses is divided by."""

    labels: Labels
    rows: tuple[int, ...]
    divisor: int


class Graph(nn.Module):
    """A chain of stages, the trunk, with branches that read some of the stages' outputs.

    The objective is `sum over tasks of weight * mean over labelled rows of loss` (UberNet, equations 1 and 3).

    Args:
        trunk: stage name -> module, in order; each is called with what the one before returned, which may be any pytree. A
            name may hold dots ("res2.0"); the same module may stand under two names.
        branches: task name -> branch. A tap is a stage name or the prefix of some: "res2" means the last of "res2.0", "res2.1".
        normalise: what a task's sum of losses is divided by: "rows", its labelled rows, or "batch", all images (UberNet's 1/N).

    Raises:
        TaskError: an empty trunk, a name that cannot be used, or a branch on an unknown tap.
    """

    def __init__(
        self,
        trunk: Mapping[str, nn.Module],
        branches: Mapping[str, Branch],
        *,
        normalise: Literal["rows", "batch"] = "rows",
    ) -> None:
        super().__init__()
        if not trunk:
            raise TaskError("a graph needs at least one trunk stage, got an empty trunk")
        if normalise not in ("rows", "batch"):
            raise TaskError(f"normalise must be 'rows' or 'batch', got {normalise!r}")
        self.stage_names = tuple(trunk)
        self.branches = dict(branches)
        self.normalise = normalise
        self.trunk = nested(trunk)
        self.heads = nn.ModuleDict()
        self.criteria = nn.ModuleDict()
        for task, branch in branches.items():
            add_named(self.heads, task, branch.head, f"task name {task!r}")
            if isinstance(branch.criterion, nn.Module):
                self.criteria[task] = branch.criterion
        self.taps = {task: tuple(self._resolve(tap, task) for tap in branch.taps) for task, branch in branches.items()}

    def stage(self, name: str) -> nn.Module:
        """The trunk module called `name`; "res2.0" also finds a child of a stage "res2"."""
        return self.trunk.get_submodule(name)

    def forward(
        self, images: Any, tasks: Iterable[str] | None = None, given: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Predictions of all rows by plain autograd.

        Args:
            images: what the first stage takes, usually (batch, 3, height, width).
            tasks: the tasks to run; None means all.
            given: task -> what its head is given besides the levels, `head(levels, given)`: a pytree with a row per image.

        Returns:
            task -> prediction, in order of declaration.
        """
        chosen = self._known(self.branches if tasks is None else tasks)
        taps = self._run_trunk(images, chosen)
        more = {task: (given[task],) if given and task in given else () for task in chosen}
        return {task: self.heads[task]([alias(taps[tap]) for tap in self.taps[task]], *more[task]) for task in chosen}

    def losses(self, images: Any, targets: Mapping[str, Any]) -> dict[str, Tensor]:
        """The terms of the objective by plain autograd; their plain sum is what `Engine.forward_backward` differentiates.

        Args:
            images: what the first stage takes, usually (batch, 3, height, width).
            targets: task -> `Labels`, or a bare pytree for labels of all rows. A task that is absent or has no rows is not run.

        Returns:
            task -> weight * mean over its labelled rows of its loss, a scalar, in order of declaration.

        Raises:
            TaskError: an unknown task, labels that do not fit their rows, a loss that is not one value per image.
        """
        labelled = self.labelled(images, targets)
        taps = self._run_trunk(images, tuple(labelled))
        streams, terms = BranchStreams(images), {}
        for task, share in labelled.items():
            with streams.of(self.number(task)):
                terms[task] = self._term(task, share, taps, batch_size(images))
        streams.close()
        return terms

    def number(self, task: str) -> int:
        """The place of a task in the order of declaration, from 0."""
        return list(self.branches).index(task)

    def labelled(self, images: Any, targets: Mapping[str, Any]) -> dict[str, Labelled]:
        """The tasks that have labelled rows in this batch, in order of declaration, checked."""
        self._known(targets)
        batch = batch_size(images)
        shares = {}
        for task in self.branches:
            labels = Labels.of(targets[task]) if task in targets else Labels(None, ())
            if rows := labels.positions(batch, task):
                shares[task] = Labelled(labels, tuple(rows), batch if self.normalise == "batch" else len(rows))
        return shares

    def needed(self, tasks: Iterable[str]) -> tuple[str, ...]:
        """The stages that must run for `tasks`: all up to the highest of their taps."""
        last = max((self.stage_names.index(tap) for task in tasks for tap in self.taps[task]), default=-1)
        return self.stage_names[: last + 1]

    def _run_trunk(self, images: Any, tasks: tuple[str, ...]) -> dict[str, Any]:
        wanted = {tap for task in tasks for tap in self.taps[task]}
        value, taps, versions = images, {}, TapVersions()
        for name in self.needed(tasks):
            value = self.stage(name)(value)
            versions.check(name)
            if name in wanted:
                check_tap(name, value)
                taps[name] = value
                versions.record(name, value)
                value = alias(value)
        return taps

    def _term(self, task: str, share: Labelled, taps: Mapping[str, Any], batch: int) -> Tensor:
        torch.clear_autocast_cache()  # casts of weights are made per branch, as in the engine: same sums, memory flat in T
        levels = [take_rows(alias(taps[tap]), share.rows, batch) for tap in self.taps[task]]
        branch = BranchCall(self, task)
        several = self._shared_parameters()
        shared = {name: alias(p) for name, p in branch.named_parameters() if p in several}
        values = torch.func.functional_call(branch, shared, (levels, share.labels.value, len(share.rows)))
        return term(values, self.branches[task].weight, share.divisor)

    def _shared_parameters(self) -> set[nn.Parameter]:
        """Parameters that more than one branch uses."""
        users = Counter(p for task in self.branches for p in BranchCall(self, task).parameters())
        return {parameter for parameter, count in users.items() if count > 1}

    def _known(self, tasks: Iterable[str]) -> tuple[str, ...]:
        wanted = dict.fromkeys(tasks)
        for task in wanted:
            if task not in self.branches:
                raise TaskError(f"unknown task {task!r}{_near(task, self.branches)}; this graph has {', '.join(self.branches)}")
        return tuple(task for task in self.branches if task in wanted)

    def _resolve(self, tap: str, task: str) -> str:
        stages = [name for name in self.stage_names if name == tap or name.startswith(f"{tap}.")]
        if not stages:
            known = ", ".join(self.stage_names)
            raise TaskError(f"task {task!r} reads unknown tap {tap!r}{_near(tap, self.stage_names)}; the trunk has {known}")
        return stages[-1]


class BranchCall(nn.Module):
    """Head and loss of one task as one module: levels and target in, one loss per row out."""

    def __init__(self, graph: Graph, task: str) -> None:
        super().__init__()
        self.head = graph.heads[task]
        self.criterion = graph.criteria[task] if task in graph.criteria else None
        self.task = task
        self.branch = graph.branches[task]

    def forward(self, levels: list[Any], target: Any, rows: int) -> Tensor:
        return self.branch.per_row(self.head, levels, target, rows=rows, task=self.task)


def batch_size(images: Any) -> int:
    """The number of images: the first dimension of the first tensor in `images`.

    Raises:
        TaskError: there is no tensor, or it has no dimensions.
    """
    first = next((leaf for leaf in pytree.tree_leaves(images) if isinstance(leaf, Tensor)), None)
    if first is None or first.ndim == 0:
        given = type(images).__name__ if first is None else "a tensor without dimensions"
        raise TaskError(f"images must be a tensor, or hold one, whose first dimension counts the images; got {given}")
    return len(first)


def term(values: Tensor, weight: float, divisor: int) -> Tensor:
    """One task's term of the objective from its losses per row, or from some of its rows: weight * sum / divisor."""
    return values.sum() * (weight / divisor)


def _near(name: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
