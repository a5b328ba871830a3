"""A plan as a terminal shows it."""

from collections.abc import Iterator

from ubertrain.cli.output import print_table, stdout
from ubertrain.cli.skyline import place_of, skyline
from ubertrain.cli.tables import print_memory
from ubertrain.planning.front import Point
from ubertrain.training.plan import Plan
from ubertrain.training.plan_lines import KEPT, work_text
from ubertrain.units import format_bytes

_POINTS = 9
"""Budgets in the table."""


def print_plan(plan: Plan) -> None:
    """Stages, branches, what other budgets cost, memory over the step, and the sum of it."""
    if plan.usage is not None:
        _print_stages(plan)
        _print_branches(plan)
    _print_front(plan)
    _print_timeline(plan)
    if plan.memory:
        print_memory(plan.memory)
    for line in summary(plan):
        print(line)


def summary(plan: Plan) -> Iterator[str]:
    """What the plan comes to, in a few lines."""
    static, step = plan.static, plan.peak_bytes
    parts = f"weights {format_bytes(static.parameters)}, gradients {format_bytes(static.gradients)}"
    total = f"{format_bytes(static.total + step)}" + (f" of a budget of {format_bytes(plan.budget)}" if plan.budget else "")
    yield f"whole device: {total}: {parts}, optimizer {format_bytes(static.optimizer)}, step {format_bytes(step)}"
    yield f"step: {format_bytes(step)} ({step} bytes) rehearsed, reached at {plan.rehearsed.at_peak.what!r}; {_plain(plan)}"
    if plan.usage is not None:
        work, plain = work_text(plan.usage.work, plan.chain.unit), work_text(plan.chain.plain_work, plan.chain.unit)
        yield f"work: {work}, plain autograd {plain}: {_percent(plan.share_added(plan.usage.work))} on {plan.device}"
    yield f"memory.schedule: {plan.schedule}"


def _plain(plan: Plan) -> str:
    plain = plan.chain.plain_peak
    share = f", so this is {100 * plan.peak_bytes / plain:.0f} % of it" if plain else ""
    return f"plain autograd needs {format_bytes(plain)}{share}"


def _print_stages(plan: Plan) -> None:
    unit = plan.chain.unit
    rows = [
        [line.name, line.how if line.again == 0 else f"{line.how} {line.again}x", format_bytes(line.holds),
         "" if line.how == KEPT else format_bytes(line.whole), work_text(line.work, unit),
         work_text(line.added, unit) if line.added else "-"]
        for line in plan.stages
    ]  # fmt: skip
    columns = ("stage", "activations", "held for the backward", "if kept whole", "forward and backward", "added")
    print_table(f"trunk, planned for {plan.device}", columns, rows)


def _print_branches(plan: Plan) -> None:
    rows = [
        [line.task, ", ".join(line.taps), "all" if line.at_a_time == line.images else f"{line.at_a_time} of {line.images}",
         f"{line.way}: {line.head}" if line.head else line.way, format_bytes(line.bytes),
         work_text(line.work, plan.chain.unit), work_text(line.added, plan.chain.unit) if line.added else "-"]
        for line in plan.branches
    ]  # fmt: skip
    columns = ("branch", "taps", "images at a time", "runs", "most bytes on top", "forward and backward", "added")
    print_table("branches, one after another from the last to the first", columns, rows)


def _print_front(plan: Plan) -> None:
    rows = [_row(plan, "", point.peak_bytes, point.work) for point in spread(plan.front, _POINTS)]
    if plan.usage is not None:
        rows.append(_row(plan, "this plan", plan.usage.peak_bytes, plan.usage.work))
    rows.append(_row(plan, "plain autograd", plan.chain.plain_peak, plan.chain.plain_work))
    rows.sort(key=lambda row: row[0])
    columns = ("", "budget of the device", "peak of the step", "of plain autograd's", "added to its time")
    title = "what budgets cost" if plan.chain.unit == "seconds" else "what budgets cost, in FLOPs"
    print_table(title, columns, [row[1:] for row in rows])


def _row(plan: Plan, name: str, peak: int, work: float) -> tuple[int, str, str, str, str, str]:
    whole, share = format_bytes(plan.static.total + peak), 100 * peak / max(plan.chain.plain_peak, 1)
    return peak, name, whole, format_bytes(peak), f"{share:.0f} %", _percent(plan.share_added(work))


def _print_timeline(plan: Plan) -> None:
    moments = plan.rehearsed.timeline
    lines = skyline([moment.peak_bytes for moment in moments])
    if not lines:
        return
    highest = plan.rehearsed.at_peak
    at = place_of(moments.index(highest), len(moments))
    label = f"{format_bytes(highest.peak_bytes)} at {highest.what!r}"
    console = stdout()
    console.print("memory over the step", style="bold")
    for line in lines:
        console.print(f"  {line.rstrip()}", markup=False)
    console.print(" " * (2 + at) + f"^ {label}" if at < len(lines[0]) // 2 else f"{label} ^".rjust(at + 3), markup=False)


def spread(points: tuple[Point, ...], count: int) -> list[Point]:
    """About `count` of the points, evenly over the range of peaks, the first and the last among them."""
    if len(points) <= count:
        return list(points)
    low, high = points[0].peak_bytes, points[-1].peak_bytes
    wanted = [low + (high - low) * index / (count - 1) for index in range(count)]
    nearest = [min(points, key=lambda point, want=want: abs(point.peak_bytes - want)) for want in wanted]  # type: ignore[misc]
    return list(dict.fromkeys(nearest))


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"
