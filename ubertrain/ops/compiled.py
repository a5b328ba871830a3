"""torchvision's compiled operators, if they really are there."""

import importlib
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch


@cache
def compiled(name: str, device: str) -> Callable[..., Any] | None:
    """`torch.ops.torchvision.<name>` if it has a kernel for `device` ("cpu", "cuda", ...), else None.

    torchvision is optional, and a build that does not match torch imports badly or imports without its operators. Whatever
    goes wrong means None; nothing is raised and no warning is shown, since our own operators do the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module("torchvision")
            found = torch._C._dispatch_has_kernel_for_dispatch_key(f"torchvision::{name}", device.upper())
            return getattr(torch.ops.torchvision, name) if found else None
        except Exception:  # a broken build raises anything, from OSError to RuntimeError
            return None
