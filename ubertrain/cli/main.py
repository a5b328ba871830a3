"""The command `ubertrain`."""

import os
import sys
from typing import Annotated

import typer

from ubertrain.cli import codebook, compare, config, data, evaluate, plan, predict, score, tasks, train
from ubertrain.cli.errors import CleanErrors

app = typer.Typer(
    name="ubertrain",
    help="Train one vision trunk for many tasks, within a memory budget, from partially labelled data.",
    epilog="Exit codes: 0 done, 2 a mistake in what was given, 130 interrupted (everything trained is saved), 1 a bug of ours.",
    cls=CleanErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("compare")(compare.compare)
app.command("plan")(plan.plan)
app.command("tasks")(tasks.tasks)
app.command("data")(data.data)
app.command("codebook")(codebook.codebook)
app.add_typer(score.app, name="score")
app.add_typer(config.app, name="config")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("ubertrain"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Train one vision trunk for many tasks, within a memory budget, from partially labelled data."""


def main() -> None:
    """Run the command line and exit. A task or data set in a file of the current folder is found, as with `python -m`."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    app()
