"""One branch of one step: head, loss and backward over its labelled rows, whole or a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from ubertrain.engine.graph import Graph, Labelled, term
from ubertrain.engine.heads import prediction_of
from ubertrain.engine.labels import Labels
from ubertrain.engine.taps import Tap
from ubertrain.errors import ScheduleError
from ubertrain.planning.schedule import BranchRun


def run_branch(
    graph: Graph,
    run: BranchRun,
    share: Labelled,
    taps: Sequence[Tap],
    batch: int,
    scaler: torch.amp.GradScaler | None,
) -> Tensor:
    """Forward and backward of one branch; gradients are added to those of the head's parameters and of `taps`.

    Args:
        graph: holds the branch and its head.
        run: the task, how many rows at a time, and what is recomputed of its head.
        share: the task's labels and rows.
        taps: what the branch reads, in its order.
        batch: the number of images.
        scaler: scales the loss before the backward, under float16 autocast.

    Returns:
        The task's term of the objective, a detached scalar.

    Raises:
        ScheduleError: `rows` are to be split for a head that couples images, or a stage that is recomputed does not repeat
            itself.
        TaskError: a loss that is not one value per image.
    """
    branch, head = graph.branches[run.task], graph.heads[run.task]
    size = _part_size(run, share, head, branch.criterion)
    terms = []
    for start in range(0, len(share.rows), size):
        rows = share.rows[start : start + size]
        labels = Labels(share.labels.value, share.rows)
        target = labels.value if size >= len(share.rows) else labels.part(start, start + len(rows))
        torch.clear_autocast_cache()
        levels = [tap.read(rows, batch) for tap in taps]
        with prediction_of(head, run) as predict:
            values = branch.per_row(predict, levels, target, rows=len(rows), task=run.task)
            terms.append(backward_from(term(values, branch.weight, share.divisor), scaler))
            del values, levels
    return terms[0] if len(terms) == 1 else torch.stack(terms).sum()


def _part_size(run: BranchRun, share: Labelled, head: nn.Module, criterion: Any) -> int:
    if run.rows is None or run.rows >= len(share.rows):
        return len(share.rows)
    if reason := coupling(head) or (coupling(criterion) if isinstance(criterion, nn.Module) else None):
        raise ScheduleError(
            f"branch {run.task!r} cannot run its {len(share.rows)} rows in parts of {run.rows}: {reason}, so the parts would "
            f"not give the gradient of the whole; drop rows={run.rows}, or use a norm that keeps images apart (group norm)"
        )
    return run.rows


def coupling(head: nn.Module) -> str | None:
    """Why a head's (or a loss's) outputs for one image depend on the others of its batch; None if nothing says that they do.

    Batch norm in training mode does, and spectral norm, whose estimate moves with every call. A module of your own says so with
    an attribute `couples_images = True`.
    """
    for name, module in head.named_modules():
        place = f"{type(module).__name__} {name!r}" if name else type(module).__name__
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            return f"{place} takes its statistics over the images of the batch"
        if module.training and _estimates_spectrum(module):
            return f"the spectral norm of {place} moves its estimate with every call"
        if getattr(module, "couples_images", False):
            return f"{place} declares couples_images"
    return None


def _estimates_spectrum(module: nn.Module) -> bool:
    """Whether one of torch's two spectral norms is put on a module."""
    parametrized = [step for steps in getattr(module, "parametrizations", {}).values() for step in steps]
    return any(isinstance(step, _SpectralNorm | SpectralNorm) for step in (*module._forward_pre_hooks.values(), *parametrized))


def backward_from(value: Tensor, scaler: torch.amp.GradScaler | None) -> Tensor:
    """Backward from a scalar, outside autocast, as `loss.backward()` after the autocast block would be; the value, detached."""
    detached = value.detach()
    if not value.requires_grad:
        return detached
    with without_autocast(value.device.type):
        (value if scaler is None else scaler.scale(value)).backward()
    return detached


def without_autocast(device: str) -> Any:
    """A context in which autocast is off on `device`."""
    return torch.autocast(device, enabled=False)
