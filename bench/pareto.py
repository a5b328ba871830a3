"""Peak memory against added time and FLOPs of one step: our budgets, and the other ways to take the same step.

    python bench/pareto.py [WORKLOAD ...] [--batch N] [--side N] [--rounds N] [--device cuda] [--compile]
    python bench/pareto.py --estimate [WORKLOAD ...]     # 8 x 3 x 512 x 512 on tensors without memory; no times

Peaks are `ut.LiveBytes` of a real step; FLOPs are those of convolutions, matrix products and attention, forward and backward.
"allocator" is what torch's own allocator had out at its peak, without (tensors) and with the scratch memory of kernels. Times
are medians over rounds in which all methods take turns; their ratios are medians of the ratios within a round. Gradients and
buffers are compared with plain autograd's.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from allocator import Allocated, allocated
from figures import front
from machine import line
from measuring import (
    Needs,
    Outcome,
    difference,
    fake_needs,
    interleaved,
    needs,
    outcome,
    ratio,
    restore,
    with_schedule,
)
from ours import Fitter
from peers import PEERS, Step, compiled
from reporting import added, mib, parser, save, show
from rich.table import Table
from torch.utils import _pytree as pytree
from workloads import WORKLOADS, Case

import ubertrain as ut

FRACTIONS = (1.0, 0.8, 0.65, 0.5, 0.44, 0.4, 0.35, 0.3, 0.27, 0.24)
DEFAULT = ("resnet50_heads", "vgg16bn_heads", "vgg16_ubernet", "resnet50_ubernet", "vit_b16")
BASE = "plain autograd"


@dataclass(frozen=True)
class Method:
    """One way to take a step.

    Attributes:
        name: for tables.
        step: takes it.
        budget: bytes that it was asked to stay within; None for other people's.
        schedule: how it does.
        eager: whether the meters see what it does.
    """

    name: str
    step: Step
    budget: int | None = None
    schedule: str | None = None
    eager: bool = True


@dataclass(frozen=True)
class Asked:
    """What the command line says of every workload.

    Attributes:
        device: where real steps run.
        rounds: how often each method is timed.
        cost: what our schedules have the least of.
        compiled: budgets of `torch.compile`.
        quick: fewer budgets.
    """

    device: torch.device
    rounds: int
    cost: str
    compiled: tuple[float, ...]
    quick: bool


def peers(budgets: tuple[float, ...]) -> list[Method]:
    """The other methods; those of `torch.compile` with each of `budgets`."""
    made = [Method(name, step) for name, step in PEERS.items()]
    return made + [Method(f"compile, activation_memory_budget={b}", compiled(b), eager=False) for b in budgets]


def ours(case: Case, plain_peak: int, others: Mapping[str, int], asked: Asked) -> Iterator[Method]:
    """Our engine at fractions of plain autograd's peak, at the peaks of the other methods, and at the least that it can do.

    Each schedule once, under the first budget that it answers.
    """
    fitter = Fitter.of(*case, asked.cost)
    fractions = FRACTIONS[::3] if asked.quick else FRACTIONS
    budgets = {f"{fraction:.2f}": int(fraction * plain_peak) for fraction in fractions}
    budgets |= {f"as {name}": peak for name, peak in others.items() if peak < plain_peak and not asked.quick}
    least = fitter.least()
    schedules = {f"ubertrain {label}": (budget, fitter.within(budget)) for label, budget in budgets.items()}
    schedules["ubertrain smallest"] = ut.rehearse(case[0], least, *case[1:]), least
    seen = set()
    for name, (budget, schedule) in schedules.items():
        if schedule is not None and schedule not in seen:
            seen.add(schedule)
            yield Method(name, with_schedule(schedule), budget, str(schedule))


def estimated(case: Case, asked: Asked) -> list[dict[str, Any]]:
    """Rows without times, on tensors without memory."""
    others = peers(())
    figures = {method.name: fake_needs(method.step, *case) for method in others}
    base = figures[BASE]
    mine = list(ours(case, base.peak_bytes, {name: needs.peak_bytes for name, needs in figures.items()}, asked))
    figures |= {method.name: fake_needs(method.step, *case) for method in mine}
    return [_row(method, figures[method.name], base, None, None) for method in (*others, *mine)]


def measured(case: Case, asked: Asked) -> list[dict[str, Any]]:
    """Rows of real steps."""
    graph, images, targets = case
    buffers = {name: buffer.clone() for name, buffer in graph.named_buffers()}
    others = peers(asked.compiled)
    figures = {method.name: _watched(method, case, buffers, asked.device) for method in others}
    base = figures[BASE]
    assert base.needs is not None
    eager = {name: watched.needs.peak_bytes for name, watched in figures.items() if watched.needs is not None}
    mine = list(ours(case, base.needs.peak_bytes, eager, asked))
    figures |= {method.name: _watched(method, case, buffers, asked.device) for method in mine}
    runs = {method.name: partial(method.step, graph, images, targets) for method in (*others, *mine)}
    seconds = interleaved(runs, asked.rounds, lambda: restore(graph, buffers), asked.device)
    rows = []
    for method in (*others, *mine):
        watched = figures[method.name]
        row = _row(method, watched.needs, base.needs, watched.allocated, base.allocated)
        times = {
            "seconds": statistics.median(seconds[method.name]),
            "time_ratio": ratio(seconds[method.name], seconds[BASE]),
            "rounds": seconds[method.name],
        }
        rows.append(row | times | difference(watched.outcome, base.outcome))
    return rows


@dataclass(frozen=True)
class _Watched:
    needs: Needs | None
    allocated: Allocated
    outcome: Outcome


def _watched(method: Method, case: Case, buffers: Mapping[str, torch.Tensor], device: torch.device) -> _Watched:
    """One step under our meters, whose outcome counts, and one under the allocator's."""
    graph, images, targets = case
    run = partial(method.step, graph, images, targets)
    restore(graph, buffers)
    needed = needs(run) if method.eager else run()
    left = outcome(graph)
    restore(graph, buffers)
    return _Watched(needed, allocated(graph, run, device), left)


