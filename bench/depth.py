"""Peak memory and recompute of deep chains of equal stages: our planner against revolve's optimum.

    python bench/depth.py

L residual perceptrons, x + W2 relu(W1 x) with 256 features and 1024 inside, on 4 x 256 tokens. Revolve (Griewank and Walther
2000) is optimal among schedules that hold values between stages and nothing else. For several numbers of held values its
schedule is simulated, and ours gets what that needs as budget. Work is FLOPs of recompute over those of a step that keeps
everything. Numbers only; up to 64 stages the plans are also rehearsed on the graph, so that their peak is exact.
"""

import sys
import time
from dataclasses import replace
from typing import Any

import torch
from measuring import fake_needs, with_schedule
from ours import Fitter
from reporting import added, mib, parser, save, show
from rich.table import Table
from torch import Tensor, nn
from workloads import Case

import ubertrain as ut
from ubertrain.planning.chain import Chain
from ubertrain.planning.keep_all import keep_all
from ubertrain.planning.plan import plan_optimal
from ubertrain.planning.revolve import least_runs, revolve
from ubertrain.planning.search import Programme
from ubertrain.planning.simulate import simulate

BATCH, TOKENS, WIDTH = 4, 256, 256
REHEARSED = 64
HELD = (1, 2, 3, 4, 6, 8, 12, 16, 32)
MOST_RUNS = 4
"""Of the whole trunk, in recompute; beyond that nobody trains."""


class Perceptron(nn.Module):
    """x + W2 relu(W1 x)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(inplace=True), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Last(nn.Module):
    """The mean of the only level, one value per image."""

    def forward(self, levels: list[Tensor]) -> Tensor:
        return levels[0].mean((1, 2))


def build(stages: int) -> Case:
    """The graph of so many stages, its input and labels."""
    trunk = {f"s{i}": Perceptron() for i in range(stages)}
    graph = ut.Graph(trunk, {"mean": ut.Branch(Last(), [f"s{stages - 1}"], lambda means, target: means)})
    return graph, torch.rand(BATCH, TOKENS, WIDTH), {"mean": torch.zeros(BATCH)}


def chain_of(stages: int) -> Chain:
    """The measures of `build(stages)`, from those of four stages: all between the first and the last are alike."""
    small = Fitter.of(*build(4), "flops").chain
    first, middle, _, last = small.stages
    costs = [first, *[middle] * (stages - 2), last]
    renamed = [replace(cost, name=f"s{i}", output=((i, cost.output[0][1]),)) for i, cost in enumerate(costs)]
    (branch,) = small.branches
    extra = stages - 4
    return replace(
        small,
        stages=tuple(renamed),
        branches=(replace(branch, taps=(stages - 1,)),),
        plain_peak=small.plain_peak + extra * middle.whole.kept,
        plain_work=small.plain_work + extra * (middle.forward + middle.whole.backward),
    )


def measure(stages: int) -> list[dict[str, Any]]:
    """A row per number of values that revolve may hold."""
    chain, names = chain_of(stages), [f"s{i}" for i in range(stages)]
    keeping = simulate(chain, keep_all(names, chain.order))
    start = time.perf_counter()
    programme = Programme(chain)
    solved = time.perf_counter() - start
    rows = []
    for held in (held for held in HELD if held < stages and least_runs(stages, held) <= MOST_RUNS * stages):
        theirs = simulate(chain, revolve(names, chain.order, held))
        if theirs.peak_bytes >= keeping.peak_bytes:
            continue
        schedule = plan_optimal(chain, programme, theirs.peak_bytes)
        ours = simulate(chain, schedule)
        rows.append(
            {
                "stages": stages,
                "held": held,
                "keep_all_bytes": keeping.peak_bytes,
                "budget": theirs.peak_bytes,
                "revolve_runs": least_runs(stages, held),
                "revolve_work": theirs.recompute_work / keeping.work,
                "our_bytes": ours.peak_bytes,
                "our_runs": sum(schedule.recomputed().values()),
                "our_work": ours.recompute_work / keeping.work,
                "rehearsed_bytes": _rehearsed(schedule) if stages <= REHEARSED else None,
                "solve_seconds": solved,
            }
        )
    return rows


def _rehearsed(schedule: ut.Schedule) -> int:
    return fake_needs(with_schedule(schedule), *build(len(schedule.stages))).peak_bytes


def table(rows: list[dict[str, Any]]) -> Table:
    """One line per depth and number of held values."""
    made = Table(title="equal stages: recompute at revolve's peak (runs of stages; FLOPs over those of the whole step)")
    columns = ("stages", "held", "keep_all MiB", "budget MiB", "revolve runs", "work", "our runs", "work", "MiB", "rehearsed")
    for column in columns:
        made.add_column(column, justify="right")
    for row in rows:
        revolved = (str(row["revolve_runs"]), added(1 + row["revolve_work"]))
        ours = (str(row["our_runs"]), added(1 + row["our_work"]), mib(row["our_bytes"]), mib(row["rehearsed_bytes"]))
        made.add_row(str(row["stages"]), str(row["held"]), mib(row["keep_all_bytes"]), mib(row["budget"]), *revolved, *ours)
    return made


def main() -> None:
    """Plan, print, and write depth.json."""
    arguments = parser(__doc__).parse_args()
    sys.setrecursionlimit(20_000)  # spans in spans, hundreds deep
    depths = (8, 16) if arguments.quick else (8, 16, 32, 64, 128, 256, 512)
    rows = [row for stages in depths for row in measure(stages)]
    report = save(arguments.out, "depth", {"residual perceptrons": {"rows": rows}})
    show(report, [table(rows)], as_json=arguments.json)


if __name__ == "__main__":
    main()
