"""A module's forward pass as a list of operations: torch.fx, held to the truth.

torch.fx runs the forward pass once on stand-ins and notes what is done to them. What it would get wrong without a word (code
that depends on training or evaluation mode, random numbers drawn while tracing, gradients or autocast switched inside, `+=`
written as `+`) is found here: the module it happens in is kept whole, or refused if it is the outermost.
"""

from __future__ import annotations

import hashlib
import operator
import pickle
import random
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, fx, nn

from ubertrain.errors import ScheduleError
from ubertrain.splitting.kinds import kind_of
from ubertrain.splitting.stand_ins import Attribute, Value, asked
from ubertrain.splitting.unchanged import Condition

MANUAL = "or write the stages yourself: ut.Graph takes any ordered dict of modules, each called with what the last returned"
_OWN = (__file__, str(Path(__file__).parent / "stand_ins.py"))
_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(random.__file__).parent / "inspect.py"), *_OWN)


class Tracer(fx.Tracer):
    """Traces `root` called with one argument; other parameters of its forward keep their defaults.

    Args:
        whole: whether a module is to be one operation.

    Attributes:
        returned: id of a module -> what its last call returned.
        untrue: path of a module -> why its own code cannot be traced; "" is the root.
        unregistered: made-up path -> layer that is no submodule of the root.
        failed: path of the innermost module whose forward raised.
        refused: path of a module -> what its own code asked of a value and got an exception for.
    """

    proxy_buffer_attributes = True

    def __init__(self, whole: Callable[[nn.Module, str], bool]) -> None:
        super().__init__()
        self.whole = whole
        self.returned: dict[int, Any] = {}
        self.untrue: dict[str, str] = {}
        self.unregistered: dict[str, nn.Module] = {}
        self.failed: str | None = None
        self.refused: dict[str, str] = {}
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
        node.meta["kind"] = kind_of(node, self._module)
        if _switches() != self._switches:
            self.untrue.setdefault(self._paths[-1], "it switches gradients or autocast on or off inside its forward")
        return node

    def _module(self, path: str) -> nn.Module:
        return self.unregistered[path] if path in self.unregistered else self.root.get_submodule(path)

    def create_arg(self, a: Any) -> Any:
        return a.node if isinstance(a, fx.Proxy) else super().create_arg(a)

    def doubt(self, why: str) -> NoReturn:
        """Code asks what is not known while tracing, and would go on with a wrong answer."""
        self.untrue.setdefault(self._paths[-1], why)
        raise fx.proxy.TraceError(f"{why}, which is not known while tracing")

    def refuse(self, why: str) -> None:
        """Code asks what is not known while tracing; it must not catch the exception that it gets."""
        self.refused.setdefault(self._paths[-1], f"{why} and goes on without")

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
        nodes: in order; placeholders first, without the output. None if something is untrue and nothing else could be done.
        output: what is returned, nodes standing for values.
        constants: name -> what is no attribute of the root: a tensor made while tracing, an unregistered layer.
        untrue: as in `Tracer`.
    """

    def __init__(self, root: nn.Module, whole: Callable[[nn.Module, str], bool]) -> None:
        tracer = Tracer(whole)
        self.untrue = tracer.untrue
        self.nodes: list[fx.Node] = []
        condition, names, made = Condition(root), set(vars(root)), dict[str, Any]()
        failure: Exception | None = None
        try:
            with _same_random_numbers(), asked(), tracer.inside(""):
                graph = tracer.trace(root)
        except Exception as error:
            failure = error
        finally:
            for name in set(tracer.tensor_attrs.values()) & (set(vars(root)) - names):
                made[name] = vars(root).pop(name)
            for path in condition.restore():
                self.untrue.setdefault(path, "it keeps state in attributes")
        if failure is not None and self.untrue:
            return
        if failure is not None:
            raise _explain(root, tracer, failure) from failure
        self.untrue |= tracer.refused | self.untrue
        *self.nodes, end = graph.nodes
        self.output = end.args[0]
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

    def returning(self, value: Any) -> tuple[str, ...]:
        """Paths of the submodules whose last call returned this very value."""
        known = [(path, self._returned.get(id(module))) for path, module in self._root.named_modules() if path]
        return tuple(path for path, result in known if isinstance(result, fx.Proxy) and result.node is value)

    def attribute(self, target: str) -> Any:
        """What a `get_attr` or `call_module` node reads."""
        return self.constants[target] if target in self.constants else operator.attrgetter(target)(self._root)


def differing(first: Trace, ours: Collection[fx.Node], second: Trace, theirs: Collection[fx.Node]) -> dict[str, str]:
    """Path of a module -> why: whose own operations, among the given ones, are not the same in two traces."""
    if _described(first, ours, with_reads=True) == _described(second, theirs, with_reads=True):
        return {}
    words, others = _described(first, ours, with_reads=False), _described(second, theirs, with_reads=False)
    owners = {owner for owner, *_ in (words - others) | (others - words)} or {""}
    return dict.fromkeys(owners, "its code (not only its layers) depends on self.training")


def _described(trace: Trace, nodes: Collection[fx.Node], *, with_reads: bool) -> Counter[Any]:
    """Every operation in words, with its owner; and with its place and the places of what it reads."""
    places = {node: place for place, node in enumerate(nodes)}

    def read(node: fx.Node) -> str:
        return f"%{places[node]}" if with_reads else "%"

    return Counter(
        (
            node.meta["owner"],
            place if with_reads else None,
            node.op,
            _constant(trace.constants[str(node.target)]) if node.target in trace.constants else str(node.target),
            repr(fx.map_arg(node.args, lambda n: _Word(read(n)))),
            repr(fx.map_arg(node.kwargs, lambda n: _Word(read(n)))),
        )
        for node, place in places.items()
    )


def _constant(value: Any) -> str:
    """A constant in words: the numbers of its name depend on the order in which constants were made."""
    if not isinstance(value, Tensor):
        return f"{type(value).__name__} {id(value)}" if isinstance(value, nn.Module) else repr(value)
    content = value.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8)
    return f"{value.dtype} {value.device} {tuple(value.shape)} {hashlib.sha256(content.numpy().tobytes()).hexdigest()}"


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
