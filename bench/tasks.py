"""How peak memory and time of one step grow with the number of tasks: plain autograd against the engine.

    python bench/tasks.py

T equal dense heads (3x3 convolution of 64 channels, 21 classes, loss at full resolution) on three taps of a ResNet-18 at
4 x 3 x 96 x 96, float32. The engine runs without recompute; within half of what plain autograd needs for one task, the same
number of bytes for every T; and with the least it can do. All methods take turns in one process; times are medians, their
ratios to plain autograd those of the same T and round.
"""

import statistics
from functools import partial
from typing import Any

import torch
from measuring import Run, interleaved, needs, ratio, with_schedule
from ours import Fitter
from peers import plain
from reporting import added, mib, parser, save, show
from rich.table import Table
from workloads import Case, classes_loss, labels

import ubertrain as ut
from ubertrain.planning.keep_all import keep_all
from ubertrain.registry import TRUNKS
from ubertrain.tasks.fusion import FusionHead

CLASSES = 21
BASE, KEEP, HALF, LEAST = "plain autograd", "ubertrain, keep_all", "ubertrain, half of plain's at T=1", "ubertrain, least"


def build(tasks: int, batch: int, side: int) -> Case:
    """The graph with `tasks` branches, images and targets."""
    torch.manual_seed(0)
    trunk = TRUNKS.make("resnet18", "bench")
    taps = [trunk.taps[name] for name in ("res3", "res4", "res5")]
    levels = [ut.Level(tap.channels, tap.stride) for tap in taps]
    stages = [tap.stage for tap in taps]
    branches = {f"t{i}": ut.Branch(FusionHead(levels, CLASSES, width=64), stages, classes_loss) for i in range(tasks)}
    targets = {task: labels(CLASSES, batch, side) for task in branches}
    return ut.Graph(trunk.stages(), branches), torch.rand(batch, 3, side, side), targets


def methods(case: Case, budget: int | None) -> dict[str, Run]:
    """Name -> one step; `budget` None means half of what plain autograd needs for this case."""
    graph = case[0]
    fitter = Fitter.of(*case, "flops")
    half = fitter.within(fitter.chain.plain_peak // 2 if budget is None else budget)
    schedules = {
        KEEP: keep_all(graph.stage_names, tuple(graph.branches)),
        HALF: half,
        LEAST: fitter.least(),
    }
    steps = {name: with_schedule(schedule) for name, schedule in schedules.items() if schedule is not None}
    return {name: partial(step, *case) for name, step in ({BASE: plain} | steps).items()}


def measure(counts: tuple[int, ...], batch: int, side: int, rounds: int) -> list[dict[str, Any]]:
    """A row per number of tasks and method."""
    rows, budget = [], None
    for tasks in counts:
        case = build(tasks, batch, side)
        runs = methods(case, budget)
        figures = {name: needs(run) for name, run in runs.items()}
        budget = figures[BASE].peak_bytes // 2 if budget is None else budget
        seconds = interleaved(runs, rounds, partial(case[0].zero_grad, set_to_none=True), torch.device("cpu"))
        rows += [
            {
                "tasks": tasks,
                "method": name,
                "peak_bytes": figures[name].peak_bytes,
                "flops_ratio": figures[name].flops / figures[BASE].flops,
                "seconds": statistics.median(seconds[name]),
                "time_ratio": ratio(seconds[name], seconds[BASE]),
            }
            for name in runs
        ]
    return rows


def table(key: str, rows: list[dict[str, Any]]) -> Table:
    """One line per method, one column per number of tasks."""
    counts = list(dict.fromkeys(row["tasks"] for row in rows))
    made = Table(title=f"one step, {key}: peak MiB (added FLOPs, added time, over plain autograd)")
    made.add_column("method")
    for tasks in counts:
        made.add_column(f"T={tasks}", justify="right")
    made.add_column("growth", justify="right")
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = {row["tasks"]: row for row in rows if row["method"] == name}
        cells = [_cell(mine.get(tasks)) for tasks in counts]
        peaks = [row["peak_bytes"] for row in mine.values()]
        made.add_row(name, *cells, added(peaks[-1] / peaks[0]))
    return made


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "none fits"
    return f"{mib(row['peak_bytes'])} ({added(row['flops_ratio'])}, {added(row['time_ratio'])})"


def main() -> None:
    """Measure, print, and write tasks.json."""
    arguments = parser(__doc__).parse_args()
    counts = (1, 2) if arguments.quick else (1, 2, 4, 8, 12, 16)
    batch, side = (2, 32) if arguments.quick else (4, 96)
    rows = measure(counts, batch, side, 1 if arguments.quick else 5)
    key = f"ResNet-18, {batch}x3x{side}x{side}"
    report = save(arguments.out, "tasks", {key: {"rows": rows}})
    show(report, [table(key, rows)], as_json=arguments.json)


if __name__ == "__main__":
    main()