def _row(
    method: Method, needed: Needs | None, base: Needs, held: Allocated | None, base_held: Allocated | None
) -> dict[str, Any]:
    """The memory ratio is that of `LiveBytes`; where it sees nothing, the allocator's."""
    peak_ratio = held.all / base_held.all if held and base_held else None
    return {
        "method": method.name,
        "ours": method.budget is not None,
        "budget": method.budget,
        "schedule": method.schedule,
        "peak_bytes": needed.peak_bytes if needed else None,
        "peak_ratio": needed.peak_bytes / base.peak_bytes if needed else peak_ratio,
        "allocator_bytes": held.all if held else None,
        "allocator_tensor_bytes": held.tensors if held else None,
        "flops": needed.flops if needed else None,
        "flops_ratio": needed.flops / base.flops if needed else None,
        "seconds": None,
        "time_ratio": None,
    }


def table(key: str, rows: list[dict[str, Any]]) -> Table:
    """One line per method, by peak."""
    made = Table(title=f"{key}: one step; ratios are to plain autograd")
    made.add_column("method")
    for column in ("peak MiB", "peak", "budget MiB", "allocator: tensors", "all", "FLOPs", "s", "time", "gradients", "buffers"):
        made.add_column(column, justify="right")
    for row in sorted(rows, key=lambda row: (row["ours"], -(row["peak_ratio"] or 0))):
        peak = "" if row["peak_ratio"] is None else f"{row['peak_ratio']:.3f}"
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.3f}"
        held = mib(row["allocator_tensor_bytes"]), mib(row["allocator_bytes"])
        figures = (mib(row["peak_bytes"]), peak, mib(row["budget"]), *held, added(row["flops_ratio"]))
        made.add_row(row["method"], *figures, seconds, added(row["time_ratio"]), *_exactness(row))
    return made


def _exactness(row: dict[str, Any]) -> tuple[str, str]:
    if "bitwise" not in row:
        return "", ""
    gradients = "bitwise" if row["bitwise"] else f"{row['gradient_error']:.0e}"
    return gradients, "equal" if row["buffers_equal"] else "differ"


