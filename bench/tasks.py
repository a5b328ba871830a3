"""How peak memory and time of one step grow with the number of tasks: plain autograd against the engine.

    python bench/tasks.py [--json]

T equal dense heads (3x3 convolution of 64 channels, 21 classes, loss at full resolution) on three taps of a ResNet-18 at
4 x 3 x 96 x 96, float32. All methods take turns in one process; times are medians, their ratios are to plain autograd at the
same T.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

import ubertrain as ut
from ubertrain.planning.every_k import every_k
from ubertrain.planning.keep_all import keep_all
from ubertrain.registry import TRUNKS
from ubertrain.tasks.fusion import FusionHead

TASKS = (1, 2, 4, 8, 12)
BATCH, SIDE, CLASSES = 4, 96, 21
ROUNDS = 3


def build(tasks: int) -> tuple[ut.Graph, Tensor, dict[str, Tensor]]:
    """The graph with `tasks` branches, images and targets."""
    torch.manual_seed(0)
    trunk = TRUNKS.make("resnet18", "bench")
    taps = [trunk.taps[name] for name in ("res3", "res4", "res5")]

    def head() -> FusionHead:
        return FusionHead([ut.Level(tap.channels, tap.stride) for tap in taps], CLASSES, width=64)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, reduction="none").mean((1, 2))

    branches = {f"t{i}": ut.Branch(head(), [tap.stage for tap in taps], loss) for i in range(tasks)}
    targets = {task: torch.randint(CLASSES, (BATCH, SIDE, SIDE)) for task in branches}
    return ut.Graph(trunk.stages(), branches), torch.rand(BATCH, 3, SIDE, SIDE), targets


def methods(graph: ut.Graph, images: Tensor, targets: dict[str, Tensor]) -> dict[str, Callable[[], Any]]:
    """Name -> one step of forward and backward."""
    names = graph.stage_names, tuple(graph.branches)
    engines = {
        "ubertrain, keep_all": ut.Engine(graph, keep_all(*names)),
        "ubertrain, every_k 3": ut.Engine(graph, every_k(*names, 3)),
    }
    steps: dict[str, Callable[[], Any]] = {"plain autograd": lambda: sum(graph.losses(images, targets).values()).backward()}
    return steps | {name: lambda engine=engine: engine.forward_backward(images, targets) for name, engine in engines.items()}


def measure(tasks: int) -> dict[str, dict[str, float]]:
    """Method -> peak bytes and median seconds."""
    graph, images, targets = build(tasks)
    steps = methods(graph, images, targets)
    peaks = {}
    for name, step in steps.items():
        with ut.LiveBytes() as meter:
            step()
        peaks[name] = meter.peak
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            graph.zero_grad(set_to_none=True)
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    return {name: {"peak_bytes": peaks[name], "seconds": statistics.median(seconds[name])} for name in steps}


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
    }


def table(results: dict[int, dict[str, dict[str, float]]]) -> Table:
    """One row per method, one pair of columns per number of tasks."""
    made = Table(title=f"one step, {BATCH} x 3 x {SIDE} x {SIDE}, ResNet-18: peak MiB (time / plain autograd)")
    made.add_column("method")
    for tasks in results:
        made.add_column(f"T={tasks}", justify="right")
    made.add_column("growth", justify="right")
    first, *_, last = results
    for name in results[first]:
        cells = []
        for row in results.values():
            ratio = row[name]["seconds"] / row["plain autograd"]["seconds"]
            cells.append(f"{row[name]['peak_bytes'] / 2**20:.1f} ({ratio:.2f})")
        growth = results[last][name]["peak_bytes"] / results[first][name]["peak_bytes"] - 1
        made.add_row(name, *cells, f"{growth:+.1%}")
    return made


def main() -> None:
    """Measure, print, and write bench/results/tasks.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    results = {tasks: measure(tasks) for tasks in TASKS}
    report = {"machine": machine(), "results": results}
    Path(__file__).with_name("results").joinpath("tasks.json").write_text(json.dumps(report, indent=1) + "\n")
    if arguments.json:
        json.dump(report, sys.stdout)
    else:
        console = Console(width=140)
        console.print(table(results))
        console.print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))


if __name__ == "__main__":
    main()
