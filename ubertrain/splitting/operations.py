"""What is known of a traced operation without running it: whether it is a product, a view, a size, or writes in place."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from ubertrain.splitting.kinds import is_layer

_PRODUCT_LAYERS = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Bilinear,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
)
_PRODUCTS = {
    *(f"conv{d}d" for d in (1, 2, 3)),
    *(f"conv_transpose{d}d" for d in (1, 2, 3)),
    *("convolution", "linear", "bilinear", "matmul", "imatmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "dot", "inner"),
    *("addmm", "addbmm", "baddbmm", "addmv", "einsum", "tensordot", "chain_matmul"),
    *("scaled_dot_product_attention", "multi_head_attention_forward"),
}
_VIEW_LAYERS = (nn.Identity, nn.Flatten, nn.Unflatten)
_VIEWS = {
    *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "permute", "transpose", "swapaxes"),
    *("swapdims", "movedim", "moveaxis", "t", "adjoint", "squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to"),
    *("broadcast_tensors", "narrow", "select", "diagonal", "unfold", "as_strided", "chunk", "split", "split_with_sizes"),
    *("tensor_split", "hsplit", "vsplit", "dsplit", "unbind", "getitem", "getattr", "detach", "real", "imag", "_assert"),
}
_LIGHT = {"add", "add_", "iadd", "sub", "sub_", "isub", "neg", "cat", "concat", "stack"}
_MAYBE_SAME = {
    *("contiguous", "to", "type", "type_as", "float", "double", "half", "bfloat16", "int", "long", "bool", "cpu", "cuda"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout"),
    *("requires_grad_", "pin_memory", "conj", "resolve_conj", "resolve_neg", "positive", "__pos__", "pos"),
    *("atleast_1d", "atleast_2d", "atleast_3d", "native_channel_shuffle", "interpolate"),
}
_SIZES = {"shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad", "is_sparse", "itemsize", "nbytes"}
_SIZE_METHODS = {"size", "dim", "ndimension", "numel", "nelement", "stride", "get_device", "is_floating_point", "element_size"}
_AUGMENTED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
_IN_PLACE_METHODS = {"__setitem__", *(f"__i{name}__" for name in _AUGMENTED)}
_ON_NUMBERS = {"_operator", "builtins", "math"}
_FRESH_HOMES = ("torch", "_operator", "math", "builtins")


class Operations:
    """Answers about the nodes of one trace.

    Args:
        module: path -> the module a `call_module` node calls.
    """

    def __init__(self, module: Callable[[str], nn.Module]) -> None:
        self._module = module
        self._sizes: dict[fx.Node, bool] = {}

    def is_product(self, node: fx.Node) -> bool:
        """Whether it is a convolution or matrix product, or a module kept whole that learns and is no norm or activation."""
        if node.op == "call_module":
            module = self._module(str(node.target))
            parts = list(module.modules())
            own = not is_layer(module) and any(True for _ in module.parameters())
            return own or any(isinstance(part, _PRODUCT_LAYERS) for part in parts)
        return _name(node) in _PRODUCTS

    def is_view(self, node: fx.Node) -> bool:
        """Whether it computes nothing."""
        if node.op == "call_module":
            return isinstance(self._module(str(node.target)), _VIEW_LAYERS)
        return node.op in ("get_attr", "placeholder") or _name(node) in _VIEWS or self.is_size(node)

    def is_light(self, node: fx.Node) -> bool:
        """Whether its backward needs no value: it adds or joins tensors."""
        return _name(node) in _LIGHT

    def is_size(self, node: fx.Node) -> bool:
        """Whether its value is a number, a shape, a dtype or a device, and no tensor."""
        if node not in self._sizes:
            self._sizes[node] = self._finds_size(node)
        return self._sizes[node]

    def _finds_size(self, node: fx.Node) -> bool:
        if node.op == "call_method":
            return node.target in _SIZE_METHODS
        if node.op != "call_function":
            return False
        if node.target is getattr:
            return node.args[1] in _SIZES
        on_numbers = getattr(node.target, "__module__", None) in _ON_NUMBERS or node.target is torch._assert
        return on_numbers and bool(node.all_input_nodes) and all(map(self.is_size, node.all_input_nodes))

    def is_part_of_product(self, node: fx.Node) -> bool:
        """Whether it takes one result out of several that a product returned."""
        source = node.args[0] if node.target is operator.getitem else None
        return isinstance(source, fx.Node) and isinstance(node.args[1], int) and self.is_product(source)

    def learns(self, node: fx.Node) -> bool:
        """Whether it calls a module with parameters."""
        return node.op == "call_module" and any(True for _ in self._module(str(node.target)).parameters())

    def written(self, node: fx.Node) -> list[fx.Node]:
        """The values it writes into, as far as can be seen; what a module kept whole does inside is not seen."""
        if node.op == "call_module":
            writes = getattr(self._module(str(node.target)), "inplace", False) is True
        elif node.op == "call_method":
            writes = _is_in_place(str(node.target))
        elif node.op == "call_function":
            writes = _is_in_place(_name(node)) or _inplace_argument(node) or _is_augmented(node)
        else:
            return []
        targets = [node.args[0] if node.args else next(iter(node.kwargs.values()), None)] if writes else []
        out = node.kwargs.get("out")
        targets += out if isinstance(out, (tuple, list)) else [out]
        return [target for target in targets if isinstance(target, fx.Node) and not self.is_size(target)]

    def aliased(self, node: fx.Node) -> list[fx.Node]:
        """The values whose memory the result may share."""
        if self.is_size(node):
            return []
        if written := self.written(node):
            return written
        reads = [read for read in node.all_input_nodes if not self.is_size(read)]
        if node.op == "call_module":
            module = self._module(str(node.target))
            passes = not is_layer(module) or isinstance(module, (*_VIEW_LAYERS, nn.modules.dropout._DropoutNd))
            return reads if passes else []
        name = _name(node)
        home = getattr(node.target, "__module__", None) or "torch"
        own = node.op == "call_function" and home.partition(".")[0] not in _FRESH_HOMES
        return reads if own or name in _VIEWS | _MAYBE_SAME else []


def _name(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target)
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


def _is_in_place(name: str) -> bool:
    return (name.endswith("_") and not name.endswith("__")) or name == "setitem" or name in _IN_PLACE_METHODS


def _is_augmented(node: fx.Node) -> bool:
    name = _name(node)
    return getattr(operator, f"__{name}__", None) is node.target and name.startswith("i") and hasattr(operator, name[1:])


def _inplace_argument(node: fx.Node) -> bool:
    """Whether a function is called with `inplace=True`, by name or by position."""
    try:
        bound: dict[str, Any] = inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments  # type: ignore[arg-type]
    except (TypeError, ValueError):  # torch's compiled functions have no signature, and no such argument
        return node.kwargs.get("inplace") is True
    return bound.get("inplace", False) is True
