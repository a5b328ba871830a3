"""`ubertrain predict`."""

from pathlib import Path
from typing import Annotated

import typer

from ubertrain.cli.options import Json, Overrides, Run


def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files of any size.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pictures go.")] = Path("predictions"),
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Write a picture per image and task, a contact sheet of all (sheet.png) and the boxes found (boxes.json)."""
    from ubertrain.cli.output import print_json, print_table, stderr
    from ubertrain.training.loaded import load_run
    from ubertrain.training.prediction import predict as predict_image
    from ubertrain.training.prediction import write_predictions

    loaded = load_run(run, overrides or ())
    for remark in loaded.remarks:
        stderr().print(remark, markup=False, style="yellow")
    model = loaded.model
    predicted = [predict_image(model.graph, model.tasks, model.config, file) for file in images]
    files = write_predictions(predicted, out)
    if json:
        print_json({"files": [str(file) for file in files], "boxes": {str(one.file): one.boxes for one in predicted}})
    else:
        print_table(f"predictions after step {loaded.step}", ("file",), [(file,) for file in files])
