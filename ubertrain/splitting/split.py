"""Any traceable module as a chain of stages that a schedule can keep or recompute one by one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx, nn

from ubertrain.errors import ScheduleError
from ubertrain.splitting.cuts import Cuts, Step
from ubertrain.splitting.kinds import is_layer
from ubertrain.splitting.memory import lasting, needed_for
from ubertrain.splitting.operations import Operations
from ubertrain.splitting.piece import Draft, Piece
from ubertrain.splitting.proof import prove
from ubertrain.splitting.stage_names import Held, name_stages
from ubertrain.splitting.tracing import MANUAL, Trace, differing

Leaf = str | type[nn.Module]


def split(
    module: nn.Module, taps: Sequence[str] = (), *, finer: bool = False, leaves: Sequence[Leaf] = (), example: Any = None
) -> dict[str, nn.Module]:
    """Cut a module into stages, ready as `ut.Graph(trunk=...)`.

    The stages one after another do what the module does, bit for bit, on the very same layers, parameters and buffers. They
    follow `train()` and `eval()`, and are called with one value or, where several cross a cut, with a tuple of them, a tap
    first. Nothing is cut between a value and an in-place operation on it.

    Freeze layers, and move the module (`.to`, `.double`), before you split: buffers and constants that several stages share
    would come apart if the stages were moved.

    Tracing runs Python code once, without values. Code that asks what only values know, keeps state in attributes or writes
    into tensors of its own is noticed and kept whole; but not all can be noticed (`type(x) is Tensor`, `y is x`). For a model
    of your own, pass an `example`.

    Args:
        module: a module that `torch.fx` can trace; it is called with one tensor. Is not changed.
        taps: paths of submodules ("layer2", "layer2.1.conv3") whose outputs branches will read: each is found under that name
            in the graph. What none of them needs is dropped, a classifier for one; without taps all is kept.
        finer: cut also behind each convolution and matrix product inside of blocks, where several values cross, instead of
            only where one tensor does.
        leaves: paths or classes of modules to keep whole. torch's layers always are, and so is every module that has hooks
            or whose own code depends on its mode, draws random numbers of a fixed size or switches gradients or autocast.
        example: an input, a tensor or a pytree of them, on the module's device. The module and the stages are run on it once in
            training and once in evaluation mode, on copies, and compared.

    Returns:
        name of a stage -> module, in order. A stage that is exactly one block has the block's path.

    Raises:
        ScheduleError: the module cannot be traced; an unknown tap or leaf; a tap inside a module kept whole, or one that is
            overwritten in place; the stages do something else with `example` than the module.
    """
    whole = _Whole(module, leaves)
    if _has_hooks(module):
        raise ScheduleError(f"{type(module).__name__} has hooks, which no stage would call; put them on its submodules")
    trace, nodes, fixed = _trace(module, taps, whole)
    ends = _ends(module, trace, taps, whole)
    operations = Operations(trace.attribute)
    output = nodes[-1] if taps else trace.output
    cuts = Cuts(_steps(nodes, operations), *_places(nodes, output, ends))
    _check(nodes, cuts, ends)
    bounds = [*cuts.choose(finer=finer), len(nodes) - 1]
    pieces: list[nn.Module] = []
    held, marks = [], []
    entering, start = nodes[:1], 0
    for bound in bounds:
        leaving = [nodes[i] for i in cuts.crossing(bound)] if bound < len(nodes) - 1 else None
        stage = nodes[start : bound + 1]
        result = output if leaving is None else leaving[0] if len(leaving) == 1 else tuple(leaving)
        pieces.append(_piece(module, trace, stage, entering, result, fixed))
        first, *more = _apart([tap for tap, end in ends.items() if end is nodes[bound]])
        held.append(_held(stage, operations, first))
        marks.append(_mark(trace, nodes[bound], leaving or [output]))
        pieces += [nn.Identity() for _ in more]
        held += [Held(taps=names) for names in more]
        marks += [()] * len(more)
        entering, start = leaving or [], bound + 1
    names = name_stages(held)
    _check_names(names, held)
    stages = dict(zip(names, pieces, strict=True))
    if example is not None:
        prove(module, stages, dict(zip(names, marks, strict=True)), example, taps=bool(taps))
    return stages


class _Whole:
    """Which modules are one operation."""

    def __init__(self, root: nn.Module, leaves: Sequence[Leaf]) -> None:
        self._root = root
        self._kinds = tuple(leaf for leaf in leaves if isinstance(leaf, type))
        self._chosen = {_submodule(root, leaf, "leaf") for leaf in leaves if isinstance(leaf, str)}

    def __call__(self, module: nn.Module, path: str) -> bool:
        chosen = is_layer(module) or isinstance(module, self._kinds) or module in self._chosen
        return module is not self._root and (chosen or _has_hooks(module))

    def add(self, untrue: Mapping[str, str]) -> None:
        """Keep the modules at these paths whole, from now on."""
        if "" in untrue:
            kind = type(self._root).__name__
            raise ScheduleError(
                f"{kind} itself cannot be traced truthfully: {untrue['']}. Use a layer for it (nn.Dropout instead of "
                f"F.dropout(..., training=self.training)) or move it into a module of its own, {MANUAL}"
            )
        self._chosen |= {self._root.get_submodule(path) for path in untrue}

    def around(self, path: str) -> str | None:
        """The outermost module kept whole that `path` is inside of."""
        parts = path.split(".")
        outer = (".".join(parts[:n]) for n in range(1, len(parts)))
        return next((name for name in outer if self(self._root.get_submodule(name), name)), None)


def _has_hooks(module: nn.Module) -> bool:
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return any(getattr(module, kind) for kind in kinds)


def _trace(root: nn.Module, taps: Sequence[str], whole: _Whole) -> tuple[Trace, list[fx.Node], dict[nn.Module, bool]]:
    """A trace that holds in both modes, its nodes that are needed, and the modules that stay in one mode."""
    while True:
        traces, flags = [], []
        for mode in (True, False):
            with _mode(root, mode):
                traces.append(Trace(root, whole))
                flags.append({module: module.training for module in root.modules()})
        first, second = traces
        untrue = first.untrue | second.untrue | lasting(first) | lasting(second)
        if not untrue:
            ours, needed = (needed_for(trace, _ends(root, trace, taps, whole)) for trace in traces)
            untrue = differing(first, ours, second, needed)
        if not untrue:
            fixed = {module: mode for module, mode in flags[0].items() if flags[1][module] == mode}
            return second, needed, fixed
        whole.add(untrue)


@contextmanager
def _mode(root: nn.Module, mode: bool) -> Iterator[None]:
    """`root.train(mode)`, and everything back as it was."""
    before, was = {module: module.training for module in root.modules()}, root.training
    root.train(mode)
    try:
        yield
    finally:
        root.train(was)  # also reaches layers that `root` only borrows
        for module, training in before.items():
            module.training = training


def _ends(root: nn.Module, trace: Trace, taps: Sequence[str], whole: _Whole) -> dict[str, fx.Node]:
    """Tap -> the node whose value it is."""
    ends = {}
    for tap in taps:
        result = trace.returned(_submodule(root, tap, "tap"))
        if not isinstance(result, fx.Node):
            ends[tap] = _no_node(tap, result, whole.around(tap))
        ends[tap] = result
    return ends


def _no_node(tap: str, result: Any, around: str | None) -> fx.Node:
    if around is not None:
        raise ScheduleError(f"tap {tap!r} is inside {around!r}, which is kept whole; tap {around!r}, or a module around it")
    if result is None:
        raise ScheduleError(f"tap {tap!r} is not called by the module's forward; tap a module that is")
    raise ScheduleError(f"tap {tap!r} returns a {type(result).__name__} instead of one value; tap a module inside of it")


def _steps(nodes: Sequence[fx.Node], operations: Operations) -> list[Step]:
    place = {node: i for i, node in enumerate(nodes)}

    def places(others: Sequence[fx.Node]) -> tuple[int, ...]:
        return tuple(place[other] for other in others)

    return [
        Step(
            reads=places(node.all_input_nodes),
            aliases=places(operations.aliased(node)),
            writes=places(operations.written(node)),
            product=operations.is_product(node),
            view=operations.is_view(node),
            light=operations.is_light(node),
            size=operations.is_size(node),
            constant=node.op == "get_attr",
            part=operations.is_part_of_product(node),
        )
        for node in nodes
    ]


def _places(nodes: Sequence[fx.Node], output: Any, ends: Mapping[str, fx.Node]) -> tuple[list[int], list[int]]:
    """The places of what is returned, and of the taps."""
    returned: list[fx.Node] = []
    fx.map_arg(output, returned.append)
    place = {node: i for i, node in enumerate(nodes)}
    return [place[node] for node in returned], [place[node] for node in ends.values()]


def _check(nodes: Sequence[fx.Node], cuts: Cuts, ends: Mapping[str, fx.Node]) -> None:
    for tap, end in ends.items():
        cut = nodes.index(end)
        writer = cuts.overwriter(cut)
        if cut < len(nodes) - 1 and writer is not None:
            path = nodes[writer].meta["path"]
            raise ScheduleError(
                f"tap {tap!r} is overwritten in place by {nodes[writer].name!r} of {path or 'the module itself'!r}; tap what "
                "comes after it, or use the out-of-place form (inplace=False)"
            )


def _check_names(names: Sequence[str], held: Sequence[Held]) -> None:
    """Raise `ScheduleError` unless every tap is the name, or the beginning of the name, of its stage and of none after it."""
    for place, stage in enumerate(held):
        for tap in stage.taps:
            if max((i for i, name in enumerate(names) if f"{name}.".startswith(f"{tap}.")), default=None) != place:
                raise ScheduleError(
                    f"tap {tap!r} cannot be told from the stages {', '.join(names)}: a layer in it runs again after it, or is "
                    "tapped too; tap one of them only"
                )


def _piece(
    root: nn.Module,
    trace: Trace,
    stage: Sequence[fx.Node],
    entering: Sequence[fx.Node],
    result: Any,
    fixed: Mapping[nn.Module, bool],
) -> Piece:
    calls = [node for node in stage if node.op == "call_module"]
    reads = [read for node in stage for read in node.all_input_nodes if read.op == "get_attr"]
    skipped = _shared_parents([str(node.target) for node in (*calls, *reads)])

    def shorten(path: str) -> str:
        return path[skipped:]

    draft = Draft(entering, shorten)
    for node in stage:
        draft.add(node)
    draft.end(result)
    attributes = {shorten(target): _attribute(root, trace, target) for target in sorted(draft.targets)}
    piece = Piece(draft.graph, attributes, fixed)
    piece.training = root.training
    return piece


def _mark(trace: Trace, last: fx.Node, leaving: Sequence[Any]) -> tuple[str, ...]:
    """Paths of the submodules whose result is the first value that leaves a stage, as its last operation made it."""
    return trace.returning(last) if leaving[0] is last else ()


def _attribute(root: nn.Module, trace: Trace, target: str) -> tuple[Any, bool]:
    """A layer or tensor, and whether it is a buffer that is saved."""
    value = trace.attribute(target)
    owner, _, name = target.rpartition(".")
    saved = False
    if isinstance(value, Tensor) and target not in trace.constants:
        home = root.get_submodule(owner)
        saved = name in home._buffers and name not in home._non_persistent_buffers_set
    return value, saved


def _shared_parents(paths: Sequence[str]) -> int:
    """How many characters all paths begin with, up to and with a dot."""
    same = 0
    while paths and len({path[: path.find(".", same) + 1] for path in paths}) == 1 and "." in paths[0][same:]:
        same = paths[0].index(".", same) + 1
    return same


def _apart(taps: Sequence[str]) -> list[list[str]]:
    """Taps on one value in groups in each of which every name begins the next; at least one group."""
    groups: list[list[str]] = []
    for tap in sorted(taps):
        if groups and tap.startswith(f"{groups[-1][-1]}."):
            groups[-1].append(tap)
        else:
            groups.append([tap])
    return groups or [[]]


def _held(stage: Sequence[fx.Node], operations: Operations, taps: Sequence[str]) -> Held:
    def paths(chosen: Callable[[fx.Node], bool]) -> list[str]:
        return list(dict.fromkeys(node.meta["path"] for node in stage if chosen(node)))

    return Held(
        products=paths(operations.is_product),
        layers=[*paths(operations.learns), *paths(lambda node: node.op == "call_module")],
        paths=paths(lambda node: not operations.is_view(node)),
        operation=stage[-1].name,
        taps=taps,
    )


def _submodule(root: nn.Module, path: str, what: str) -> nn.Module:
    known = dict(root.named_modules(remove_duplicate=False))
    if path in known and path:
        return known[path]
    near = difflib.get_close_matches(path, list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ScheduleError(
        f"unknown {what} {path!r}{hint}; it must be the path of a submodule of {type(root).__name__}, which has "
        f"{', '.join(name for name, _ in root.named_children())}"
    )
