"""`ubertrain compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ubertrain.cli.options import Json

if TYPE_CHECKING:
    from ubertrain.training.delta_m import DeltaM, Seeds


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of finished runs: one of several tasks, then one of each."),
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="RUN", help="A run to measure by; may be given several times."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare a multi-task run with single-task runs: the gain of each task, and their mean, Delta_m.

    The first run, and all that have its tasks, are compared with the others; with --against, all RUNs with those. Runs with the
    same tasks count as seeds of one training: their scores are averaged.
    """
    from ubertrain.cli.output import print_json, stderr
    from ubertrain.errors import ConfigError
    from ubertrain.training.delta_m import delta_m, divide
    from ubertrain.training.finished import read_finished

    folders = [*runs, *(against or ())]
    for position, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:position]]:
            raise ConfigError(f"{folder} is given twice")
    found = [read_finished(folder) for folder in folders]
    multi, single = (found[: len(runs)], found[len(runs) :]) if against else divide(found)
    if not single:
        raise ConfigError("all runs have the same tasks; name those to measure by with --against, or give runs of single tasks")
    result = delta_m(multi, single)
    if json:
        print_json(result.as_json())
    else:
        _print(result)
    for task, reason in result.left_out.items():
        stderr().print(f"left out: {task} {reason}", markup=False)
    for remark in result.remarks:
        stderr().print(f"mind that {remark}", markup=False, style="yellow")


def _print(result: "DeltaM") -> None:
    from ubertrain.cli.output import print_table

    rows = [
        [task, gain.metric, "higher" if gain.higher_is_better else "lower", _seeds(gain.multi), _seeds(gain.single),
         f"{gain.percent:+.1f} %"]
        for task, gain in result.gains.items()
    ]  # fmt: skip
    spread = f" ± {result.seeds.spread:.1f}" if len(result.seeds.values) > 1 else ""
    rows.append(["Delta_m", f"mean of {len(rows)}", "higher", "", "", f"{result.percent:+.1f}{spread} %"])
    print_table("with other tasks against without", ("task", "score", "better is", "with", "without", "gain"), rows)


def _seeds(seeds: "Seeds") -> str:
    from ubertrain.cli.output import number

    if len(seeds.values) == 1:
        return number(seeds.mean)
    return f"{number(seeds.mean)} ± {number(seeds.spread)} ({len(seeds.values)})"
