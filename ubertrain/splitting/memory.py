"""Which operations of a trace write into memory that others read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, fx

from ubertrain.splitting.kinds import is_layer
from ubertrain.splitting.operations import Operations
from ubertrain.splitting.tracing import Trace


def lasting(trace: Trace) -> dict[str, str]:
    """Path of a module -> why: who writes, or may write, into a tensor that its forward pass makes anew each time.

    In a trace such a tensor is a constant, and what is written would last from call to call.
    """
    operations, found = Operations(trace.attribute), {}

    def made(nodes: Iterable[fx.Node]) -> bool:
        origins = {origin for node in nodes for origin in _origins(node, operations) if origin.op == "get_attr"}
        return any(isinstance(trace.constants.get(str(origin.target)), Tensor) for origin in origins)

    for node in trace.nodes:
        opaque = node.op == "call_module" and not is_layer(trace.attribute(str(node.target)))
        if made(operations.written(node)):
            found[node.meta["owner"]] = "it writes into a tensor that it makes itself"
        elif opaque and made(node.all_input_nodes):
            found[node.meta["owner"]] = "it makes a tensor and calls a module kept whole with it, which may write into it"
    return found


def needed_for(trace: Trace, ends: Mapping[str, fx.Node]) -> list[fx.Node]:
    """What the taps need, in order: what they are computed from, and what writes into that; everything if there are none."""
    if not ends:
        return trace.nodes
    operations, last = Operations(trace.attribute), max(map(trace.nodes.index, ends.values()))
    writers = [node for node in trace.nodes[: last + 1] if operations.written(node)]
    needed = _ancestors(ends.values()) | {trace.nodes[0]}
    while True:
        memory = {origin for node in needed for origin in _origins(node, operations)}
        more = [
            node
            for node in writers
            if node not in needed and any(o in memory or o.op == "get_attr" for o in _origins(node, operations))
        ]
        if not more:
            return [node for node in trace.nodes if node in needed]
        needed |= _ancestors(more)


def _ancestors(nodes: Any) -> set[fx.Node]:
    found, queue = set(), list(nodes)
    while queue:
        if (node := queue.pop()) not in found:
            found.add(node)
            queue += node.all_input_nodes
    return found


def _origins(node: fx.Node, operations: Operations) -> set[fx.Node]:
    """The nodes that made the memory a value may stand in."""
    found, queue, seen = set(), [node], set()
    while queue:
        if (other := queue.pop()) not in seen:
            seen.add(other)
            sources = operations.aliased(other)
            queue += sources
            found |= set() if sources else {other}
    return found
