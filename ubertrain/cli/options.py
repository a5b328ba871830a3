"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The experiment, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. --set optimizer.lr=0.01; may be given several times."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables; nothing else goes to stdout.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
