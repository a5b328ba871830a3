"""What recompute costs at asked peaks: FLOPs of forward and backward added to plain autograd's, on tensors without memory.

    python bench/overhead.py [WORKLOAD ...]

For each asked fraction of plain autograd's peak: the fraction that the fitted schedule needs when it is rehearsed, what it adds
and the most it should add. "finer": the same network, cut inside of its blocks too by `ut.split`.
"""

from dataclasses import dataclass, replace
from typing import Any

from measuring import fake_needs, with_schedule
from ours import Fitter
from peers import plain
from reporting import added, mib, parser, save, show
from rich.table import Table
from torch import Tensor, nn
from workloads import WORKLOADS, Case

import ubertrain as ut


@dataclass(frozen=True)
class Asked:
    """A workload at a size, and peak as a fraction of plain autograd's -> most added FLOPs, None where any will do."""

    batch: int
    side: int
    limits: dict[float, float | None]


ASKED = {
    "resnet50_trunk": Asked(8, 512, {0.57: 0.065, 0.49: 0.095, 0.39: 0.141, 0.29: 0.217, 0.26: None, 0.24: None, 0.22: None}),
    "vit_b16_trunk": Asked(8, 512, {0.55: 0.111, 0.39: 0.159, 0.25: 0.184, 0.17: 0.203, 0.15: None}),
    "resnet50_heads": Asked(4, 256, {0.65: 0.025, 0.35: 0.06, 0.24: None}),
    "vgg16bn_heads": Asked(4, 256, {0.44: 0.08, 0.36: None}),
}


class Whole(nn.Module):
    """A graph's trunk as one module."""

    def __init__(self, graph: ut.Graph) -> None:
        super().__init__()
        self.trunk, self.names = graph.trunk, graph.stage_names

    def forward(self, value: Tensor) -> Tensor:
        """The last stage's value."""
        for name in self.names:
            value = self.trunk.get_submodule(name)(value)
        return value


def finer(case: Case) -> Case:
    """The same modules with a trunk of finer stages."""
    graph, images, targets = case
    taps = {tap: f"trunk.{tap}" for taps in graph.taps.values() for tap in taps}
    stages = ut.split(Whole(graph), list(taps.values()), finer=True)
    branches = {task: replace(branch, taps=[taps[tap] for tap in graph.taps[task]]) for task, branch in graph.branches.items()}
    return ut.Graph(stages, branches), images, targets


def measure(case: Case, limits: dict[float, float | None], cut: str) -> list[dict[str, Any]]:
    """A row per asked fraction and one for the least that can be done."""
    base = fake_needs(plain, *case)
    fitter = Fitter.of(*case, "flops")
    rows = []
    for asked in (*limits, None):
        schedule = fitter.least() if asked is None else fitter.within(round(asked * base.peak_bytes))
        found = None if schedule is None else fake_needs(with_schedule(schedule), *case)
        cost = None if found is None else found.flops / base.flops
        limit = None if asked is None else limits[asked]
        rows.append(
            {
                "stages": len(case[0].stage_names),
                "cut": cut,
                "asked": asked,
                "plain_bytes": base.peak_bytes,
                "peak_bytes": None if found is None else found.peak_bytes,
                "peak_ratio": None if found is None else found.peak_bytes / base.peak_bytes,
                "flops_ratio": cost,
                "limit": limit,
                "ok": cost is not None and (limit is None or round(cost - 1, 3) <= limit),  # limits are stated like that
                "schedule": None if schedule is None else str(schedule),
            }
        )
    return rows


def table(key: str, rows: list[dict[str, Any]]) -> Table:
    """One line per asked fraction and cut."""
    made = Table(title=f"{key}: recompute at asked peaks, plain autograd {mib(rows[0]['plain_bytes'])} MiB")
    for column in ("cut", "stages", "asked", "rehearsed", "MiB", "added FLOPs", "at most", ""):
        made.add_column(column, justify="right")
    for row in rows:
        asked = "least" if row["asked"] is None else f"{row['asked']:.2f}"
        needed = "" if row["peak_ratio"] is None else f"{row['peak_ratio']:.3f}"
        limit = "" if row["limit"] is None else f"{row['limit']:+.1%}"
        verdict = "none fits" if row["peak_ratio"] is None else "ok" if row["ok"] else "too much"
        figures = (asked, needed, mib(row["peak_bytes"]), added(row["flops_ratio"]), limit, verdict)
        made.add_row(row["cut"], str(row["stages"]), *figures)
    return made


def main() -> None:
    """Estimate, print, and write overhead.json."""
    options = parser(__doc__)
    options.add_argument("workload", nargs="*", help=f"of {', '.join(ASKED)}")
    arguments = options.parse_args()
    report: dict[str, Any] = {}
    tables = []
    for name in arguments.workload or (("vgg16bn_heads",) if arguments.quick else ASKED):
        asked = ASKED[name]
        batch, side = (2, 64) if arguments.quick else (asked.batch, asked.side)
        case = WORKLOADS[name].build(batch, side)
        rows = measure(case, asked.limits, "blocks") + measure(finer(case), asked.limits, "finer")
        key = f"{name} {batch}x3x{side}x{side}"
        report |= save(arguments.out, "overhead", {key: {"rows": rows}})
        tables.append(table(key, rows))
    show(report, tables, as_json=arguments.json)


if __name__ == "__main__":
    main()
