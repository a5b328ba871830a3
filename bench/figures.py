"""Curves and pictures as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

INK, FRONT = "#444444", "#c03a2b"


def front(file: Path, title: str, rows: Sequence[dict[str, Any]], note: str) -> None:
    """Peak against added time and added FLOPs: our budgets as a line, the other methods as points with their names.

    Args:
        file: the PNG to write.
        title: of the figure.
        rows: as `pareto.py` writes them.
        note: below the figure.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    axes = [("time_ratio", "added time"), ("flops_ratio", "added FLOPs")]
    axes = [(key, label) for key, label in axes if any(row[key] is not None for row in rows)]
    figure, panels = plt.subplots(1, len(axes), figsize=(8 * len(axes), 5.5), squeeze=False, layout="constrained")
    for panel, (key, label) in zip(panels[0], axes, strict=True):
        _panel(panel, [row for row in rows if row[key] is not None and row["peak_ratio"] is not None], key)
        panel.set_xlabel("peak bytes / plain autograd's")
        panel.set_ylabel(f"{label} over plain autograd, %")
    figure.suptitle(title)
    figure.supxlabel(note, fontsize=7, color=INK)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _panel(panel: Any, rows: Sequence[dict[str, Any]], key: str) -> None:
    ours = sorted((row for row in rows if row["ours"]), key=lambda row: row["peak_ratio"])
    panel.plot(*_points(ours, key), "o-", color=FRONT, label="ubertrain, by budget", zorder=3)
    limit = 1.2
    peers = [row for row in rows if not row["ours"]]
    near = [row for row in peers if row["peak_ratio"] <= limit]
    panel.plot(*_points(near, key), "s", color=INK)
    middle = (limit + min((row["peak_ratio"] for row in ours), default=0.0)) / 2
    for number, row in enumerate(sorted(near, key=lambda row: row[key])):
        place, left = (row["peak_ratio"], 100 * (row[key] - 1)), row["peak_ratio"] > middle
        offset = (-6 if left else 6, 5 if number % 2 else -11)
        side = "right" if left else "left"
        panel.annotate(row["method"], place, offset, textcoords="offset points", fontsize=8, color=INK, ha=side)
    beyond = [f"{row['method']}: {row['peak_ratio']:.1f}x the peak, {row[key] - 1:+.0%}" for row in peers if row not in near]
    panel.plot([], [], "s", color=INK, label="others" + "".join(f"\nnot shown: {text}" for text in beyond))
    panel.axhline(0, color=INK, linewidth=0.5)
    panel.margins(x=0.08, y=0.12)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)


def _points(rows: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    return [row["peak_ratio"] for row in rows], [100 * (row[key] - 1) for row in rows]


def masks(file: Path, rows: Sequence[tuple[Any, Any, Any]]) -> None:
    """Pictures with their masks before and after, and the truth, side by side.

    Args:
        file: the PNG to write.
        rows: (picture with `name`, `image` and `mask`, labels before, labels after), as `crf.py` has them.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(len(rows), 4, figsize=(12, 3 * len(rows)), squeeze=False, layout="constrained")
    for line, (picture, before, after) in zip(panels, rows, strict=True):
        unknown = picture.mask == 255
        largest = max(1, int(picture.mask[~unknown].max()))
        labels = [mask.float().masked_fill(unknown, float("nan")).numpy() for mask in (before, after, picture.mask)]
        line[0].imshow(picture.image[0].permute(1, 2, 0).byte().numpy())
        for panel, mask in zip(line[1:], labels, strict=True):
            panel.imshow(mask, cmap="nipy_spectral", vmin=0, vmax=largest, interpolation="nearest")
        for panel, title in zip(line, (picture.name, "labels of every 16th pixel", "after the CRF", "truth"), strict=True):
            panel.set_title(title, fontsize=9)
            panel.axis("off")
    figure.savefig(file, dpi=80)
    plt.close(figure)


def gains(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Mean IoU before and after over how coarse the masks were, a panel per data set.

    Args:
        file: the PNG to write.
        rows: of `data`, `images`, `step`, `before` and `after`, as `crf.py` writes them.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row["data"] for row in rows))
    figure, panels = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3.2), squeeze=False, layout="constrained")
    for panel, name in zip(panels[0], names, strict=True):
        own = [row for row in rows if row["data"] == name]
        steps = [str(row["step"]) for row in own]
        panel.plot(steps, [100 * row["before"] for row in own], "s--", color=INK, label="before")
        panel.plot(steps, [100 * row["after"] for row in own], "o-", color=FRONT, label="after the CRF")
        panel.set_title(f"{name}, {own[0]['images']} pictures", fontsize=9)
        panel.set_xlabel("labels known at every n-th pixel")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("mIoU, %")
    panels[0][0].legend(fontsize=8, frameon=False)
    figure.savefig(file, dpi=110)
    plt.close(figure)
