"""`ubertrain score boundaries` and `semantic_boundaries`."""

from functools import partial
from typing import Annotated, Literal

import typer

from ubertrain.cli.options import Json
from ubertrain.cli.score_report import (
    CLASSES,
    Curve,
    Only,
    PerImage,
    Pred,
    PredEnding,
    SkipMissing,
    Truth,
    TruthEnding,
    Workers,
    naming,
    report,
)

Leniency = Literal["sbd", "none"]

Thresholds = Annotated[int, typer.Option("--thresholds", min=1, help="How many, evenly spaced between 0 and 1.")]
Nms = Annotated[
    bool, typer.Option("--nms", help="Reduce predictions to their ridges first, as what networks put out needs it.")
]
Thin = Annotated[bool, typer.Option("--thin/--no-thin", help="Thin what each threshold leaves.")]


def boundaries(
    pred: Pred,
    truth: Truth,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", min=0, max=1, help="Largest distance of a match over the diagonal: BSDS500 0.0075, NYUD 0.011."
        ),
    ] = 0.0075,
    thresholds: Thresholds = 99,
    nms: Nms = False,
    thin: Thin = True,
    pred_ending: PredEnding = None,
    truth_ending: TruthEnding = None,
    skip_missing: SkipMissing = False,
    only: Only = None,
    workers: Workers = 0,
    per_image: PerImage = None,
    curve: Curve = None,
    json: Json = False,
) -> None:
    """Score boundary maps as BSDS500's benchmark does: ODS, OIS and AP, by one-to-one matching.

    Files are grey pictures from black to white, .npy from 0 to 1, or .mat; the truth is BSDS500's .mat, pictures whose lines
    are white, or .npy of 0, 1 and 255 = unknown.
    """
    from ubertrain.scoring.boundaries import score_boundaries

    run = partial(
        score_boundaries, pred, truth, tolerance=tolerance, thresholds=thresholds, nms=nms, thin=thin,
        naming=naming(pred_ending, truth_ending, skip_missing, only), workers=workers,
    )  # fmt: skip
    report(run, json=json, per_image=per_image, curve=curve)


def semantic_boundaries(
    pred: Pred,
    truth: Truth,
    classes: Annotated[str, typer.Option("--classes", metavar="CLASSES", help=f"{CLASSES} Default: VOC's 20.")] = "sbd",
    instances: Annotated[
        bool, typer.Option("--instances", help="Boundaries between objects of one class count, too (SBD's inst).")
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", min=0, max=1, help="Largest distance of a match over the diagonal: SBD 0.02, Cityscapes 0.0035."
        ),
    ] = 0.02,
    thresholds: Thresholds = 99,
    nms: Nms = False,
    thin: Thin = True,
    leniency: Annotated[
        Leniency, typer.Option("--leniency", help="sbd: predictions inside of objects are excused; none: each one counts.")
    ] = "sbd",
    pred_ending: PredEnding = None,
    truth_ending: TruthEnding = None,
    skip_missing: SkipMissing = False,
    only: Only = None,
    workers: Workers = 0,
    per_image: PerImage = None,
    curve: Curve = None,
    json: Json = False,
) -> None:
    """Score boundaries class by class as SBD's benchmark does.

    PRED: folders of a class each (class_001 to class_020, or names) with a map per image, or .npy of (classes, height, width).
    TRUTH: SBD's folder with cls and inst, or .npy of 0, 1 = boundary, 2 = inside and 255 = unknown.
    """
    from ubertrain.scoring.class_lists import object_names
    from ubertrain.scoring.semantic_boundaries import score_semantic_boundaries

    run = partial(
        score_semantic_boundaries, pred, truth, classes=object_names(classes), instances=instances, tolerance=tolerance,
        thresholds=thresholds, nms=nms, thin=thin, leniency=leniency,
        naming=naming(pred_ending, truth_ending, skip_missing, only), workers=workers,
    )  # fmt: skip
    report(run, json=json, per_image=per_image, curve=curve)
