"""`ubertrain score`."""

import math
from functools import partial
from typing import Annotated, Literal

import typer

from ubertrain.cli.options import Json
from ubertrain.cli.score_boundaries import boundaries, semantic_boundaries
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

app = typer.Typer(help="Score predictions on disk, whoever made them, by the protocols of each field.", no_args_is_help=True)

# Written out here because their modules load torch; tests/cli/test_score.py compares them.
Absent = Literal["left_out", "if_predicted", "zero"]
Align = Literal["none", "median"]
Crop = Literal["none", "garg", "eigen", "nyu"]
Encoding = Literal["ids", "ids_from_1", "voc_colours", "cityscapes"]
Layout = Literal["xyxy", "xywh"]
Pixels = Literal["edges", "from_0", "from_1"]
Protocol = Literal["coco", "voc07", "voc12"]

_ENCODINGS = "ids, ids_from_1 (0 = unknown), voc_colours (RGB), or cityscapes (label ids)."
_PIXELS = "What coordinates mean: edges between pixels, or pixels from_0 or from_1 with both ends in the box."

PredEncoding = Annotated[Encoding, typer.Option("--pred-encoding", help=f"How class maps are stored: {_ENCODINGS}")]
TruthEncoding = Annotated[
    Encoding | None, typer.Option("--truth-encoding", help="The same for the truth. Default: as --pred-encoding.")
]
Ignore = Annotated[
    list[int] | None,
    typer.Option(
        "--ignore",
        metavar="ID",
        help="A stored id that means unknown, may be given several times. Default: 255, or 65535 where a class has 255.",
    ),
]
AbsentClass = Annotated[
    Absent, typer.Option("--absent", help="What a class counts in the mean IoU that the truth never shows; all three are told.")
]


@app.command("boxes")
def boxes(
    pred: Pred,
    truth: Truth,
    protocol: Annotated[
        Protocol,
        typer.Option("--protocol", help="COCO's figures, or VOC's AP: 11 recalls (voc07), the whole curve (voc12)."),
    ] = "coco",
    iou: Annotated[float, typer.Option("--iou", min=0, max=1, help="The least overlap of a right detection, for VOC.")] = 0.5,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="CLASSES", help=f"{CLASSES} Default: as the truth says.")
    ] = None,
    layout: Annotated[Layout, typer.Option("--layout", help="Of boxes in text files: corners, or width and height.")] = "xyxy",
    truth_layout: Annotated[Layout, typer.Option("--truth-layout", help="The same for the truth.")] = "xyxy",
    pixels: Annotated[
        Pixels | None, typer.Option("--pixels", help=f"{_PIXELS} Default: from_1 in VOC's files per class, else edges.")
    ] = None,
    truth_pixels: Annotated[
        Pixels | None, typer.Option("--truth-pixels", help="The same for the truth. Default: from_1 in VOC's XML, else edges.")
    ] = None,
    need_detections: Annotated[
        bool, typer.Option("--need-detections", help="Stop at an image without any detection instead of taking it as empty.")
    ] = False,
    only: Only = None,
    json: Json = False,
) -> None:
    """Score detections.

    PRED: a JSON of COCO's results, a folder of comp4_det_SET_CLASS.txt, or a folder with a text file for each image, whose
    lines are "class score x0 y0 x1 y1". TRUTH: COCO's instances JSON, VOC's folder of XML, or a folder of text files with lines
    "class x0 y0 x1 y1". Classes are names, or numbers from 0.
    """
    from ubertrain.scoring.boxes import score_boxes
    from ubertrain.scoring.class_lists import object_names

    run = partial(
        score_boxes, pred, truth, protocol=protocol, iou=iou, classes=object_names(classes) if classes else None, layout=layout,
        pixels=pixels, truth_layout=truth_layout, truth_pixels=truth_pixels, missing="error" if need_detections else "empty",
        only=only,
    )  # fmt: skip
    report(run, json=json)


@app.command("segmentation")
def segmentation(
    pred: Pred,
    truth: Truth,
    classes: Annotated[str, typer.Option("--classes", metavar="CLASSES", help=CLASSES)],
    pred_encoding: PredEncoding = "ids",
    truth_encoding: TruthEncoding = None,
    ignore: Ignore = None,
    absent: AbsentClass = "left_out",
    pred_ending: PredEnding = None,
    truth_ending: TruthEnding = None,
    skip_missing: SkipMissing = False,
    only: Only = None,
    workers: Workers = 1,
    per_image: PerImage = None,
    json: Json = False,
) -> None:
    """Score class maps: mean IoU, accuracies, frequency-weighted IoU, and each class.

    Files are grey or palette PNG (8 or 16 bits), RGB PNG in VOC's colours, or .npy.
    """
    from ubertrain.scoring.class_lists import class_names
    from ubertrain.scoring.segmentation import score_segmentation

    run = partial(
        score_segmentation, pred, truth, classes=class_names(classes), encoding=pred_encoding, truth_encoding=truth_encoding,
        ignore=ignore or None, absent=absent, naming=naming(pred_ending, truth_ending, skip_missing, only), workers=workers,
    )  # fmt: skip
    report(run, json=json, per_image=per_image)


