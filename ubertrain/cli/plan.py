"""`ubertrain plan`."""

from typing import Annotated

import typer

from ubertrain.cli.options import ConfigFile, Json, Overrides


def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="BYTES", help="Pick the cheapest schedule within it, e.g. 6GiB.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also run a step by the chosen schedule and by plain autograd, and measure both.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what each schedule needs, to the byte and without training: a step whose every image has every label."""
    from dataclasses import asdict

    from ubertrain.cli.output import print_json, print_table
    from ubertrain.cli.tables import print_memory
    from ubertrain.training.config import load
    from ubertrain.training.plan import make_plan
    from ubertrain.units import format_bytes

    experiment = load(config, [*(overrides or ()), *(["memory.schedule=null", f"memory.budget={budget}"] if budget else [])])
    found = make_plan(experiment, measure=measure)
    if json:
        candidates = [{**asdict(one), "schedule": str(one.schedule)} for one in found.candidates]
        print_json({"static": asdict(found.static), "candidates": candidates, "chosen": str(found.chosen),
                    "memory": [asdict(line) for line in found.memory]})  # fmt: skip
        return
    static = found.static
    rows = [
        ["*" if one.schedule == found.chosen else "", one.name, format_bytes(one.peak_bytes),
         format_bytes(static.total + one.peak_bytes), f"{100 * one.recompute:.0f} %"]
        for one in found.candidates
    ]  # fmt: skip
    print_table(
        f"weights {format_bytes(static.parameters)}, gradients {format_bytes(static.gradients)}, "
        f"optimizer {format_bytes(static.optimizer)}",
        ("", "schedule", "peak of a step", "with static bytes", "trunk forward run again"),
        rows,
    )
    if found.memory:
        print_memory(found.memory)
    print(f"memory.schedule: {found.chosen}")
