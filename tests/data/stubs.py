"""Tasks without a network and data sets without files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ubertrain.annotation import Annotation, Boxes, ClassMap, Depth, Edges, Normals
from ubertrain.data.reader import Reader
from ubertrain.data.sample import Sample
from ubertrain.errors import DataError
from ubertrain.metrics.metric import Metric
from ubertrain.task import Task

KINDS: dict[str, type[Annotation]] = {kind.key: kind for kind in (Boxes, ClassMap, Depth, Edges, Normals)}


class Wants(Task):
    """A task that is known only by the label it wants."""

    def __init__(self, kind: type[Annotation], key: str | None = None) -> None:
        self.annotation, self.key = kind, key

    def make_head(self, levels: list[Any]) -> nn.Module:
        raise NotImplementedError

    def loss(self, prediction: Any, target: Any) -> Tensor:
        raise NotImplementedError

    def metric(self) -> Metric:
        raise NotImplementedError

    def draw(self, image: np.ndarray, prediction: Any) -> np.ndarray:
        raise NotImplementedError


def tasks(*labels: str) -> dict[str, Task]:
    """A task for each label, called as the label."""
    return {label: Wants(KINDS[label]) for label in labels}


class Listed(Reader):
    """Images of 6x8 pixels that are filled with their index; `labels[i]` is what sample i carries, None makes it unreadable."""

    def __init__(self, labels: Sequence[Sequence[str] | None], kinds: Mapping[str, type[Annotation]] = KINDS) -> None:
        self.labels, self.kinds = labels, kinds

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Sample:
        labels = self.labels[index]
        if labels is None:
            raise DataError(f"sample {index} is broken")
        values = {label: blank(label, (6, 8), index) for label in labels}
        return Sample(str(index), torch.full((3, 6, 8), index, dtype=torch.uint8), values, f"memory:{index}")


def blank(label: str, size: tuple[int, int], number: int = 1) -> Any:
    """A valid value that carries `number`, where its kind can."""
    makers: dict[str, Callable[[], Any]] = {
        "boxes": lambda: {
            "boxes": torch.tensor([[0.0, 0.0, size[1], size[0]]]),
            "classes": torch.tensor([number]),
            "ignore": torch.tensor([False]),
        },
        "class_map": lambda: torch.full(size, number),
        "depth": lambda: torch.full(size, float(number)),
        "edges": lambda: torch.zeros(1, *size, dtype=torch.uint8),
        "normals": lambda: torch.tensor([0.0, 0.0, -1.0])[:, None, None].expand(3, *size).clone(),
    }
    return makers[label]()


def picture(path: Path, size: tuple[int, int] = (6, 8)) -> Path:
    """Write a small grey JPEG or PNG of `size` = (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), (90, 90, 90)).save(path)
    return path


def cut_short(source: Path, target: Path, part: float = 0.5) -> Path:
    """The first `part` of a file, as an interrupted download leaves it."""
    content = source.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content[: int(len(content) * part)])
    return target
