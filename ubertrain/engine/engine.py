"""One training step by a schedule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError as RecomputeError

from ubertrain.engine.branches import run_branch, without_autocast
from ubertrain.engine.gradients import all_or_nothing
from ubertrain.engine.graph import Graph, batch_size
from ubertrain.engine.inplace import TapVersions
from ubertrain.engine.matching import branch_runs, match, up_to
from ubertrain.engine.spans import SpanRunner, explain
from ubertrain.engine.streams import BranchStreams
from ubertrain.engine.taps import Tap
from ubertrain.errors import UbertrainError
from ubertrain.planning.schedule import Schedule


class Engine:
    """Runs training steps of a graph by a schedule, in the memory the schedule says.

    One step: the trunk forward through the schedule's spans; then, last branch first, each task with labelled rows: head, loss
    and backward into its taps' gradients; then one backward through the trunk. With T tasks the peak holds one head, not T.

    On a CPU gradients, buffers and random numbers after a step are bit for bit those of `sum(graph.losses(...).values())
    .backward()`, for every schedule that does not split rows (`rows=k`); with split rows they agree to rounding.

    Args:
        graph: trained in place. Its modules may be moved, frozen or switched between training and evaluation at any time.
        schedule: must name every stage of the trunk once, in order; an `nn.Sequential` stage may be named by its children, one
            by one. Without a part for the branches, each runs all its rows at once.

    Raises:
        ScheduleError: the schedule does not fit the graph.
    """

    def __init__(self, graph: Graph, schedule: Schedule) -> None:
        self.graph = graph
        self.schedule = schedule
        self._stage_after = match(graph, schedule)
        self._runs = branch_runs(graph, schedule)

    def forward_backward(
        self, images: Any, targets: Mapping[str, Any], *, scaler: torch.amp.GradScaler | None = None
    ) -> dict[str, Tensor]:
        """Add the gradient of the objective to `.grad`, as `loss.backward()` would.

        Args:
            images: what the first stage takes, usually (batch, 3, height, width).
            targets: task -> `Labels`, or a bare pytree for labels of all rows. A task that is absent or has no rows is not run:
                its parameters, buffers and `.grad` stay untouched.
            scaler: as in `scaler.scale(loss).backward()`.

        Returns:
            task -> its term of the objective (weight included, not scaled), detached scalars, in order of declaration.

        Raises:
            TaskError: an unknown task, labels that do not fit their rows, a loss that is not one value per image.
            ScheduleError: rows are to be split for a head that couples images, a stage writes in place where it must not, or a
                stage does not repeat itself under recompute, as far as shapes and dtypes tell.
            UbertrainError: gradients are switched off.

        After an exception, also one of a head or a loss, every `.grad` is what it was before the call.
        """
        if not torch.is_grad_enabled():
            raise UbertrainError(
                "a training step needs gradients, which are off here; call forward_backward outside torch.no_grad() and "
                "torch.inference_mode()"
            )
        labelled = self.graph.labelled(images, targets)
        batch = batch_size(images)
        losses: dict[str, Tensor] = {}
        taps: dict[str, Tap] = {}
        with all_or_nothing(self.graph.parameters()), _dropped_at_the_end(taps):
            runner = self._trunk_forward(images, tuple(labelled), taps)
            streams = BranchStreams(images)
            for run in reversed(self._runs):
                if run.task in labelled:
                    reads = [taps[tap] for tap in self.graph.taps[run.task]]
                    with streams.of(self.graph.number(run.task)):
                        losses[run.task] = run_branch(self.graph, run, labelled[run.task], reads, batch, scaler)
            streams.close()
            _trunk_backward(taps.values(), runner)
        return {task: losses[task] for task in labelled}

    def _trunk_forward(self, images: Any, tasks: Sequence[str], taps: dict[str, Tap]) -> SpanRunner:
        """Run the trunk as far as `tasks` need it and fill `taps`."""
        wanted = {tap for task in tasks for tap in self.graph.taps[task]}
        watch = TapVersions()

        def on_stage(name: str, value: Any) -> None:
            watch.check(name)
            if (stage := self._stage_after.get(name)) in wanted:
                taps[stage] = Tap(value, taps.values())
                watch.record(stage, value)

        items = up_to(self.schedule.trunk, set(self._stages(tasks)))
        runner = SpanRunner(self.graph.stage, on_stage)
        try:
            runner.run(items, images)
        finally:
            watch.forget()
        return runner

    def _stages(self, tasks: Iterable[str]) -> list[str]:
        """The schedule's names of the stages that must run for `tasks`."""
        names, needed = list(self.schedule.stages), self.graph.needed(tasks)
        last = max((i for i, name in enumerate(names) if self._stage_after.get(name) in needed), default=-1)
        return names[: last + 1]


@contextmanager
def _dropped_at_the_end(taps: dict[str, Tap]) -> Iterator[None]:
    """Empties `taps`, also after an exception: a tap holds the graph, whose recompute closures hold `taps`, and Python's
    collector cannot see that circle through autograd's nodes.
    """
    try:
        yield
    finally:
        taps.clear()


def _trunk_backward(taps: Iterable[Tap], runner: SpanRunner) -> None:
    roots = [root for tap in taps for root in tap.free()]
    if not roots:
        return
    try:
        with without_autocast(roots[0].device.type):
            torch.autograd.backward(roots)
    except RecomputeError as error:
        raise explain(error, runner.recomputing) from error
