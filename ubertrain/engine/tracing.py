"""A module's forward pass as a list of operations: torch.fx, held to the truth.

torch.fx runs the forward pass once on stand-ins and notes what is done to them. What it would get wrong without a word (code
that depends on training or evaluation mode, random numbers drawn while tracing, gradients or autocast switched inside, `+=`
written as `+`) is found here: the module it happens in is kept whole, or refused if it is the outermost.
"""

from __future__ import annotations

import dis
import inspect
import operator
import pickle
import random
import traceback
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from ubertrain.errors import ScheduleError

MANUAL = "or write the stages yourself: ut.Graph takes any ordered dict of modules, each called with what the last returned"
_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(random.__file__).parent / "inspect.py"), __file__)
_CONTAINERS = ("torch.nn.modules.module", "torch.nn.modules.container")


class Value(fx.Proxy):
    """A stand-in that notes `x += y` as what it is; torch.fx writes `x + y`, which leaves other names of `x` unchanged.

    Assertions on values hold while tracing and are not part of the trace.
    """

    def __bool__(self) -> bool:
        frame = inspect.currentframe()
        asker = frame.f_back if frame is not None else None
        if asker is not None:
            codes = list(dis.get_instructions(asker.f_code))
            place = bisect_left(codes, asker.f_lasti, key=lambda code: code.offset)
            if any(code.opname == "LOAD_ASSERTION_ERROR" for code in codes[place + 1 : place + 2]):
                return True
        return super().__bool__()


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
        self.shape, self.ndim, self.dim, self.size = tensor.shape, tensor.ndim, tensor.dim, tensor.size


class Tracer(fx.Tracer):
    """Traces `root` called with one argument; other parameters of its forward keep their defaults.

    Args:
        whole: whether a module is to be one operation.

    Attributes:
        returned: id of a module -> what its last call returned.
        untrue: path of a module -> why its own code cannot be traced; "" is the root.
        unregistered: made-up path -> layer that is no submodule of the root.
        failed: path of the innermost module whose forward raised.
    """

    proxy_buffer_attributes = True

    def __init__(self, whole: Callable[[nn.Module, str], bool]) -> None:
        super().__init__()
        self.whole = whole
        self.returned: dict[int, Any] = {}
        self.untrue: dict[str, str] = {}
        self.unregistered: dict[str, nn.Module] = {}
        self.failed: str | None = None
        self._known: dict[nn.Module, str] = {}
        self._tensors: dict[str, Tensor] = {}
        self._paths = [""]
        self._switches = _switches()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Attribute(node, self, self._tensors[str(node.target)]) if node.op == "get_attr" else Value(node, self)

    def path_of_module(self, mod: nn.Module) -> str:
        """The path; a made-up one for a layer that stands in a list or dict of Python's and nowhere else."""
        if mod not in self._known:
            path = self._known[mod] = f"unregistered_{len(self.unregistered)}"
            self.unregistered[path] = mod
        return self._known[mod]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self.whole(m, module_qualified_name)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        self._known = {module: path for path, module in self.root.named_modules()}
        self._tensors = dict(self.root.named_parameters()) | dict(self.root.named_buffers())
        return root_fn, [self.root, self.create_proxy("placeholder", "value", (), {})]

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, target, *args, **kwargs)
        node.meta = {"path": target if kind == "call_module" else self._paths[-1], "owner": self._paths[-1]}
        if _switches() != self._switches:
            self.untrue.setdefault(self._paths[-1], "it switches gradients or autocast on or off inside its forward")
        return node

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.whole(m, ""):
            result = super().call_module(m, forward, args, kwargs)
        elif m not in self._known:
            result = forward(*args, **kwargs)  # a view of others' layers
        else:
            with self.inside(self.path_of_module(m)):
                result = super().call_module(m, forward, args, kwargs)
        self.returned[id(m)] = result
        return result

    @contextmanager
    def inside(self, path: str) -> Iterator[None]:
        """While the forward of the module at `path` is traced."""
        self._paths.append(path)
        drawn = _random_states()
        try:
            yield
            if _random_states() != drawn and not any(other.startswith(path) for other in self.untrue):
                self.untrue[path] = "it draws random numbers of a size that does not depend on its input"
        except Exception:
            self.failed = path if self.failed is None else self.failed
            raise
        finally:
            self._paths.pop()


