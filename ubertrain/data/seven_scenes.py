"""7-Scenes: indoor video with the depth of a Kinect (Shotton et al., CVPR 2013)."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from ubertrain.annotation.depth import Depth
from ubertrain.annotation.normals import Normals
from ubertrain.data.files import FileReader
from ubertrain.data.images import read_depth, read_normals
from ubertrain.data.selection import cut, folder
from ubertrain.errors import DataError

_FRAME = re.compile(r"(frame-(\d+))\.color\.(jpg|png)")


class SevenScenes(FileReader):
    """`root/SEQUENCE/frame-N.color.{jpg,png}` with `frame-N.depth.png`; labels "depth" and "normals".

    Depth is 16-bit millimetres, 0 and 65535 where the sensor saw nothing. Normals are not part of 7-Scenes; where somebody has
    derived them, `root/normals_derived/frame-N.normal.png` holds them in 8 bit (x right, y down, z forward, black = unknown),
    at any size: the nearest one is taken for every pixel.

    Args:
        root: the folder of one scene.
        sequence: the folder with the frames, "seq-01" in the original.
        frames: the range of frame numbers, "start:stop"; neighbours in a video look alike, so training and validation should
            be far apart.
        labels, take, drop: see `FileReader`.
    """

    name = "seven_scenes"

    def __init__(
        self,
        root: str,
        sequence: str = "data",
        *,
        frames: str = ":",
        labels: Sequence[str] | None = None,
        take: str = ":",
        drop: str | None = None,
    ) -> None:
        self._frames = folder(Path(root) / sequence, "the frames of 7-Scenes: frame-000000.color.png and so on")
        self._normals = self._frames.parent / "normals_derived"
        self._suffixes = {match[1]: match[3] for path in self._frames.iterdir() if (match := _FRAME.fullmatch(path.name))}
        self.kinds = {"depth": Depth, "normals": Normals} if self._normals.is_dir() else {"depth": Depth}
        wanted = cut(frames, "frames")
        start, stop, step = wanted.indices(1 + max((int(frame.removeprefix("frame-")) for frame in self._suffixes), default=0))
        ids = [frame for frame in sorted(self._suffixes) if int(frame.removeprefix("frame-")) in range(start, stop, step)]
        if self._suffixes and not ids:
            raise DataError(f"seven_scenes: none of the frames in {self._frames} is in frames: {frames!r}")
        self.choose(ids, labels=labels, take=take, drop=drop, where=self._frames)

    def image_file(self, sample: str) -> Path:
        return self._frames / f"{sample}.color.{self._suffixes[sample]}"

    def label_file(self, label: str, sample: str) -> Path | None:
        file = self._frames / f"{sample}.depth.png" if label == "depth" else self._normals / f"{sample}.normal.png"
        return file if file.exists() else None

    def load(self, label: str, sample: str, file: Path, size: tuple[int, int]) -> Any:
        if label == "depth":
            return read_depth(file, scale=1000)
        return F.interpolate(read_normals(file)[None], size, mode="nearest-exact")[0]
