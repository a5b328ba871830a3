"""The precision that the forward pass runs in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ubertrain.training.config import Config


def autocast_of(config: Config, device: torch.device) -> AbstractContextManager[Any]:
    """A context for forward passes: torch's autocast if `config.autocast` names a type."""
    precision = config.autocast
    return torch.autocast(device.type, getattr(torch, precision)) if precision else nullcontext()
