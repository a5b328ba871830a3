"""`ubertrain train`."""

from pathlib import Path
from typing import Annotated

import typer

from ubertrain.cli.options import ConfigFile, Json, Overrides


def train(
    config: ConfigFile,
    overrides: Overrides = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="Where to write; left out: runs/NAME, or the next free NAME-2, ..."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --run, or the latest of this config.")] = False,
    compare_memory: Annotated[
        bool, typer.Option("--compare-memory", help="Also measure the step's peak memory against plain autograd's.")
    ] = False,
    json: Json = False,
) -> None:
    """Train, evaluate before and after, draw pictures; Ctrl-C saves, --resume goes on bit for bit."""
    from ubertrain.cli.output import print_json, stderr
    from ubertrain.cli.progress import ProgressView
    from ubertrain.cli.tables import print_report
    from ubertrain.training.config import load
    from ubertrain.training.run import run as run_it
    from ubertrain.training.run_folder import RunFolder

    experiment = load(config, overrides or ())
    folder = RunFolder(run) if run else RunFolder.latest(config) if resume else RunFolder.new(config)
    console = stderr()
    with ProgressView(console, experiment.steps) as view:
        report = run_it(experiment, folder, resume=resume, compare=compare_memory, listeners=[view])
    if json:
        print_json(report.as_json())
    else:
        print_report(report)
    console.print(f"everything is in {folder.path}", markup=False)
