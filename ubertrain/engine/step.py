"""One forward and backward of one part of a batch: trunk, branches, trunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.engine.branches import run_branch, without_autocast
from ubertrain.engine.graph import Graph
from ubertrain.engine.inplace import TapVersions
from ubertrain.engine.late import LateTap, differentiable
from ubertrain.engine.narrow import NarrowBranch
from ubertrain.engine.parts import Part
from ubertrain.engine.spans import Gate, SpanRunner, explained
from ubertrain.engine.streams import BranchStreams
from ubertrain.engine.taps import AliasGate, Tap, check_tap
from ubertrain.engine.watch import Watch
from ubertrain.planning.schedule import BranchRun, Item


class Step:
    """What is alive between the parts of one step; for one `run`.

    Args:
        graph: trained in place.
        runs: how the branches of the labelled tasks run, in order of declaration.
        stage_after: name in the schedule -> the stage of the graph whose output is there once it has run.
        part: images and labels.
        scaler: scales losses before their backward.
        watch: is told what happens.
    """

    def __init__(
        self,
        graph: Graph,
        runs: Sequence[BranchRun],
        stage_after: Mapping[str, str],
        part: Part,
        scaler: torch.amp.GradScaler | None,
        watch: Watch,
    ) -> None:
        self._graph, self._runs, self._part, self._scaler, self._watch = graph, runs, part, scaler, watch
        self._taps: dict[str, Tap] = {}
        self._narrow = {
            run.task: NarrowBranch(graph, run.task, part.labelled[run.task], part.batch) for run in runs if run.narrow
        }
        self._late: dict[str, LateTap] = {}
        for tap in {tap for run in runs if not run.at_top for tap in graph.taps[run.task]}:
            readers = [run for run in runs if tap in graph.taps[run.task]]
            self._late[tap] = LateTap(tap, partial(self._run_late, tap, readers), partial(self._hold_narrow, tap, readers))
        self._tapped = {name: tap for name, tap in stage_after.items() if any(tap in graph.taps[run.task] for run in runs)}
        self._autocast = _autocast_as_now(part.images)
        self._losses: dict[str, Tensor] = {}

    def run(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """The losses of the part's tasks; `items` are the trunk's, as far as they need it."""
        try:
            runner = self._trunk_forward(items)
            self._streams = BranchStreams(self._part.images)
            for run in reversed(self._runs):
                if run.narrow or all(tap in self._taps for tap in self._graph.taps[run.task]):
                    self._branch(run, self._taps)
            if not self._late:
                self._streams.close()
            self._trunk_backward(runner)
            if self._late:
                self._streams.close()
            return self._losses
        finally:
            # Taps and roots hold the graph, which holds this: a circle that Python's collector cannot see.
            for late in self._late.values():
                late.forget()
            for narrow in self._narrow.values():
                narrow.forget()
            self._taps.clear()
            self._late.clear()

    def _trunk_forward(self, items: Sequence[Item]) -> SpanRunner:
        """Run the trunk and fill `_taps`."""
        versions = TapVersions()

        def on_stage(name: str, value: Any) -> None:
            versions.check(name)
            if (tap := self._tapped.get(name)) is None:
                return
            check_tap(tap, value)
            late = tap in self._late and differentiable(value)
            versions.record(tap, value, until_next=late)
            if not late:  # also what was to be read late, where no gradient will ever come by
                self._taps[tap] = Tap(value, self._taps.values())

        gates: dict[str, Gate] = {name: self._late.get(tap, _ALIAS) for name, tap in self._tapped.items()}
        runner = SpanRunner(self._graph.stage, on_stage, gates=gates, watch=self._watch)
        try:
            runner.run(items, self._part.images)
        finally:
            versions.forget()
        return runner

    def _branch(self, run: BranchRun, taps: Mapping[str, Tap]) -> None:
        share, batch = self._part.labelled[run.task], self._part.batch
        with self._streams.of(self._graph.number(run.task)), self._watch.during(f"branch {run.task}"):
            if run.narrow and self._narrow[run.task].holds:
                loss = self._narrow[run.task].run(taps, self._scaler)
            else:
                reads = [taps[tap] for tap in self._graph.taps[run.task]]
                loss = run_branch(self._graph, run, share, reads, batch, self._scaler)
        self._losses[run.task] = loss

    def _hold_narrow(self, tap: str, runs: Sequence[BranchRun], value: Any) -> None:
        """Called in the trunk's forward, behind a tap that will be read late."""
        for branch in [self._narrow[run.task] for run in runs if run.narrow]:
            with self._watch.during(f"narrow {branch.task} at {tap}"):
                for place in branch.places(tap):
                    branch.hold(place, value)

    def _run_late(self, tap: str, runs: Sequence[BranchRun], value: Tap) -> None:
        """Called in the trunk's backward, under the autocast of the forward as at the top."""
        with self._autocast():
            for run in reversed(runs):
                if run.narrow:
                    self._pull_narrow(self._narrow[run.task], tap, value)
                else:
                    self._branch(run, {tap: value})

    def _pull_narrow(self, branch: NarrowBranch, tap: str, value: Tap) -> None:
        with self._watch.during(f"pull {branch.task} at {tap}"):
            for place in reversed(branch.places(tap)):
                branch.pull(place, value)

    def _trunk_backward(self, runner: SpanRunner) -> None:
        roots = [root for tap in self._taps.values() for root in tap.free()]
        roots += [late.root for late in self._late.values() if late.root is not None]
        if roots:
            with explained(runner), without_autocast(roots[0].device.type):
                torch.autograd.backward(roots)


_ALIAS = AliasGate()


def _autocast_as_now(images: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Makes contexts in which autocast, on the device of `images`, is as it is now."""
    device = next(leaf.device.type for leaf in pytree.tree_leaves(images) if isinstance(leaf, Tensor))
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return partial(torch.autocast, device, dtype, enabled, torch.is_autocast_cache_enabled())
