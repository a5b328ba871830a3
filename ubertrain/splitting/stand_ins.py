"""What a traced forward pass computes with instead of tensors, and what Python code may ask of it."""

from __future__ import annotations

import builtins
import dis
import inspect
import operator
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from torch import Tensor, fx
from torch.fx.proxy import Attribute as LazyAttribute
from torch.fx.proxy import TraceError


class Value(fx.Proxy):
    """A stand-in that notes `x += y` as what it is; torch.fx writes `x + y`, which leaves other names of `x` unchanged.

    Assertions on values hold while tracing and are not part of the trace. What Python asks of a value is answered if it is
    known; if not, the tracer notes that the code which asks cannot be traced.
    """

    @property
    def kind(self) -> type | None:
        """The type of what it stands for, None if that is not known."""
        kind: type | None = self.node.meta.get("kind")
        return kind

    def __getattr__(self, k: str) -> Any:
        if self.kind is not None and not hasattr(self.kind, k):
            raise AttributeError(f"{self.kind.__name__!r} object has no attribute {k!r}")
        return Member(self, k)

    def __hash__(self) -> int:
        if self.kind is None or not issubclass(self.kind, Tensor):
            self.tracer.doubt("it looks up a value by a size, dtype or device of its input")  # type: ignore[attr-defined]
        return id(self)

    def __bool__(self) -> bool:
        frame = inspect.currentframe()
        asker = frame.f_back if frame is not None else None
        if asker is not None:
            codes = list(dis.get_instructions(asker.f_code))
            place = bisect_left(codes, asker.f_lasti, key=lambda code: code.offset)
            if any(code.opname == "LOAD_ASSERTION_ERROR" for code in codes[place + 1 : place + 2]):
                return True
        self.tracer.refuse("it decides by a value")  # type: ignore[attr-defined]
        return super().__bool__()

    def __int__(self) -> NoReturn:
        self._as_number("int")

    def __float__(self) -> NoReturn:
        self._as_number("float")

    def _as_number(self, kind: str) -> NoReturn:
        self.tracer.refuse(f"it takes {kind}() of a value")  # type: ignore[attr-defined]
        raise TraceError(f"{kind}() of a traced value: it is not known while tracing")


class Member(LazyAttribute, Value):
    """An attribute of a value, or a method about to be called."""


def _in_place(operation: Callable[[Any, Any], Any]) -> Callable[[Value, Any], Any]:
    def method(self: Value, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return method


for _name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor", "imatmul"):
    setattr(Value, f"__{_name}__", _in_place(getattr(operator, _name)))


class Attribute(Value):
    """A parameter or buffer, whose shape is known while tracing."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, tensor: Tensor) -> None:
        super().__init__(node, tracer)
        self._tensor_type = type(tensor)
        self.shape, self.ndim, self.dim, self.size = tensor.shape, tensor.ndim, tensor.dim, tensor.size

    @property
    def kind(self) -> type:
        return self._tensor_type


@contextmanager
def asked() -> Iterator[None]:
    """While code runs that may ask for the type or an attribute of a value: `isinstance` and `hasattr` tell the truth.

    A `__class__` of the stand-ins would do for `isinstance`, but torch's compiled code believes it and reads a tensor where
    there is none.
    """
    isinstance_, hasattr_ = builtins.isinstance, builtins.hasattr

    def is_instance(value: Any, kinds: Any, /) -> bool:
        if not issubclass(type(value), Value) or _inside_torch(sys._getframe(1).f_globals):
            return isinstance_(value, kinds)
        if value.kind is None:
            value.tracer.doubt("it asks for the type of a value that may be one tensor or several")
        return issubclass(value.kind, kinds)

    def has_attribute(value: Any, name: str, /) -> bool:
        if issubclass(type(value), Value) and not _inside_torch(sys._getframe(1).f_globals) and value.kind is None:
            value.tracer.doubt("it asks for an attribute of a value that may be one tensor or several")
        return hasattr_(value, name)

    try:
        builtins.isinstance, builtins.hasattr = is_instance, has_attribute
        yield
    finally:
        builtins.isinstance, builtins.hasattr = isinstance_, hasattr_


def _inside_torch(names: dict[str, Any]) -> bool:
    """Whether code of torch's (but for what users call in its place) or of the tracer's asks."""
    home = str(names.get("__name__", ""))
    return home.startswith(("torch.", "ubertrain.splitting.")) and home != "torch.nn.functional"
