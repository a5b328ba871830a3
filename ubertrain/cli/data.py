"""`ubertrain data`."""

from pathlib import Path
from typing import Annotated

import typer

from ubertrain.cli.options import ConfigFile, Json, Overrides


def data(
    config: ConfigFile,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where to draw a few samples per set; left out: runs/NAME-samples."),
    ] = None,
    json: Json = False,
) -> None:
    """Read everything: count images and labels, name every file that cannot be used, draw a few samples as training sees them.

    Exit code 2 if there is one and data.on_error is raise.
    """
    from dataclasses import asdict

    from ubertrain.cli.output import print_json, print_table, stderr
    from ubertrain.training.config import load
    from ubertrain.training.inspection import draw_samples, inspect

    experiment = load(config, overrides or ())
    counts = inspect(experiment)
    pictures = draw_samples(experiment, out or Path("runs") / f"{config.stem}-samples")
    if json:
        print_json({"sets": [asdict(one) for one in counts], "pictures": [str(file) for file in pictures]})
    else:
        tasks = list(experiment.tasks)
        rows = [[one.name, one.images, *(one.labelled.get(task, "-") for task in tasks), len(one.unlabelled), len(one.faults)]
                for one in counts]  # fmt: skip
        print_table("images and labels", ("set", "images", *tasks, "no label", "unreadable"), rows)
    console = stderr()
    for one in counts:
        for fault in one.faults:
            console.print(f"{one.name}: {fault}", markup=False)
        if one.unlabelled:
            console.print(f"{one.name}: no label at all: {', '.join(one.unlabelled)}", markup=False)
    for file in pictures:
        console.print(f"drew {file}", markup=False)
    if experiment.data.on_error == "raise" and any(one.faults for one in counts):
        raise typer.Exit(2)
