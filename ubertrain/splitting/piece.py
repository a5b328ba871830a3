"""A stretch of a traced module as a module of its own."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Self

from torch import Tensor, fx, nn


class Code:
    """A function as source text; copies share it, pickles hold the text.

    Args:
        source: Python that defines `forward`.
        names: what the source reads from around it.
    """

    def __init__(self, source: str, names: Mapping[str, Any]) -> None:
        self.source, self.names = source, dict(names)
        space = dict(names)
        exec(compile(source, "<a stage made by ubertrain.split>", "exec"), space)
        self.run: Callable[..., Any] = space["forward"]

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> Any:
        modules = {name: value.__name__ for name, value in self.names.items() if isinstance(value, ModuleType)}
        others = {name: value for name, value in self.names.items() if name not in modules}
        return _code, (self.source, modules, others)


def _code(source: str, modules: Mapping[str, str], others: Mapping[str, Any]) -> Code:
    from importlib import import_module

    return Code(source, {name: import_module(path) for name, path in modules.items()} | dict(others))


class Piece(nn.Module):
    """Operations of a traced module, on the very layers, parameters and buffers of that module.

    Takes and returns the values that cross its two cuts: one as it is, several as a tuple. `print(piece)` shows its code.

    Args:
        graph: what to run; its targets are paths in this piece.
        attributes: path in this piece -> layer, parameter, buffer or constant, and whether a buffer is saved.
        fixed: modules that stay in training (True) or evaluation (False) whatever mode the piece is put into.
    """

    def __init__(self, graph: fx.Graph, attributes: Mapping[str, tuple[Any, bool]], fixed: Mapping[nn.Module, bool]) -> None:
        super().__init__()
        for path, (value, saved) in attributes.items():
            _attach(self, path, value, saved)
        self._fixed_modes = {path: fixed[module] for path, module in self.named_modules() if module in fixed}
        code = graph.python_code("self")
        self._piece_code = Code(code.src, code.globals)

    def forward(self, value: Any) -> Any:
        return self._piece_code.run(self, value)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; what the split module keeps in one mode, frozen blocks for one, stays in it."""
        super().train(mode)
        for path, fixed in self._fixed_modes.items():
            self.get_submodule(path).training = fixed
        return self

    def extra_repr(self) -> str:
        return self._piece_code.source.strip()


def _attach(piece: nn.Module, path: str, value: Any, saved: bool) -> None:
    """Put a layer or tensor at its dotted path."""
    *parents, name = path.split(".")
    owner = piece
    for parent in parents:
        if parent not in owner._modules:
            owner.add_module(parent, nn.Module())
        owner = owner.get_submodule(parent)
    if isinstance(value, nn.Module):
        owner.add_module(name, value)
    elif isinstance(value, nn.Parameter):
        owner.register_parameter(name, value)
    elif isinstance(value, Tensor):
        owner.register_buffer(name, value, persistent=saved)
    else:
        setattr(owner, name, value)


class Draft:
    """A piece in the making.

    Args:
        entering: the values that cross the cut before it.
        shorten: path in the split module -> path in the piece.
    """

    def __init__(self, entering: Sequence[fx.Node], shorten: Callable[[str], str]) -> None:
        self.graph = fx.Graph()
        self.targets: set[str] = set()
        self._shorten = shorten
        value = self.graph.placeholder("value")
        self._here = {entering[0]: value} if len(entering) == 1 else {}
        if len(entering) > 1:
            for place, node in enumerate(entering):
                self._here[node] = self.graph.call_function(operator.getitem, (value, place))

    def add(self, node: fx.Node) -> None:
        """Copy an operation; attributes come with what reads them, inputs are there already."""
        if node.op in ("get_attr", "placeholder"):
            return
        copy = self._here[node] = self.graph.node_copy(node, self._look_up)
        copy.meta = {}
        if node.op == "call_module":
            self.targets.add(str(node.target))
            copy.target = self._shorten(str(node.target))

    def end(self, output: Any) -> None:
        """Return `output`, in which nodes of the split module stand for values."""
        self.graph.output(fx.map_arg(output, self._look_up))

    def _look_up(self, node: fx.Node) -> fx.Node:
        if node not in self._here:
            assert node.op == "get_attr", f"{node} does not cross the cut before its reader"
            self.targets.add(str(node.target))
            self._here[node] = self.graph.get_attr(self._shorten(str(node.target)))
        return self._here[node]
