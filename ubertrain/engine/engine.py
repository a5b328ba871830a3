"""One training step by a schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ubertrain.engine.gradients import all_or_nothing
from ubertrain.engine.graph import Graph
from ubertrain.engine.matching import branch_runs, check_order, match, up_to
from ubertrain.engine.parts import Part, parts
from ubertrain.engine.step import Step
from ubertrain.engine.watch import Watch
from ubertrain.errors import UbertrainError
from ubertrain.planning.schedule import Schedule


class Engine:
    """Runs training steps of a graph by a schedule, in the memory the schedule says.

    One step: the trunk forward through the schedule's spans; then, last branch first, each task with labelled rows: head, loss
    and backward into its taps' gradients; then one backward through the trunk. With T tasks the peak holds one head, not T.
    A branch that is `late` runs inside the trunk's backward, when the gradient from above has reached its tap; where none can
    come by, because the trunk up to the tap is frozen, it runs with the others. A branch that is `narrow` runs with the others,
    through what its head's `narrow` makes of the levels, and its levels are narrowed again inside the trunk's backward.

    On a CPU gradients, buffers and random numbers after a step are bit for bit those of `sum(graph.losses(...).values())
    .backward()`, for every schedule that does not split rows (`rows=k`). A branch in parts agrees to rounding, and so does a
    whole step in parts (`rows=k` before the trunk), whose losses are divided as those of the whole batch; there random numbers,
    of dropout in trunk and heads, are drawn part by part and are others than in one step.

    Args:
        graph: trained in place. Its modules may be moved, frozen or switched between training and evaluation at any time.
        schedule: must name every stage of the trunk once, in order; an `nn.Sequential` stage may be named by its children, one
            by one. Without a part for the branches, each runs all its rows at once.
        watch: is told what each step does while it does it.

    Raises:
        ScheduleError: the schedule does not fit the graph.
    """

    def __init__(self, graph: Graph, schedule: Schedule, *, watch: Watch | None = None) -> None:
        self.graph = graph
        self.schedule = schedule
        self._watch = watch or Watch()
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
            ScheduleError: rows are to be split where images are coupled, a tap is read late or narrow by some labelled branches
                and not by others, a stage writes in place where it must not, or a stage or a head's `narrow` does not repeat
                itself, as far as shapes, dtypes, random numbers and buffers tell.
            UbertrainError: gradients are switched off.

        After an exception, also one of a head or a loss, every `.grad` is what it was before the call.
        """
        if not torch.is_grad_enabled():
            raise UbertrainError(
                "a training step needs gradients, which are off here; call forward_backward outside torch.no_grad() and "
                "torch.inference_mode()"
            )
        labelled = self.graph.labelled(images, targets)
        terms: dict[str, list[Tensor]] = {task: [] for task in labelled}
        with all_or_nothing(self.graph.parameters()):
            for part in parts(self.graph, self.schedule.rows, images, labelled):
                for task, term in self._run(part, scaler).items():
                    terms[task].append(term)
        return {task: found[0] if len(found) == 1 else torch.stack(found).sum() for task, found in terms.items()}

    def _run(self, part: Part, scaler: torch.amp.GradScaler | None) -> dict[str, Tensor]:
        """One forward and backward of a part, or of the whole batch."""
        runs = [run for run in self._runs if run.task in part.labelled]
        check_order(self.graph, runs)
        items = up_to(self.schedule.trunk, set(self._stages(part.labelled)))
        return Step(self.graph, runs, self._stage_after, part, scaler, self._watch).run(items)

    def _stages(self, tasks: Iterable[str]) -> list[str]:
        """The schedule's names of the stages that must run for `tasks`."""
        names, needed = list(self.schedule.stages), self.graph.needed(tasks)
        last = max((i for i, name in enumerate(names) if self._stage_after.get(name) in needed), default=-1)
        return names[: last + 1]
