"""`ubertrain codebook`."""

from pathlib import Path
from typing import Annotated

import typer

from ubertrain.cli.options import ConfigFile, Overrides


def codebook(
    config: ConfigFile,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The .npy file to write.")] = Path("codebook.npy"),
    codewords: Annotated[int, typer.Option("--codewords", min=4, help="How many directions; 20 and 40 are usual.")] = 40,
    label: Annotated[
        str | None, typer.Option("--label", help="The label with the normals; left out: every label of that kind.")
    ] = None,
) -> None:
    """Choose codewords for `normals: {coding: triangular, codebook: FILE}` by k-means over the normals of the training sets."""
    from ubertrain.cli.output import stderr
    from ubertrain.training.codebook import make_codebook, write_codebook
    from ubertrain.training.config import load

    words = make_codebook(load(config, overrides or ()), codewords, label=label)
    stderr().print(f"wrote {len(words)} codewords to {write_codebook(words, out)}", markup=False)
