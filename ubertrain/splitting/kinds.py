"""What kind of thing a traced value is, as far as its operation tells: a tensor, a shape, a number, or not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

_CONTAINERS = ("torch.nn.modules.module", "torch.nn.modules.container")
_SEVERAL_RESULTS = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.AdaptiveLogSoftmaxWithLoss)
_ATTRIBUTES: dict[str, type] = {
    **dict.fromkeys(("T", "mT", "H", "mH", "data", "real", "imag"), Tensor),
    "shape": torch.Size,
    "ndim": int,
    "dtype": torch.dtype,
    "device": torch.device,
    "requires_grad": bool,
}
_NUMBERS = {"dim", "ndimension", "numel", "nelement"}
_WHOLE_NUMBERS = {"add", "sub", "mul", "floordiv", "mod", "neg"}
_OPERATORS = _WHOLE_NUMBERS | {
    *("truediv", "pow", "matmul", "abs", "pos", "invert", "and_", "or_", "xor", "lt", "le", "gt", "ge", "eq", "ne"),
    *("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor", "imatmul"),
}
_ONE_TENSOR = {
    *("relu", "relu_", "gelu", "silu", "mish", "elu", "leaky_relu", "hardswish", "sigmoid", "tanh", "softmax", "log_softmax"),
    *("softplus", "exp", "log", "sqrt", "rsqrt", "square", "abs", "neg", "add", "add_", "sub", "mul", "mul_", "div", "pow"),
    *("mean", "sum", "clamp", "clamp_", "matmul", "bmm", "mm", "linear", "conv1d", "conv2d", "conv3d", "cat", "stack"),
    *("conv_transpose2d", "layer_norm", "batch_norm", "group_norm", "instance_norm", "normalize", "dropout", "dropout2d"),
    *("avg_pool2d", "adaptive_avg_pool2d", "interpolate", "pad", "pixel_shuffle", "scaled_dot_product_attention", "round"),
    *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "squeeze", "unsqueeze", "expand", "repeat", "roll"),
    *("contiguous", "clone", "detach", "to", "float", "half", "bfloat16", "double", "type_as", "narrow", "movedim", "flip"),
}


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch's layers or derives from one: fx would take a changed convolution apart."""
    homes = [kind.__module__ for kind in type(module).__mro__]
    own = homes[0].startswith(("torch.nn.", "torch.ao.nn.")) and not isinstance(module, nn.Sequential)
    return own or any(home.startswith("torch.nn.modules.") and home not in _CONTAINERS for home in homes)


def kind_of(node: fx.Node, module: Callable[[str], nn.Module]) -> type | None:
    """The type of a value; None if that is not known. The input of the traced module is taken for a tensor.

    Args:
        node: its inputs have their kinds in their `meta` already.
        module: path -> the module a `call_module` node calls.
    """
    if node.op in ("placeholder", "get_attr"):
        return Tensor
    inputs = [_kind(value) for value in node.args]
    if node.op == "call_module":
        return _returned(module(str(node.target)), inputs)
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    first = inputs[0] if inputs else None
    home = getattr(node.target, "__module__", None)
    if name == "getattr":
        return _ATTRIBUTES.get(str(node.args[1])) if first is Tensor else None
    if name == "getitem":
        return _item(first, node.args[1])
    if node.op == "call_method" and first is Tensor and name in _NUMBERS | {"size"}:
        return int if name in _NUMBERS or len(node.args) > 1 or node.kwargs else torch.Size
    if home == "_operator":
        return _computed(name, inputs)
    ours = node.op == "call_method" or home is None or home.partition(".")[0] == "torch"
    return Tensor if ours and name in _ONE_TENSOR and (Tensor in inputs or name in ("cat", "stack")) else None


def _kind(value: Any) -> type | None:
    return value.meta.get("kind") if isinstance(value, fx.Node) else type(value)


def _returned(layer: nn.Module, inputs: list[type | None]) -> type | None:
    if isinstance(layer, nn.Identity):
        return inputs[0] if inputs else None
    plain = type(layer).__module__.startswith("torch.nn.modules.") and is_layer(layer)
    several = isinstance(layer, _SEVERAL_RESULTS) or getattr(layer, "return_indices", False)
    return Tensor if plain and not several else None


def _item(source: type | None, place: Any) -> type | None:
    if source is torch.Size:
        return int if isinstance(place, int) else torch.Size if isinstance(place, slice) else None
    return source if source is Tensor else None


def _computed(name: str, inputs: list[type | None]) -> type | None:
    if Tensor in inputs and name in _OPERATORS:
        return Tensor
    return int if name in _WHOLE_NUMBERS and all(kind is int for kind in inputs) else None
