"""Bytes and seconds of a segmentation loss at full resolution: in bands of rows of pixels, against the plain way.

    python bench/banded.py

Both take the same scores on a grid of every 4th, 8th or 32nd pixel, and labels of pixels. The plain way enlarges the scores,
takes the cross-entropy of every pixel and averages; ours does so a band at a time (`ubertrain.ops.banded`). Peak bytes are
those of forward and backward together beyond the scores and labels, by `LiveBytes`; the allocator's own peak stands beside. The
two take turns; times are medians, the ratio is the median of those within a round.
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from allocator import allocated
from measuring import interleaved, needs, ratio
from reporting import added, mib, parser, save, show
from rich.table import Table
from torch import Tensor, nn

from ubertrain.ops.banded import banded_cross_entropy
from ubertrain.ops.grid import OnGrid
from ubertrain.ops.pixels import to_size, valid_mean

Loss = Callable[[OnGrid, Tensor], Tensor]

SIZES = {
    "VOC, stride 8": (4, 21, 512, 8),
    "VOC, stride 32": (4, 21, 512, 32),
    "VOC, stride 4": (4, 21, 512, 4),
    "ADE20K, stride 8": (2, 150, 512, 8),
    "COCO, stride 4": (2, 133, 256, 4),
    "small, stride 4": (8, 10, 96, 4),
}
"""Images, classes, pixels along a side, pixels per cell."""
QUICK = {"tiny": (1, 5, 64, 8)}


def plain(grid: OnGrid, target: Tensor) -> Tensor:
    """As it is usually written: logits of all classes at all pixels."""
    logits = to_size(grid.pixels(), target.shape[-2:])
    surprise = F.cross_entropy(logits, target, ignore_index=255, reduction="none")
    return valid_mean(surprise, target != 255)


def measure(rows: int, classes: int, side: int, stride: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Both ways on one problem."""
    torch.manual_seed(0)
    values = torch.randn(rows, classes, -(-side // stride), -(-side // stride), device=device, requires_grad=True)
    target = torch.randint(0, classes, (rows, side, side), device=device)
    gradients: dict[str, Tensor] = {}

    def step(name: str, loss: Loss) -> Callable[[], object]:
        def run() -> None:
            loss(OnGrid(values, stride), target).sum().backward()
            assert values.grad is not None
            gradients[name], values.grad = values.grad, None

        return run

    runs = {"plain": step("plain", plain), "banded": step("banded", banded_cross_entropy)}
    found: dict[str, Any] = {"images": rows, "classes": classes, "side": side, "stride": stride}
    for name, run in runs.items():
        found[f"{name}_bytes"] = needs(run).peak_bytes
        gradients.clear()
        found[f"{name}_allocated"] = allocated(nn.Module(), run, device).all
        gradients.clear()
    seconds = interleaved(runs, rounds, gradients.clear, device)
    found |= {f"{name}_seconds": statistics.median(times) for name, times in seconds.items()}
    found["time_ratio"] = ratio(seconds["banded"], seconds["plain"])
    found["gradient_error"] = _apart(step("plain", plain), runs["banded"], gradients)
    return found


def _apart(first: Callable[[], object], second: Callable[[], object], gradients: dict[str, Tensor]) -> float:
    """Relative distance of the two gradients."""
    first(), second()
    one, other = gradients["banded"].double(), gradients["plain"].double()
    return float((one - other).norm() / other.norm())


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """One line per problem."""
    made = Table(title="cross-entropy at full resolution, forward and backward: peak MiB by our count and the allocator's")
    columns = ("", "images x classes x side", *("plain", "banded", "share"), *("plain alloc.", "banded alloc."),
               *("plain ms", "banded ms", "time"), "error")  # fmt: skip
    for column in columns:
        made.add_column(column, justify="right")
    for name, row in rows.items():
        made.add_row(
            name,
            f"{row['images']} x {row['classes']} x {row['side']}",
            *(mib(row[f"{way}_bytes"]) for way in ("plain", "banded")),
            f"{row['banded_bytes'] / row['plain_bytes']:.1%}",
            *(mib(row[f"{way}_allocated"]) for way in ("plain", "banded")),
            *(f"{1e3 * row[f'{way}_seconds']:.1f}" for way in ("plain", "banded")),
            added(row["time_ratio"]),
            f"{row['gradient_error']:.0e}",
        )
    return made


def main() -> None:
    """Measure, print, and write banded.json."""
    made = parser(__doc__)
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = made.parse_args()
    sizes, rounds = (QUICK, 1) if arguments.quick else (SIZES, 7)
    device = torch.device(arguments.device)
    rows = {name: measure(*size, rounds, device) for name, size in sizes.items()}
    report = save(arguments.out, "banded", {f"cross-entropy, {device.type}": {"rows": rows}}, device=arguments.device)
    show(report, [table(rows)], as_json=arguments.json)


if __name__ == "__main__":
    main()
