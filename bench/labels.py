"""Time of a step when each image carries the label of one task of five: labelled rows against masked losses.

    python bench/labels.py

Masked losses run every head on every row and multiply the loss of a row by whether it is labelled. The engine runs a head on
its labelled rows. All methods take turns in one process; times are medians, ratios medians of those within a round.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from measuring import Run, fake_needs, interleaved, needs, ratio, with_schedule
from ours import Fitter
from peers import per_task, plain
from reporting import mib, parser, save, show
from rich.table import Table
from torch import Tensor
from workloads import FIVE, WORKLOADS, Case

import ubertrain as ut
from ubertrain.planning.keep_all import keep_all

MASKED, TASKWISE = "plain autograd, masked", "per task, masked"


def one_label_each(case: Case) -> Case:
    """Of five tasks each labels its fifth of the batch, rows in a run."""
    graph, images, targets = case
    share = len(images) // len(targets)
    rows = {task: range(number * share, (number + 1) * share) for number, task in enumerate(targets)}
    return (
        graph,
        images,
        {task: ut.Labels(target[rows[task].start : rows[task].stop], rows[task]) for task, target in targets.items()},
    )


def masked(case: Case) -> Case:
    """The same objective as `one_label_each`'s, where heads do not couple images, on the same modules."""
    graph, images, targets = case
    share = len(images) // len(targets)
    branches, pairs = {}, {}
    for number, (task, branch) in enumerate(graph.branches.items()):
        assert branch.loss is not None
        branches[task] = replace(branch, loss=_masked(branch.loss))
        mask = torch.zeros(len(images))
        mask[number * share : (number + 1) * share] = len(targets)  # the mean is over all rows
        pairs[task] = (targets[task], mask)
    return ut.Graph({name: graph.stage(name) for name in graph.stage_names}, branches), images, pairs


def _masked(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, tuple[Tensor, Tensor]], Tensor]:
    return lambda prediction, target: loss(prediction, target[0]) * target[1]


def methods(case: Case) -> dict[str, Run]:
    """Name -> one step."""
    rows, all_rows = one_label_each(case), masked(case)
    graph = rows[0]
    limit = fake_needs(plain, *all_rows).peak_bytes // 2
    half = Fitter.of(*rows, "auto").within(limit)
    steps = {"ubertrain, keep_all": with_schedule(keep_all(graph.stage_names, tuple(graph.branches)))}
    if half is not None:
        steps["ubertrain, half of plain's peak"] = with_schedule(half)
    runs: dict[str, Run] = {MASKED: partial(plain, *all_rows), TASKWISE: partial(per_task, *all_rows)}
    runs["plain autograd, labelled rows"] = partial(plain, *rows)
    return runs | {name: partial(step, *rows) for name, step in steps.items()}


def measure(case: Case, rounds: int) -> list[dict[str, Any]]:
    """A row per method."""
    graph = case[0]
    runs = methods(case)
    figures = {name: needs(run) for name, run in runs.items()}
    seconds = interleaved(runs, rounds, partial(graph.zero_grad, set_to_none=True), torch.device("cpu"))
    return [
        {
            "method": name,
            "peak_bytes": figures[name].peak_bytes,
            "flops_ratio": figures[name].flops / figures[MASKED].flops,
            "seconds": statistics.median(seconds[name]),
            "time_ratio": ratio(seconds[name], seconds[MASKED]),
            "time_ratio_per_task": ratio(seconds[name], seconds[TASKWISE]),
        }
        for name in runs
    ]


def table(key: str, rows: list[dict[str, Any]]) -> Table:
    """One line per method."""
    made = Table(title=f"{key}, one label of five per image")
    made.add_column("method")
    for column in ("peak MiB", "s", "FLOPs / masked", "time / masked", "time / per task, masked"):
        made.add_column(column, justify="right")
    for row in rows:
        ratios = (row["flops_ratio"], row["time_ratio"], row["time_ratio_per_task"])
        made.add_row(row["method"], mib(row["peak_bytes"]), f"{row['seconds']:.3f}", *(f"{value:.2f}" for value in ratios))
    return made


def main() -> None:
    """Measure, print, and write labels.json."""
    arguments = parser(__doc__).parse_args()
    batch, side = (len(FIVE), 32) if arguments.quick else (2 * len(FIVE), 128)
    report: dict[str, Any] = {}
    tables = []
    names = ("resnet50_aspp", "resnet50_heads", "vgg16bn_heads", "resnet50_ubernet")
    for name in names[1:2] if arguments.quick else names:
        rows = measure(WORKLOADS[name].build(batch, side), 1 if arguments.quick else 5)
        key = f"{name} {batch}x3x{side}x{side}"
        report |= save(arguments.out, "labels", {key: {"rows": rows}})
        tables.append(table(key, rows))
    show(report, tables, as_json=arguments.json)


if __name__ == "__main__":
    main()
