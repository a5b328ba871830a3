"""The structure measure: whether a saliency map has the objects and the layout of the truth, not only its pixels.

Fan, Cheng, Liu, Li and Borji, "Structure-measure: a new way to evaluate foreground maps" (ICCV 2017), as their MATLAB code
computes it. Means, variances and areas are taken over the pixels whose truth is known.
"""

import torch
from torch import Tensor

_ALPHA = 0.5
_NO_SPREAD = 1e-12
"""A sum of squared deviations below this is rounding: of values in steps of 1/255, one that differs makes 1.5e-5."""


def s_measure(prediction: Tensor, truth: Tensor) -> Tensor:
    """The S-measure of every image, (rows,) float64 from 0 to 1; nan for an image without a known pixel.

    It is half the similarity of foreground and background, each as a whole (`object_similarity`), and half that of the four
    parts into which the centre of the foreground divides the image (`region_similarity`), at least 0. Of an image without
    foreground it is 1 - the mean of the prediction, of one that is all foreground the mean of the prediction.

    Args:
        prediction: (rows, height, width), from 0 to 1.
        truth: (rows, height, width): 0, 1, 255 = unknown.
    """
    known, salient = (truth != 255).flatten(1), (truth == 1).flatten(1).double()
    values = torch.where(known, prediction.flatten(1).double(), 0.0)
    pixels, foreground = known.sum(dim=1), salient.sum(dim=1)
    mean = values.sum(dim=1) / pixels  # nan where nothing is known
    mixed = _ALPHA * object_similarity(prediction, truth) + (1 - _ALPHA) * region_similarity(prediction, truth)
    one_sided = torch.where(foreground == 0, 1 - mean, mean)
    return torch.where((foreground == 0) | (foreground == pixels), one_sided, mixed.clamp(min=0))


def object_similarity(prediction: Tensor, truth: Tensor) -> Tensor:
    """Equations 5 to 8: 2 m / (m^2 + 1 + s) of foreground and background, weighted by their areas; (rows,) float64.

    m and s are mean and standard deviation of the prediction on the foreground, of 1 - the prediction on the background.
    """
    values, pixels = prediction.flatten(1).double(), (truth != 255).sum(dim=(1, 2)).double()
    score = torch.zeros(len(values), dtype=torch.float64, device=values.device)
    for side, expected in ((1, values), (0, 1 - values)):
        mask = (truth == side).flatten(1)
        count = mask.sum(dim=1).double()
        mean = torch.where(mask, expected, 0.0).sum(dim=1) / count.clamp(min=1)
        squares = torch.where(mask, (expected - mean[:, None]) ** 2, 0.0).sum(dim=1)
        spread = (squares / (count - 1).clamp(min=1)).sqrt()
        score += count / pixels.clamp(min=1) * 2 * mean / (mean**2 + 1 + spread)
    return score


def region_similarity(prediction: Tensor, truth: Tensor) -> Tensor:
    """Equations 2 to 4: the structural similarity of the four parts around the foreground's centre, by area; (rows,) float64.

    A part in which neither prediction nor truth varies counts 1, one in which they have nothing in common 0.
    """
    known = (truth != 255).flatten(1)
    part = _parts(truth) + 4 * torch.arange(len(truth), device=truth.device).view(-1, 1)

    def sums(values: Tensor) -> Tensor:
        """Sum of (rows, pixels) over the known pixels of each part: (rows * 4,)."""
        return torch.bincount(part.flatten(), torch.where(known, values, 0.0).flatten(), minlength=4 * len(truth))

    x, y = prediction.flatten(1).double(), (truth == 1).flatten(1).double()
    count = sums(torch.ones_like(x))
    mean_x, mean_y = sums(x) / count.clamp(min=1), sums(y) / count.clamp(min=1)
    off_x, off_y = x - mean_x[part], y - mean_y[part]
    squares_x, squares_y, products = sums(off_x**2), sums(off_y**2), sums(off_x * off_y)
    squares_x, squares_y = (torch.where(squares < _NO_SPREAD, 0.0, squares) for squares in (squares_x, squares_y))
    products = torch.where((squares_x > 0) & (squares_y > 0), products, 0.0)
    free = (count - 1).clamp(min=1)
    common = 4 * mean_x * mean_y * products / free
    most = (mean_x**2 + mean_y**2) * (squares_x + squares_y) / free
    score = torch.where(most > 0, common / most.clamp(min=torch.finfo(torch.float64).tiny), 1.0)
    return ((count * score).view(-1, 4).sum(dim=1)) / known.sum(dim=1).clamp(min=1)


def _parts(truth: Tensor) -> Tensor:
    """In which of the four parts each pixel lies: (rows, height * width) int64 from 0 to 3.

    The centre of the foreground, in pixels counted from 1 and rounded, belongs to the upper left part.
    """
    height, width = truth.shape[-2:]
    salient = (truth == 1).double()
    total = salient.sum(dim=(1, 2)).clamp(min=1)
    rows = torch.arange(1, height + 1, device=truth.device)
    columns = torch.arange(1, width + 1, device=truth.device)
    middle_y = ((salient.sum(dim=2) @ rows.double()) / total + 0.5).floor()
    middle_x = ((salient.sum(dim=1) @ columns.double()) / total + 0.5).floor()
    lower, right = rows > middle_y[:, None], columns > middle_x[:, None]
    return (2 * lower[:, :, None] + right[:, None, :].long()).flatten(1)