def equal_memory(key: str, rows: list[dict[str, Any]]) -> Table:
    """Each other method beside that of our budgets that comes next below its peak, whatever times were measured."""
    made = Table(title=f"{key}: at no more memory")
    for column in ("method", "peak", "FLOPs", "time", "ubertrain", "peak", "FLOPs", "time"):
        made.add_column(column, justify="left" if column in ("method", "ubertrain") else "right")
    for peer in rows:
        if peer["ours"] or peer["peak_ratio"] is None:
            continue
        within = [row for row in rows if row["ours"] and row["peak_ratio"] <= peer["peak_ratio"]]
        best = max(within, key=lambda row: row["peak_ratio"], default=None)
        made.add_row(peer["method"], *_short(peer), *(("none",) if best is None else (best["method"], *_short(best))))
    return made


def _short(row: dict[str, Any]) -> tuple[str, str, str]:
    return f"{row['peak_ratio']:.3f}", added(row["flops_ratio"]), added(row["time_ratio"])


def to_device(case: Case, device: torch.device) -> Case:
    """Graph, images and labels there."""
    graph, images, targets = case
    move: Callable[[Any], Any] = partial(pytree.tree_map_only, torch.Tensor, lambda leaf: leaf.to(device))
    return graph.to(device), move(images), move(targets)


def size_of(name: str, arguments: argparse.Namespace) -> tuple[int, int]:
    """Batch and side."""
    workload = WORKLOADS[name]
    batch, side = (8, 512) if arguments.estimate else (workload.batch, workload.side)
    if arguments.quick:
        batch, side = 2, 64
    return arguments.batch or batch, arguments.side or side


def _asked(arguments: argparse.Namespace) -> Asked:
    return Asked(
        device=torch.device("cpu" if arguments.estimate else arguments.device),
        rounds=1 if arguments.quick else arguments.rounds,
        cost=arguments.cost or ("flops" if arguments.estimate else "auto"),
        compiled=(1.0, 0.5, 0.25) if arguments.compile else (),
        quick=arguments.quick,
    )


def main() -> None:
    """Measure, print, and write pareto.json and a picture per workload."""
    options = parser(__doc__)
    options.add_argument("workload", nargs="*", help=f"of {', '.join(WORKLOADS)}")
    options.add_argument("--batch", type=int, help="images")
    options.add_argument("--side", type=int, help="pixels")
    options.add_argument("--rounds", type=int, default=5, help="how often each method is timed")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--estimate", action="store_true", help="tensors without memory, no times")
    options.add_argument("--cost", choices=("flops", "auto", "profile"), help="what our schedules have the least of: FLOPs "
                         "(with --estimate), or seconds, modelled (else) or measured")  # fmt: skip
    options.add_argument("--compile", action="store_true", help="torch.compile too, minutes per budget")
    arguments = options.parse_args()
    if unknown := set(arguments.workload) - set(WORKLOADS):
        options.error(f"unknown workload {', '.join(unknown)}; choose from {', '.join(WORKLOADS)}")
    names = arguments.workload or (DEFAULT[:1] if arguments.quick else DEFAULT)
    asked = _asked(arguments)
    report: dict[str, Any] = {}
    tables = []
    for name in names:
        batch, side = size_of(name, arguments)
        case = to_device(WORKLOADS[name].build(batch, side), asked.device)
        rows = (estimated if arguments.estimate else measured)(case, asked)
        kind = "estimate" if arguments.estimate else asked.device.type
        key = f"{name} {batch}x3x{side}x{side} {kind}"
        report |= save(arguments.out, "pareto", {key: {"cost": asked.cost, "rows": rows}}, device=asked.device.type)
        front(arguments.out / f"pareto-{name}-{kind}.png", key, rows, line(report[key]["machine"]))
        tables += [table(key, rows), equal_memory(key, rows)]
    show(report, tables, as_json=arguments.json)


if __name__ == "__main__":
    main()
