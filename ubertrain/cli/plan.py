"""`ubertrain plan`."""

from pathlib import Path
from typing import Annotated

import typer

from ubertrain.cli.options import ConfigFile, Json, Overrides


def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="BYTES", help="Plan for this budget of the whole device, e.g. 6GiB, or auto."),
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", help="Plan for so many images in a batch.")] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Plan for a GPU that need not be there, e.g. h100, and its memory."),
    ] = None,
    planner: Annotated[
        str, typer.Option("--planner", metavar="NAME", help="How to plan: optimal, or a baseline to compare with.")
    ] = "optimal",
    measure: Annotated[
        bool, typer.Option("--measure", help="Also run a step by the chosen schedule and by plain autograd, and measure both.")
    ] = False,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Also draw it: budgets and memory over the step.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what a step will keep, recompute and need, without training: one whose every image has every label."""
    from ubertrain.cli.output import print_json, stderr
    from ubertrain.cli.plan_tables import print_plan
    from ubertrain.measuring.devices import find_device
    from ubertrain.planning.plan import known_planner
    from ubertrain.training.config import load
    from ubertrain.training.plan import make_plan
    from ubertrain.training.plan_picture import check_picture, draw_plan

    known_planner(planner)
    if device is not None:
        find_device(device)
    if png is not None:
        check_picture(png)
    given = list(overrides or ())
    if budget is None and device is not None and not any(option.startswith("memory.") for option in given):
        budget = "auto"  # all that the device has
    given += ["memory.schedule=null", f"memory.budget={budget}"] if budget is not None else []
    given += [f"data.batch={batch}"] if batch is not None else []
    found = make_plan(load(config, given), device=device, planner=planner, measure=measure)
    if json:
        print_json(found.as_json())
    else:
        print_plan(found)
    if png is not None:
        draw_plan(found, png)
        stderr().print(f"drawn in {png}", markup=False)
