"""What an operation costs: FLOPs, or seconds by the roofline of a device, its arithmetic or its bytes, whichever is longer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ubertrain.measuring.calibrate import calibrate
from ubertrain.measuring.devices import NO_DEVICES, find_device
from ubertrain.measuring.speed import Speed
from ubertrain.measuring.work import OpCost, flops, moved_bytes

Unit = Literal["FLOPs", "seconds"]

_FLOPS_PER_BYTE = 1e-3
_ALLOCATIONS = frozenset({"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"})
_CONVOLUTIONS = frozenset({"convolution", "_convolution", "convolution_backward", "cudnn_convolution"})


def op_cost(cost: str, device: torch.device, file: str | Path | None = None) -> OpCost:
    """The cost of one operation.

    Args:
        cost: "flops"; "auto", seconds by a roofline of `device`, which is measured; or the name of a device in the table
            (`ubertrain.measuring.devices`), seconds by its roofline.
        device: where the operations would run; only "auto" asks. As in `calibrate`.
        file: more devices, as in `find_device`.

    Raises:
        ConfigError: no device has that name, or "auto" and `device` is not on this machine.
    """
    speed = speed_of(cost, device, file)
    return _flops_then_bytes if speed is None else roofline(speed)


def speed_of(cost: str, device: torch.device, file: str | Path | None = None) -> Speed | None:
    """The speed behind `op_cost` of the same arguments; None for FLOPs.

    Raises:
        ConfigError: as `op_cost`.
    """
    if cost == "flops":
        return None
    return calibrate(device) if cost == "auto" else find_device(cost, file, NO_DEVICES).speed()


def _flops_then_bytes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> float:
    """FLOPs, and next to nothing for bytes: of two schedules of equal FLOPs the one that runs less again is preferred."""
    moved = 0.0 if _only_looks(func, args, result) else _FLOPS_PER_BYTE * moved_bytes(args, kwargs, result)
    return flops(func, args, kwargs, result) + moved


def unit_of(cost: str) -> Unit:
    """What `op_cost(cost, ...)` counts in."""
    return "FLOPs" if cost == "flops" else "seconds"


@dataclass(frozen=True)
class Tf32:
    """Which float32 operations may round their operands to TF32.

    Attributes:
        convolutions: torch's default is yes.
        products: of matrices, attention among them; torch's default is no.
    """

    convolutions: bool
    products: bool

    @classmethod
    def set_now(cls) -> Self:
        """As torch's settings say; they count on CUDA devices alone, and can be read without one."""
        convolutions: Any = torch.backends.cudnn
        products = torch.backends.cuda.matmul
        return cls(convolutions.conv.fp32_precision == "tf32", products.fp32_precision == "tf32")


def roofline(speed: Speed, tf32: Tf32 | None = None) -> OpCost:
    """Seconds of an operation: max(FLOPs / (FLOP/s), bytes / (bytes/s)) + overhead (Williams, Waterman, Patterson 2009).

    FLOPs are those of convolutions, matrix products and attention, at the rate of the result's dtype; every other operation
    is bound by the bytes that it moves. Views and changes of metadata take no time; making memory takes the overhead alone.

    Args:
        speed: of the device.
        tf32: left out: as torch is set at this moment.
    """
    allowed = Tf32.set_now() if tf32 is None else tf32

    def seconds(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> float:
        if _only_looks(func, args, result):
            return 0.0
        if _name(func) in _ALLOCATIONS:
            return speed.overhead
        arithmetic = flops(func, args, kwargs, result) / _rate(speed, allowed, func, result)
        return max(arithmetic, moved_bytes(args, kwargs, result) / speed.bytes_per_second) + speed.overhead

    return seconds


def _only_looks(func: Any, args: tuple[Any, ...], result: Any) -> bool:
    """Whether the operation writes nothing: its result is memory that an argument holds already, or no tensor's values."""
    # fake tensors ask for their device by an operation of the namespace prim
    if func.is_view or func.namespace == "prim" or torch.Tag.inplace_view in func.tags:
        return True
    if func._schema.is_mutable:
        return False
    made = _storages(result)
    # _unsafe_view and its like are views that the schema does not admit
    return bool(made) and made <= _storages(args)


def _storages(tree: Any) -> set[int]:
    tensors = (leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor))
    return {tensor.untyped_storage()._cdata for tensor in tensors if tensor.layout == torch.strided}


def _rate(speed: Speed, tf32: Tf32, func: Any, result: Any) -> float:
    """FLOP/s for the first tensor of the result."""
    dtype = next((leaf.dtype for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)), torch.float32)
    rounds = tf32.convolutions if _name(func) in _CONVOLUTIONS else tf32.products
    name = "tf32" if dtype == torch.float32 and rounds else str(dtype).removeprefix("torch.")
    return speed.flops.get(name, speed.flops["float32"])


def _name(func: Any) -> str:
    return func._overloadpacket.__name__
