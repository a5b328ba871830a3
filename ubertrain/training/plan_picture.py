"""A plan as a picture: what budgets cost, and memory over the step."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ubertrain.errors import ConfigError
from ubertrain.training.plan import Plan
from ubertrain.units import format_bytes

_OURS, _PLAIN, _BUDGET, _FILL = "#1f5fa8", "#8a8a8a", "#c23b22", "#a9c7e8"
_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def require_matplotlib() -> None:
    """Raise `ConfigError` with the way to install it unless matplotlib is there."""
    if find_spec("matplotlib") is None:
        raise ConfigError("a picture of a plan needs the package matplotlib; install it with: pip install 'ubertrain[plot]'")


def check_picture(file: Path) -> None:
    """Raise `ConfigError` unless a plan can be drawn into `file`."""
    require_matplotlib()
    if file.suffix not in (".png", ".pdf", ".svg") or not file.absolute().parent.is_dir():
        raise ConfigError(f"{file}: a picture of a plan is a file that ends in .png, .pdf or .svg, in a folder that is there")


def draw_plan(plan: Plan, file: Path) -> Path:
    """Draw `plan` into `file`, whose ending names the format, such as .png.

    Left: the least time that each budget of the whole device costs, with this plan and plain autograd. Right: the bytes of the
    whole device over the moments of the step, with the one that needs most.

    Raises:
        ConfigError: matplotlib is not installed, or the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    _draw_front(plan, left)
    _draw_timeline(plan, right)
    budget = f", budget {format_bytes(plan.budget)}" if plan.budget else ""
    figure.suptitle(f"One step of {plan.chain.batch} images with all labels on {plan.device}{budget}", fontsize=13)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot draw the plan in {file}: {error}") from error
    return file


def _draw_front(plan: Plan, axes: Any) -> None:
    static = plan.static.total
    plain = static + plan.chain.plain_peak
    unit, size = _unit(plain)
    peaks = [(static + point.peak_bytes) / size for point in plan.front]
    added = [100 * plan.share_added(point.work) for point in plan.front]
    reach = max(1.08 * plain / size, 1.02 * peaks[-1])
    # What fits a budget is the best point left of it: a staircase.
    axes.step([*peaks, reach], [*added, added[-1]], where="post", color=_OURS, linewidth=2, label="least time for a budget")
    axes.plot(peaks, added, ".", color=_OURS, markersize=5)
    axes.plot(plain / size, 0, "s", color=_PLAIN, markersize=9, label="plain autograd", zorder=3)
    if plan.usage is not None:
        chosen = (static + plan.peak_bytes) / size, 100 * plan.share_added(plan.usage.work)
        axes.plot(*chosen, "o", color=_BUDGET, markersize=10, zorder=4, label=f"this plan, {chosen[1]:+.1f} %")
    low = peaks[0] - 0.06 * (reach - peaks[0])
    if plan.budget is not None and low <= plan.budget / size <= reach:
        axes.axvline(plan.budget / size, color=_BUDGET, linestyle="--", linewidth=1.2, label="budget")
    axes.axvspan(low, peaks[0], color="#eeeeee", zorder=0)
    axes.set_xlim(low, reach)
    axes.margins(y=0.12)
    axes.set_xlabel(f"memory of the whole device ({unit}); grey: no schedule fits")
    axes.set_ylabel(f"added {'time' if plan.chain.unit == 'seconds' else 'FLOPs'} over plain autograd (%)")
    axes.set_title("What a budget costs", loc="left")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", framealpha=0.95)


def _draw_timeline(plan: Plan, axes: Any) -> None:
    moments, static = plan.rehearsed.timeline, plan.static.total
    highest = plan.rehearsed.at_peak
    unit, size = _unit(static + max(plan.peak_bytes, plan.chain.plain_peak))
    edges = range(len(moments) + 1)
    axes.stairs([(static + moment.peak_bytes) / size for moment in moments], edges, baseline=static / size, fill=True,
                color=_FILL, label="most during a moment")  # fmt: skip
    axes.stairs([(static + moment.live_bytes) / size for moment in moments], edges, baseline=static / size, color=_OURS,
                linewidth=1.2, label="left after it")  # fmt: skip
    axes.axhspan(0, static / size, color="#dddddd", zorder=0, label=f"static, {format_bytes(static)}")
    top = max(static + plan.peak_bytes, min(plan.budget or 0, 2 * (static + plan.peak_bytes))) / size
    if plan.budget is not None and plan.budget / size <= 1.25 * top:
        axes.axhline(plan.budget / size, color=_BUDGET, linestyle="--", linewidth=1.2, label="budget")
    name = f"{format_bytes(static + highest.peak_bytes)}: {highest.what}"
    _annotate_peak(axes, moments.index(highest) + 0.5, (static + highest.peak_bytes) / size, name, len(moments))
    _name_phases(axes, [moment.what for moment in moments])
    axes.set_xlim(0, len(moments))
    axes.set_ylim(0, 1.25 * top)
    axes.set_ylabel(f"memory of the whole device ({unit})")
    axes.set_title("Memory over the step", loc="left")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(loc="lower right", framealpha=0.95)


def _annotate_peak(axes: Any, x: float, y: float, what: str, count: int) -> None:
    """Name the moment of the peak beside its point, towards the middle."""
    early = x < count / 2
    axes.plot(x, y, "o", color=_BUDGET, markersize=7, zorder=4)
    axes.annotate(what, (x, y), xytext=(28 if early else -28, 26), textcoords="offset points", ha="left" if early else "right",
                  arrowprops={"arrowstyle": "-", "color": _BUDGET}, color=_BUDGET)  # fmt: skip


def _name_phases(axes: Any, whats: list[str]) -> None:
    """Below the axis: the trunk's forward, the branches before its backward, and that."""
    first = next((i for i, what in enumerate(whats) if not what.startswith("forward")), len(whats))
    second = next((i for i, what in enumerate(whats) if i >= first and not what.startswith("branch")), len(whats))
    bounds = [(0, first, "forward"), (first, second, "branches"), (second, len(whats), "backward")]
    for start in (first, second):
        axes.axvline(start, color="#666666", linewidth=0.6, linestyle=":")
    axes.set_xticks([(start + stop) / 2 for start, stop, _ in bounds if stop > start], [n for a, b, n in bounds if b > a])
    axes.tick_params(axis="x", length=0)


def _unit(largest: float) -> tuple[str, int]:
    """The unit that numbers up to `largest` bytes are best read in."""
    return next(((name, size) for name, size in _UNITS if largest >= size), ("bytes", 1))
