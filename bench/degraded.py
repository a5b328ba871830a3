"""Photographs with masks, and masks made worse in a known way: what a segmentation's post-processing is measured on."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ubertrain.ops.crf import DenseCRF

CONFIDENCE = 0.7
"""The probability that a degraded mask gives its labels; the rest is shared equally. (pydensecrf's own examples' number.)"""


class Picture(NamedTuple):
    """An image (1, 3, height, width) float in 0..255 with the class of each pixel, (height, width), 255 unknown."""

    name: str
    image: Tensor
    mask: Tensor

    def crop(self, top: int, left: int, side: int = 64) -> "Picture":
        """A square of it."""
        rows, columns = slice(top, top + side), slice(left, left + side)
        return Picture(self.name, self.image[..., rows, columns].contiguous(), self.mask[rows, columns])


def folders(root: Path) -> dict[str, tuple[Path, str, Path, Callable[[Path], np.ndarray]]]:
    """Data set -> folder of images, their suffix, folder of masks, how to read one."""
    return {
        "VOC 2012": (root / "VOCdevkit/VOC2012/JPEGImages", ".jpg", root / "VOCdevkit/VOC2012/SegmentationClass", _png),
        "ECSSD": (root / "ECSSD/images", ".jpg", root / "ECSSD/ground_truth_mask", lambda file: _png(file) > 127),
        "COCO": (root / "coco/train2017", ".jpg", root / "coco/semantic_train2017", lambda file: _zero_unknown(_png(file))),
        "clothing": (root / "clothing-co-parsing/photos", ".jpg", root / "clothing-co-parsing/annotations/pixel-level", _mat),
    }


def _png(file: Path) -> np.ndarray:
    return np.array(Image.open(file))


def _zero_unknown(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 0, 255, mask)


def _mat(file: Path) -> np.ndarray:
    from scipy.io import loadmat

    return loadmat(file)["groundtruth"]


def pictures(root: Path, data_set: str, count: int) -> Iterator[Picture]:
    """`count` pictures of a data set, evenly spread over its masks."""
    images, suffix, truth, read = folders(root)[data_set]
    files = sorted(file for file in truth.iterdir() if (images / f"{file.stem}{suffix}").exists())
    for number in range(min(count, len(files))):
        file = files[number * len(files) // min(count, len(files))]
        image = np.array(Image.open(images / f"{file.stem}{suffix}").convert("RGB"))
        mask = torch.from_numpy(read(file).astype(np.int64))
        yield Picture(f"{data_set} {file.stem}", torch.from_numpy(image).permute(2, 0, 1)[None].float(), mask)


def rendered(height: int = 375, width: int = 500) -> Picture:
    """A picture for machines without data: blobs of colour under fine noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 6, 8, generator=generator) * 230
    image = F.interpolate(coarse, size=(height, width), mode="nearest") + 25 * torch.rand(
        1, 3, height, width, generator=generator
    )
    return Picture("rendered", image.round(), coarse[0, 0].gt(115).long().repeat_interleave(height // 6 + 1, 0)[:height]
                   .repeat_interleave(width // 8 + 1, 1)[:, :width])  # fmt: skip


def classes_of(picture: Picture) -> tuple[Tensor, Tensor]:
    """The ids that the mask shows, and the mask as indices into them, 255 where unknown."""
    ids = picture.mask[picture.mask != 255].unique()
    return ids, torch.where(
        picture.mask == 255, 255, torch.searchsorted(ids, picture.mask.clamp(max=int(ids[-1])).contiguous())
    )


def degraded(mask: Tensor, classes: int, step: int) -> Tensor:
    """Logits (1, classes, height, width) from the labels of every `step`-th pixel, brought back bilinearly."""
    one_hot = F.one_hot(torch.where(mask == 255, classes, mask), classes + 1)[..., :classes].permute(2, 0, 1)[None].float()
    small = F.interpolate(one_hot, size=[-(-side // step) for side in mask.shape], mode="nearest-exact")
    large = F.interpolate(small, size=mask.shape, mode="bilinear")
    return (CONFIDENCE * large + (1 - CONFIDENCE) / classes).log()


def sharpened(picture: Picture, step: int) -> tuple[Tensor, Tensor]:
    """Class ids (height, width) of the mask `degraded` by `step`, and of what a CRF with default parameters makes of it."""
    ids, mask = classes_of(picture)
    logits = degraded(mask, len(ids), step)
    with torch.no_grad():
        after = DenseCRF(len(ids))(logits, picture.image)
    return ids[logits[0].argmax(dim=0)], ids[after[0].argmax(dim=0)]


def mean_iou(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Of the classes that occur in the truth of all pairs (truth, prediction) together; 255 in the truth counts as nothing."""
    table = sum(torch.bincount(256 * truth[truth != 255] + found[truth != 255], minlength=2**16) for truth, found in pairs)
    assert isinstance(table, Tensor)
    table = table.view(256, 256)
    union = table.sum(dim=0) + table.sum(dim=1) - table.diagonal()
    return float((table.diagonal() / union)[table.sum(dim=1) > 0].mean())
