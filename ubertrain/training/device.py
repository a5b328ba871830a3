"""Where to train, and how a batch gets there."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.data.batch import Batch
from ubertrain.engine.labels import Labels
from ubertrain.errors import ConfigError
from ubertrain.training.config import Config


def device_of(config: Config) -> torch.device:
    """The device that `config.device` means.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{config.where('device')}: device is cuda, but torch finds no GPU; use auto or cpu")
    return torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its images and labels on `device`."""

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    targets = {
        task: Labels(pytree.tree_map_only(Tensor, move, labels.value), labels.rows) for task, labels in batch.targets.items()
    }
    return replace(batch, images=move(batch.images), targets=targets)
