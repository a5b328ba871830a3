"""The parts of a batch that a step runs one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ubertrain.engine.branches import coupling
from ubertrain.engine.graph import Graph, Labelled, batch_size
from ubertrain.engine.labels import Labels
from ubertrain.engine.rows import take_rows
from ubertrain.errors import ScheduleError


@dataclass(frozen=True)
class Part:
    """Some images of a batch, and each task's labels of them; divisors are those of the whole batch."""

    images: Any
    labelled: Mapping[str, Labelled]

    @property
    def batch(self) -> int:
        """The number of images."""
        return batch_size(self.images)


def parts(graph: Graph, rows: int | None, images: Any, labelled: Mapping[str, Labelled]) -> Iterator[Part]:
    """The batch in parts of `rows` images (None: whole), without those in which nothing is labelled; each is cut when its turn
    has come.

    Raises:
        ScheduleError: a stage, head or loss couples images, or `images` holds a tensor without a row for each.
    """
    batch = batch_size(images)
    if rows is None or rows >= batch:
        yield Part(images, labelled)
        return
    _refuse_coupling(graph, rows, labelled)
    if any(leaf.ndim == 0 or len(leaf) != batch for leaf in pytree.tree_leaves(images) if isinstance(leaf, Tensor)):
        raise ScheduleError(f"rows={rows} before the trunk needs a first dimension of {batch} images in every tensor of images")
    for start in range(0, batch, rows):
        inside = range(start, min(start + rows, batch))
        shares = {task: _share(share, inside) for task, share in labelled.items() if set(inside) & set(share.rows)}
        if shares:
            yield Part(take_rows(images, inside, batch), shares)


def _share(share: Labelled, inside: range) -> Labelled:
    """The labels of the images in a range, whose rows count from its start."""
    chosen = [place for place, row in enumerate(share.rows) if row in inside]
    rows = tuple(share.rows[place] - inside.start for place in chosen)
    labels = Labels(share.labels.value, share.rows).chosen(chosen)
    return Labelled(Labels(labels, rows), rows, share.divisor)


def _refuse_coupling(graph: Graph, rows: int, tasks: Iterable[str]) -> None:
    modules: dict[str, Any] = {f"stage {name!r}": graph.stage(name) for name in graph.needed(tasks)}
    for task in tasks:
        modules |= {f"the head of {task!r}": graph.heads[task], f"the loss of {task!r}": graph.branches[task].criterion}
    for place, module in modules.items():
        if isinstance(module, nn.Module) and (reason := coupling(module)):
            raise ScheduleError(
                f"the step cannot be run {rows} images at a time: in {place} {reason}, so the parts would not give the "
                f"gradient of the whole; drop rows={rows} before the trunk, or use a norm that keeps images apart (group norm)"
            )
