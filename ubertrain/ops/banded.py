"""Cross-entropy at full resolution without logits at full resolution: a band of rows of pixels at a time.

For C classes the plain way holds several maps of C numbers per pixel: the enlarged logits, their logarithmic softmax and the
gradients of both. Here a band of rows is enlarged, compared with its labels, and turned into its share of the gradient with
respect to the grid at once, since the derivative of a mean of cross-entropies needs nothing that comes later but one factor per
image. So each band is enlarged once, nothing is computed again, and what is kept for the backward has the size of the grid.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ubertrain.errors import DataError
from ubertrain.ops.grid import OnGrid
from ubertrain.ops.pixels import full_precision, to_size

MOST_BANDS = 32
"""Into which an image is cut: each holds about 3 % of what the whole would."""
LEAST_NUMBERS = 2**18
"""In a band, where there are as many: small tensors cost more time than they save memory."""


def banded_cross_entropy(scores: OnGrid | Tensor, target: Tensor, *, ignore: int = 255, band: int | None = None) -> Tensor:
    """The mean of -log softmax(logits)[id] over the labelled pixels of every image.

    Args:
        scores: logits, (rows, classes, height, width) on a grid or, as a tensor, of pixels. Cut to the labels, or continued by
            repeating the border. Fewer than 32 bits are made 32 first.
        target: (rows, height, width) int64 class ids.
        ignore: the id that stands for no label; what is predicted there, nan included, has no effect.
        band: rows of pixels at a time; None for a choice between memory and time.

    Returns:
        (rows,), in nats; exactly 0 for an image without a labelled pixel, with a gradient of 0. It can be differentiated once.

    Raises:
        DataError: shapes do not fit, or, on a CPU, an id that is no class.
    """
    grid = scores if isinstance(scores, OnGrid) else OnGrid(scores, 1)
    values = full_precision(grid.values)
    if target.ndim != 3 or len(target) != len(values):
        raise DataError(
            f"labels of shape {tuple(target.shape)} for scores of {len(values)} images; expected (rows, height, width)"
        )
    band = band or rows_of_band(len(values) * values.shape[1] * target.shape[2], target.shape[1])
    learns = torch.is_grad_enabled() and values.requires_grad
    losses: Tensor = _MeanSurprise.apply(values, target, grid.stride, grid.corners, ignore, band, learns)
    return losses


def rows_of_band(numbers: int, height: int) -> int:
    """How many rows of pixels make a band, for so many numbers in each row."""
    return max(1, math.ceil(height / MOST_BANDS), math.ceil(LEAST_NUMBERS / max(numbers, 1)))


class _MeanSurprise(torch.autograd.Function):
    """Computes the gradient along with the value, up to the factor of each image."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, target: Tensor, stride: int, corners: bool, ignore: int, band: int, learns: bool
    ) -> Tensor:
        grid = OnGrid(values.detach(), stride, corners)
        with torch.autocast(values.device.type, enabled=False):
            return _MeanSurprise._swept(ctx, grid, target, ignore, band, learns)

    @staticmethod
    def _swept(ctx: Any, grid: OnGrid, target: Tensor, ignore: int, band: int, learns: bool) -> Tensor:
        values = grid.values
        gradient = torch.zeros_like(values, memory_format=torch.contiguous_format) if learns else None
        total = values.new_zeros(len(values))
        for start in range(0, target.shape[1], band):
            labels = target[:, start : start + band]
            total += _surprise(grid, start, labels, labels != ignore, gradient)
        count = (target != ignore).flatten(1).sum(dim=1).clamp(min=1).to(values.dtype)
        if gradient is not None:
            gradient /= count.view(-1, 1, 1, 1)
            ctx.save_for_backward(gradient)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.view(-1, 1, 1, 1), None, None, None, None, None, None


def _surprise(grid: OnGrid, start: int, labels: Tensor, valid: Tensor, gradient: Tensor | None) -> Tensor:
    """The sum over a band's labelled pixels, (rows,); adds its derivative to `gradient`."""
    height, width = labels.shape[-2:]
    first, second, share = grid.neighbours(start, start + height, grid.values.shape[-2])
    share = share.view(-1, 1)
    logs = F.log_softmax(_widened(grid, _rows(grid, first, second, share), width), dim=1)
    chosen = torch.where(valid, labels, 0)[:, None]
    said = _gathered(logs, chosen)
    losses = -torch.where(valid, said[:, 0], 0).flatten(1).sum(dim=1)
    if gradient is not None:
        residual = logs.exp_().scatter_(1, chosen, said.exp_() - 1).masked_fill_(~valid[:, None], 0)
        del logs, said
        cells = _narrowed(grid, residual)
        del residual
        _add_rows(grid, start, cells, gradient)
    return losses


def _rows(grid: OnGrid, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Rows of pixels of cells."""
    values = grid.values[:, :, first]
    return values if grid.stride == 1 else torch.lerp(values, grid.values[:, :, second], share)


def _add_rows(grid: OnGrid, start: int, rows: Tensor, gradient: Tensor) -> None:
    """The adjoint of `_rows`: adds the rows of pixels from `start` on to the rows of cells that they lie between.

    A product too; `index_add_` adds in another order in every run on a GPU.
    """
    cells = gradient.shape[-2]
    if grid.stride > 1:
        touched, shares = grid.shares(start, start + rows.shape[-2], cells)
        gradient[:, :, touched] += shares @ rows.contiguous()  # which on a CPU is twice as fast
        return
    inside = max(0, min(cells - start, rows.shape[-2]))
    gradient[:, :, start : start + inside] += rows[:, :, :inside]
    if inside < rows.shape[-2]:  # beyond the border its cell is repeated
        gradient[:, :, -1] += rows[:, :, inside:].sum(dim=2)


def _gathered(logs: Tensor, chosen: Tensor) -> Tensor:
    try:
        return logs.gather(1, chosen)
    except RuntimeError as error:
        raise DataError(
            f"class ids {int(chosen.min())} to {int(chosen.max())} in the labels; there are scores of {logs.shape[1]} classes"
        ) from error


def _widened(grid: OnGrid, part: Tensor, width: int) -> Tensor:
    """`part`, rows of pixels of cells, as rows of pixels of `width` pixels."""
    if grid.stride > 1:
        size = (part.shape[-2], grid.covered(part.shape[-1]))
        part = F.interpolate(part, size=size, mode="bilinear", align_corners=grid.corners)
    return to_size(part, (part.shape[-2], width))


def _narrowed(grid: OnGrid, residual: Tensor) -> Tensor:
    """The adjoint of `_widened`: the pixels of a cell's block concern it and its two neighbours.

    A product with three columns per block, many times as fast on a CPU as torch's own adjoint, and on a GPU without its atomic
    additions, whose order changes from run to run.
    """
    cells = grid.values.shape[-1]
    covered, full = grid.covered(cells), cells * grid.stride
    beyond = residual.shape[-1] - covered
    if beyond > 0:
        residual, rest = residual[..., :covered].clone(), residual[..., covered:].sum(dim=-1)
        residual[..., -1] += rest
    if residual.shape[-1] < full:
        residual = F.pad(residual, (0, full - residual.shape[-1]))
    if grid.stride == 1:
        return residual
    before, own, after = (residual.unflatten(-1, (cells, grid.stride)) @ grid.tents()).unbind(dim=-1)
    own[..., :-1] += before[..., 1:]
    own[..., 1:] += after[..., :-1]
    own[..., 0] += before[..., 0]  # beyond the border its cell is repeated
    own[..., -1] += after[..., -1]
    return own
