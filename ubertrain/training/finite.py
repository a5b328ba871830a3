"""Losses and gradients that are not numbers any more."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ubertrain.data.batch import Batch
from ubertrain.errors import NonFiniteError

_ADVICE = "look at these samples, lower optimizer.lr or set clip; nothing of this step was applied"


def require_finite_losses(step: int, losses: Mapping[str, Tensor], batch: Batch) -> None:
    """Raise `NonFiniteError`, with the task and its samples, unless every loss of step `step` (counted from 1) is finite."""
    for task, loss in losses.items():
        if not torch.isfinite(loss):
            raise NonFiniteError(
                f"step {step}: the loss of task {task!r} is {loss.item()}; {_samples(batch, [task])}; {_ADVICE}"
            )


def require_finite_gradients(step: int, graph: nn.Module, batch: Batch) -> None:
    """Raise `NonFiniteError`, with the parameter and the samples behind it, unless every gradient is finite.

    `graph` names its parameters "heads.TASK..." and "trunk...".
    """
    for name, parameter in sorted(graph.named_parameters()):  # heads before the trunk, into which their gradients flow
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            tasks = [name.split(".")[1]] if name.startswith("heads.") else list(batch.targets)
            raise NonFiniteError(
                f"step {step}: the gradient of {name} is not finite, though every loss is; {_samples(batch, tasks)}; {_ADVICE}"
            )


def _samples(batch: Batch, tasks: list[str]) -> str:
    """The samples of the batch that any of the tasks looks at."""
    rows = {row for task in tasks for row in batch.targets[task].positions(len(batch.ids), task)}
    return f"samples: {', '.join(batch.ids[row] for row in sorted(rows))}"
