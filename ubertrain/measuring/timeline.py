"""Which stage and moment of a step is its peak: the live bytes of a step, thing by thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from ubertrain.engine.graph import Graph
from ubertrain.engine.meter import LiveBytes
from ubertrain.engine.watch import Watch
from ubertrain.measuring.rehearse import run_fake_step
from ubertrain.planning.schedule import Schedule
from ubertrain.planning.simulate import Moment


@dataclass(frozen=True)
class Timeline:
    """All moments of a step in order.

    Attributes:
        peak_bytes: of the step, as `rehearse` gives it.
        timeline: the moments. A backward that a recompute or a late branch interrupts has a moment before it, if it has made
            any tensor by then, and one after it.
    """

    peak_bytes: int
    timeline: tuple[Moment, ...]

    @property
    def at_peak(self) -> Moment:
        """The first moment that reaches the peak."""
        return max(self.timeline, key=lambda moment: moment.peak_bytes, default=Moment("nothing", 0, 0))


def rehearse_timeline(
    graph: Graph, schedule: Schedule, images: Any, targets: Mapping[str, Any], *, rounding: int = 1
) -> Timeline:
    """What one step holds while it does what, without computing or allocating it.

    Args:
        graph: is not touched.
        schedule: the schedule to try.
        images: a batch, or tensors of its shape, dtype and device.
        targets: labels of the batch; their rows decide which branches run.
        rounding: see `LiveBytes`.

    Raises:
        ScheduleError: as `rehearse`.
    """
    recorder = Recorder(rounding)
    run_fake_step(graph, schedule, images, targets, recorder, recorder)
    return recorder.timeline()


class Recorder(LiveBytes, Watch):
    """A meter that also watches the step which runs under it; its `peak` is that of the moment.

        with Recorder() as recorder:
            Engine(graph, schedule, watch=recorder).forward_backward(images, targets)
        recorder.timeline()

    An operation belongs to the backward of the stage in whose forward its node was made: autograd numbers nodes in the order of
    their making. So nothing is attached to the graph that could change what it holds.

    Args:
        rounding: see `LiveBytes`.
    """

    def __init__(self, rounding: int = 1) -> None:
        super().__init__(rounding)
        self._has_made = False
        self._doing: str | None = None
        self._backward: str | None = None
        self._nodes: dict[str, range] = {}
        self._moments: list[Moment] = []

    def timeline(self) -> Timeline:
        """The moments so far."""
        self._pause()
        if self._moments:  # what was let go at the very end
            self._moments[-1] = replace(self._moments[-1], live_bytes=self.live)
        peak = max((moment.peak_bytes for moment in self._moments), default=0)
        return Timeline(peak, tuple(self._moments))

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """The moment ends with the context, and what was let go since the moment before belongs to it."""
        self._pause()
        outer, self._doing = self._doing, what
        first = torch._C._autograd._get_sequence_nr()
        try:
            yield
        finally:
            kind, _, stage = what.partition(" ")
            if kind == "forward":
                self._nodes[f"backward {stage}"] = range(first, torch._C._autograd._get_sequence_nr())
            self._doing = outer
            self._close(what)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        node = None if self._doing else torch._C._current_autograd_node()
        if node is not None:
            self._continue(node._sequence_nr())
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _continue(self, number: int) -> None:
        """Begin the backward that a node belongs to, unless it is the one that is running."""
        what = next((what for what, numbers in self._nodes.items() if number in numbers), self._backward)
        if what != self._backward:
            self._pause()
            self._backward, self._has_made = what, False

    def _pause(self) -> None:
        """End the moment of the backward that is running, if it has made anything."""
        if self._backward is not None and self._has_made:
            self._close(self._backward)

    def _close(self, what: str) -> None:
        self._moments.append(Moment(what, self.peak, self.live))
        self.peak, self._has_made = self.live, False

    def _count(self, storage: torch.UntypedStorage) -> None:
        super()._count(storage)
        self._has_made = True