@app.command("parts")
def parts(
    pred: Pred,
    truth: Truth,
    classes: Annotated[str, typer.Option("--classes", metavar="CLASSES", help=CLASSES)] = "person_part",
    background: Annotated[int, typer.Option("--background", help="The id that is no part; it is scored as a class, too.")] = 0,
    pred_encoding: PredEncoding = "ids",
    truth_encoding: TruthEncoding = None,
    ignore: Ignore = None,
    absent: AbsentClass = "left_out",
    pred_ending: PredEnding = None,
    truth_ending: TruthEnding = None,
    skip_missing: SkipMissing = False,
    only: Only = None,
    workers: Workers = 1,
    per_image: PerImage = None,
    json: Json = False,
) -> None:
    """Score maps of parts as class maps, over the images whose truth shows a part."""
    from ubertrain.scoring.class_lists import class_names
    from ubertrain.scoring.parts import score_parts

    run = partial(
        score_parts, pred, truth, classes=class_names(classes), background=background, encoding=pred_encoding,
        truth_encoding=truth_encoding, ignore=ignore or None, absent=absent,
        naming=naming(pred_ending, truth_ending, skip_missing, only), workers=workers,
    )  # fmt: skip
    report(run, json=json, per_image=per_image)


@app.command("normals")
def normals(
    pred: Pred,
    truth: Truth,
    axes: Annotated[
        str, typer.Option("--axes", help="The directions in which the three stored numbers grow, e.g. 'right up back'.")
    ] = "right down forward",
    truth_axes: Annotated[str | None, typer.Option("--truth-axes", help="The same for the truth. Default: as --axes.")] = None,
    pred_ending: PredEnding = None,
    truth_ending: TruthEnding = None,
    skip_missing: SkipMissing = False,
    only: Only = None,
    workers: Workers = 1,
    per_image: PerImage = None,
    json: Json = False,
) -> None:
    """Score surface normals by their angles, pooled over the pixels whose truth is known.

    Files are RGB PNG of 8 or 16 bits that hold (n + 1) / 2, black or mid grey = unknown, or .npy with three channels, 0 0 0 =
    unknown.
    """
    from ubertrain.scoring.normals import score_normals

    names = naming(pred_ending, truth_ending, skip_missing, only)
    run = partial(score_normals, pred, truth, axes=axes, truth_axes=truth_axes, naming=names, workers=workers)
    report(run, json=json, per_image=per_image)


@app.command("depth")
def depth(
    pred: Pred,
    truth: Truth,
    scale: Annotated[
        float, typer.Option("--scale", help="Units per metre in 16-bit PNGs: 1000 = millimetres, 256 = KITTI, 5000 = TUM.")
    ] = 1000.0,
    truth_scale: Annotated[float | None, typer.Option("--truth-scale", help="The same for the truth; as --scale.")] = None,
    nearest: Annotated[float, typer.Option("--min", help="Truth nearer than this, in metres, does not count.")] = 1e-3,
    farthest: Annotated[float, typer.Option("--max", help="Nor does truth farther than this.")] = math.inf,
    crop: Annotated[Crop, typer.Option("--crop", help="The part of the image that counts.")] = "none",
    align: Annotated[
        Align, typer.Option("--align", help="median: multiply each prediction so that its median is the truth's.")
    ] = "none",
    pred_ending: PredEnding = None,
    truth_ending: TruthEnding = None,
    skip_missing: SkipMissing = False,
    only: Only = None,
    workers: Workers = 1,
    per_image: PerImage = None,
    json: Json = False,
) -> None:
    """Score depth maps, pooled over pixels and averaged over images.

    Files are 16-bit grey PNG, 0 and 65535 = no reading, or .npy of metres.
    """
    from ubertrain.scoring.depth import score_depth

    run = partial(
        score_depth, pred, truth, scale=scale, truth_scale=truth_scale, valid=(nearest, farthest), crop=crop, align=align,
        naming=naming(pred_ending, truth_ending, skip_missing, only), workers=workers,
    )  # fmt: skip
    report(run, json=json, per_image=per_image)


@app.command("saliency")
def saliency(
    pred: Pred,
    truth: Truth,
    stretch: Annotated[
        bool, typer.Option("--stretch", help="Stretch each map from its least value at 0 to its greatest at 1 first.")
    ] = False,
    pred_ending: PredEnding = None,
    truth_ending: TruthEnding = None,
    skip_missing: SkipMissing = False,
    only: Only = None,
    workers: Workers = 1,
    per_image: PerImage = None,
    curve: Curve = None,
    json: Json = False,
) -> None:
    """Score saliency maps: F-measures by both conventions, absolute error, structure measure.

    Files are grey pictures from black to white, or .npy from 0 to 1; true masks are black and white.
    """
    from ubertrain.scoring.saliency import score_saliency

    names = naming(pred_ending, truth_ending, skip_missing, only)
    run = partial(score_saliency, pred, truth, stretch=stretch, naming=names, workers=workers)
    report(run, json=json, per_image=per_image, curve=curve)


app.command("boundaries")(boundaries)
app.command("semantic_boundaries")(semantic_boundaries)
