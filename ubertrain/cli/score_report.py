"""How `ubertrain score` shows a score, and the options that its commands share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # torch is not loaded before a command needs it
    from ubertrain.scoring.pairs import Naming
    from ubertrain.scoring.score import Score

CLASSES = "How many, a file with a name in every line, or a list that is known: voc, sbd, cityscapes, person_part."

Pred = Annotated[
    Path, typer.Option("--pred", metavar="DIR", help="The predictions: a folder (folders in it count), or a file.")
]
Truth = Annotated[Path, typer.Option("--truth", metavar="DIR", help="The truth: a folder, or a file.")]
PredEnding = Annotated[
    str | None,
    typer.Option("--pred-ending", metavar="END", help="What follows the image's name in files of predictions, e.g. _pred.png."),
]
TruthEnding = Annotated[
    str | None, typer.Option("--truth-ending", metavar="END", help="The same in files of the truth, e.g. _gtFine_labelIds.png.")
]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out images without a prediction instead of stopping at the first.")
]
Only = Annotated[Path | None, typer.Option("--list", metavar="FILE", help="The names of the images to score, one a line.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes; 0 = one per core.")]
PerImage = Annotated[Path | None, typer.Option("--per-image", metavar="FILE", help="Write the scores of each image, as .csv.")]
Curve = Annotated[
    Path | None,
    typer.Option("--curve", metavar="FILE", help="Write precision and recall by threshold as .csv, or draw them as .png."),
]


def naming(pred_ending: str | None, truth_ending: str | None, skip_missing: bool, only: Path | None) -> "Naming":
    """The shared options about names as the library has them."""
    from ubertrain.scoring.pairs import Naming

    return Naming(pred_ending, truth_ending, "skip" if skip_missing else "error", only)


def report(run: Callable[..., "Score"], *, json: bool, per_image: Path | None = None, curve: Path | None = None) -> None:
    """Run and show a score.

    Args:
        run: is called with `watch`, see `each`.
        json: whether to print JSON instead of tables.
        per_image: where to write the scores of single images.
        curve: where to write or draw the curve.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ubertrain.cli.output import print_json, stderr
    from ubertrain.scoring.export import write_curve, write_per_image

    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True, disable=not stderr().is_terminal) as bar:
        task = bar.add_task("scoring", total=None)
        score = run(watch=lambda done, total: bar.update(task, completed=done, total=total))
    if json:
        print_json(score.json())
    else:
        _tables(score)
    _remarks(score)
    # last, so that what cannot be written does not take the score with it
    files = [write_per_image(score, per_image)] if per_image else []
    files += [write_curve(score, curve)] if curve else []
    for file in files:
        stderr().print(f"wrote {file}", markup=False)


def _tables(score: "Score") -> None:
    from ubertrain.cli.output import print_table, stdout

    stdout().print(score.protocol[0].upper() + score.protocol[1:] + ".", markup=False)
    rows = [(name, _digits(value)) for name, value in score.scores.items()]
    print_table(f"scores of {score.images} images", ("score", "value"), rows)
    if score.classes:
        columns = list(next(iter(score.classes.values())))
        print_table("classes", ("class", *columns), [[name, *map(_digits, v.values())] for name, v in score.classes.items()])


def _digits(value: float) -> str:
    """As many as published figures have; a dash for what is not defined."""
    return "-" if math.isnan(value) else f"{value:.6g}"


def _remarks(score: "Score") -> None:
    """What was left out, on stderr."""
    from ubertrain.cli.output import stderr

    console = stderr()
    for reason, names in score.reasons().items():
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        console.print(f"{len(names)} images left out, {reason}: {shown}", markup=False, style="yellow")
