"""ECSSD: photographs with a mask of what stands out in each (Shi et al., PAMI 2016); other sets of masks look the same."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ubertrain.annotation.saliency import Saliency
from ubertrain.data.files import FileReader
from ubertrain.data.images import read_mask
from ubertrain.data.selection import folder


class ECSSD(FileReader):
    """`root/images/ID.jpg` with `root/ground_truth_mask/ID.png`; label "saliency".

    A mask is grey: from 128 on a pixel is salient. DUTS, HKU-IS and DUT-OMRON differ in the names of the folders only.

    Args:
        root: the folder of the set, which has no parts for training and validation; divide it with `drop` and `take`.
        images: the folder of the photographs, .jpg or .png.
        masks: the folder of the masks, .png.
        labels, take, drop: see `FileReader`.
    """

    name = "ecssd"

    def __init__(
        self,
        root: str,
        *,
        images: str = "images",
        masks: str = "ground_truth_mask",
        labels: Sequence[str] | None = None,
        take: str = ":",
        drop: str | None = None,
    ) -> None:
        top = folder(root, f"the folders {images} and {masks}")
        photos, self._masks = folder(top / images, "the photographs"), folder(top / masks, "the masks, as PNG")
        self._files = {path.stem: path for path in photos.glob("[!.]*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")}
        self.kinds = {"saliency": Saliency}
        self.choose(sorted(self._files), labels=labels, take=take, drop=drop, where=photos)

    def image_file(self, sample: str) -> Path:
        return self._files[sample]

    def label_file(self, label: str, sample: str) -> Path | None:
        file = self._masks / f"{sample}.png"
        return file if file.exists() else None

    def load(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Tensor:
        return read_mask(file)