class Trace:
    """The operations of one traced forward pass.

    Attributes:
        nodes: in order; placeholders first, without the output.
        output: what is returned, nodes standing for values.
        constants: name -> what is no attribute of the root: a tensor made while tracing, an unregistered layer.
        untrue: as in `Tracer`.
    """

    def __init__(self, root: nn.Module, whole: Callable[[nn.Module, str], bool]) -> None:
        tracer = Tracer(whole)
        constants = set(vars(root))
        try:
            with _same_random_numbers(), tracer.inside(""):
                graph = tracer.trace(root)
            made = {name: value for name, value in vars(root).items() if name not in constants}
        except Exception as error:
            raise _explain(root, tracer, error) from error
        finally:
            for name in set(vars(root)) - constants:
                delattr(root, name)
        *self.nodes, end = graph.nodes
        self.output = end.args[0]
        self.untrue = tracer.untrue
        self.constants: dict[str, Any] = made | tracer.unregistered
        self._root = root
        self.graph = graph  # holds the nodes
        self._returned = tracer.returned

    def returned(self, module: nn.Module) -> Any:
        """What the last call of a module returned, nodes standing for values; None if it was not called.

        Of a list of modules whose members are called one by one, the last one's.
        """
        while id(module) not in self._returned and isinstance(module, (nn.Sequential, nn.ModuleList)) and len(module):
            module = module[-1]
        result = self._returned.get(id(module))
        return result.node if isinstance(result, fx.Proxy) else result

    def attribute(self, target: str) -> Any:
        """What a `get_attr` or `call_module` node reads."""
        return self.constants[target] if target in self.constants else operator.attrgetter(target)(self._root)


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch's layers or derives from one: fx would take a changed convolution apart."""
    homes = [kind.__module__ for kind in type(module).__mro__]
    own = homes[0].startswith(("torch.nn.", "torch.ao.nn.")) and not isinstance(module, nn.Sequential)
    return own or any(home.startswith("torch.nn.modules.") and home not in _CONTAINERS for home in homes)


def differing(first: Collection[fx.Node], second: Collection[fx.Node]) -> dict[str, str]:
    """Path of a module -> why: whose own operations are not the same in two traces."""
    if _described(first, with_reads=True) == _described(second, with_reads=True):
        return {}
    ours, theirs = _described(first, with_reads=False), _described(second, with_reads=False)
    owners = {owner for owner, *_ in (ours - theirs) | (theirs - ours)} or {""}
    return dict.fromkeys(owners, "its code (not only its layers) depends on self.training")


def _described(nodes: Collection[fx.Node], *, with_reads: bool) -> Counter[Any]:
    """Every operation in words, with its owner; and with its place and the places of what it reads."""
    places = {node: place for place, node in enumerate(nodes)}

    def read(node: fx.Node) -> str:
        return f"%{places[node]}" if with_reads else "%"

    return Counter(
        (
            node.meta["owner"],
            place if with_reads else None,
            node.op,
            str(node.target),
            repr(fx.map_arg(node.args, lambda n: _Word(read(n)))),
            repr(fx.map_arg(node.kwargs, lambda n: _Word(read(n)))),
        )
        for node, place in places.items()
    )


class _Word(str):
    """Text that prints as it is."""

    def __repr__(self) -> str:
        return str(self)


def _switches() -> tuple[bool, ...]:
    return (torch.is_grad_enabled(), *(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")))


def _random_states() -> tuple[Any, ...]:
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), pickle.dumps(np.random.get_state())


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """What tracing draws is put back."""
    host, host_arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(host)
    np.random.set_state(host_arrays)


def _explain(root: nn.Module, tracer: Tracer, error: Exception) -> ScheduleError:
    path = tracer.failed or ""
    module = root.get_submodule(path)
    what = f"module {path!r} ({type(module).__name__})" if path else f"{type(module).__name__} itself"
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not frame.filename.startswith(_NOT_THE_USERS)]
    place = f" at {users[-1].filename}:{users[-1].lineno}: {users[-1].line}" if users else ""
    if path:
        way = f"Keep it whole, leaves=[{path!r}] or leaves=[{type(module).__name__}], if it stands between the cuts you want, "
    else:
        children = ", ".join(name for name, _ in root.named_children())
        way = f"Split its children one by one, if they are chains ({children}), " if children else ""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ScheduleError(f"{what} cannot be traced{place} ({reason}). {way}{MANUAL}")
