"""Codewords for triangular coding of normals, from the training sets of a configuration."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ubertrain.annotation.normals import Normals
from ubertrain.annotation.warp import Warp
from ubertrain.data.reader import Reader
from ubertrain.errors import ConfigError, DataError
from ubertrain.ops.codewords import Directions, clustered_codewords
from ubertrain.training.build import make_readers
from ubertrain.training.config import Config

_IMAGES = 256
"""Images of a set that are looked at, spread evenly over it,"""
_PIXELS = 400
"""and normals taken from each, at random."""


def make_codebook(config: Config, codewords: int, *, label: str | None = None) -> Directions:
    """`codewords` directions (codewords, 3) by k-means over the normals of the training sets, warped as training warps them.

    Args:
        config: whose data sets and seed to take; its tasks are not looked at.
        codewords: how many.
        label: the label that holds the normals; None means every label of that kind.

    Raises:
        ConfigError: no training set carries such a label, or there are too few different normals.
        DataError: a sample cannot be read, unless the configuration says to skip it.
    """
    generator = torch.Generator().manual_seed(config.seed)
    found: list[Tensor] = []
    for name, reader in make_readers(config, "train").items():
        labels = [key for key, kind in reader.kinds.items() if issubclass(kind, Normals) and key == (label or key)]
        if labels:
            found += _normals_of(reader.only(labels), labels, config, name, generator)
    if not found:
        raise ConfigError(f"no training set carries {label or 'normals'!r}, from which a codebook could be made")
    return clustered_codewords(torch.cat(found).numpy(), codewords, seed=config.seed)


def write_codebook(words: Directions, file: Path) -> Path:
    """Write the codewords as `codebook:` of a task reads them, a .npy file; returns `file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:  # np.save puts .npy behind a name that has another ending
        np.save(stream, words.astype(np.float32))
    return file


def _normals_of(reader: Reader, labels: list[str], config: Config, name: str, generator: torch.Generator) -> list[Tensor]:
    """Some known normals (n, 3) of each of up to `_IMAGES` samples."""
    settings, size, found = config.data.train[name], config.data.size, []
    for index in range(0, len(reader), math.ceil(len(reader) / _IMAGES)):
        try:
            sample = reader.read(index)
        except DataError:
            if config.data.on_error == "raise":
                raise
            continue
        source = (sample.image.shape[1], sample.image.shape[2])
        warp = settings.warp.draw(source, size, generator) if settings.warp else Warp.fit(source, size)
        for label in labels:
            if label in sample.annotations:
                normals = Normals.warp(sample.annotations[label], warp).flatten(1).T
                known = normals[(normals != 0).any(dim=1)]
                found.append(known[torch.randperm(len(known), generator=generator)[:_PIXELS]])
    return found
