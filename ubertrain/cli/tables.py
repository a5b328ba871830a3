"""The tables that more than one command prints."""

from collections.abc import Mapping, Sequence

from ubertrain.cli.output import print_table, stderr
from ubertrain.training.comparison import Comparison
from ubertrain.training.report import Report, TaskResult
from ubertrain.units import format_bytes

_SHOWN = 20


def print_report(report: Report) -> None:
    """Scores before and after, memory, and what was left out."""
    print_results(report.results, before=True)
    if report.memory:
        print_memory(report.memory)
    static, first = report.static, report.first_peak
    predicted = [("peak of the first step, predicted", first.predicted), ("measured", first.measured)] if first else []
    print_table(
        f"{report.steps} steps, {report.seconds:.0f} s",
        ("memory", "bytes"),
        [
            *((name, format_bytes(size)) for name, size in predicted),
            ("largest measured peak of a step", format_bytes(report.peak_bytes)),
            ("weights", format_bytes(static.parameters)),
            ("gradients", format_bytes(static.gradients)),
            ("optimizer", format_bytes(static.optimizer)),
        ],
    )
    print_skipped(report.skipped)


def print_results(results: Mapping[str, TaskResult], *, before: bool) -> None:
    """One line per task: its primary score, the best constant answer's, and whether the former is the better one."""
    numbers = ["before", "after"] if before else ["now"]
    columns = ["task", "score", "better is", *numbers, "best constant", "beaten"]
    rows = []
    for task, result in results.items():
        values = [*([result.before] if before else []), result.after, result.constant]
        beaten = {True: "yes", False: "no", None: "-"}[result.beats_constant]
        rows.append([task, result.metric, "higher" if result.higher_is_better else "lower", *values, beaten])
    print_table("scores on the validation sets", columns, rows)


def print_memory(memory: Sequence[Comparison]) -> None:
    """Measured peaks of the step and of plain autograd, with the growth from the first line on."""
    rows = []
    for line in memory:
        growth = [f"{100 * (now / first - 1):+.0f} %" for now, first in _against_first(line, memory[0])]
        share = f"{100 * line.ours / line.autograd:.0f} %"
        rows.append([line.tasks, format_bytes(line.ours), growth[0], format_bytes(line.autograd), growth[1], share])
    print_table(
        "measured peak of a step whose every image has every label",
        ("tasks", "this step", "growth", "plain autograd", "growth", "this / plain"),
        rows,
    )


def print_skipped(skipped: Mapping[str, int]) -> None:
    """What was left out, one line each, on stderr."""
    if not skipped:
        return
    console = stderr()
    console.print(f"{len(skipped)} samples could not be read and were left out:", style="yellow")
    for message, times in list(skipped.items())[:_SHOWN]:
        console.print(f"  {message} ({times} times in training)", markup=False)
    if len(skipped) > _SHOWN:
        console.print(f"  and {len(skipped) - _SHOWN} more; all are in report.json")


def _against_first(line: Comparison, first: Comparison) -> list[tuple[int, int]]:
    return [(line.ours, first.ours), (line.autograd, first.autograd)]
