"""The fully connected CRF: how near it is to the exact form and to pydensecrf2, how fast, how large, and what it is good for.

    UBERTRAIN_DATA=folder python bench/crf.py

Four tables. (1) On 64x64 crops of photographs, against mean field with every pair of pixels written out. (2) On a photograph
of 500x375 with 21 classes, against pydensecrf2 (extra `crf_bench`, compiled from its sources; left out where it is not
installed): one thread each, taking turns in one process, medians of times and of the ratios within a round. (3) Bytes at
several sizes of that photograph. (4) Mean IoU of masks whose labels are known at every n-th pixel only, with the default
parameters, before and after, also drawn in crf.png; some of them are in crf-pictures.png, which holds photographs and stays
out of git. Without UBERTRAIN_DATA, (2) and (3) are of a rendered picture and the others are left out.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from degraded import Picture, classes_of, degraded, folders, mean_iou, pictures, rendered, sharpened
from figures import gains, masks
from reporting import mib, parser, save, show
from rich.table import Table
from torch import Tensor

import ubertrain as ut
from ubertrain.ops import mean_field
from ubertrain.ops.crf import DenseCRF
from ubertrain.ops.crf_exact import exact_kernels, exact_mean_field

CLASSES = 21


def vague(classes: int, height: int, width: int) -> Tensor:
    """Logits that decide little anywhere: smooth noise, harder to agree on than any mask."""
    coarse = torch.randn(1, classes, 12, 16, generator=torch.Generator().manual_seed(0)) * 3
    return F.interpolate(coarse, size=(height, width), mode="bilinear")


def busy_crop(picture: Picture, random: np.random.Generator, side: int = 64) -> Picture:
    """Of some random crops the one that shows most classes."""
    corners = [(random.integers(0, picture.mask.shape[0] - side), random.integers(0, picture.mask.shape[1] - side))
               for _ in range(20)]  # fmt: skip
    return max((picture.crop(int(top), int(left), side) for top, left in corners), key=lambda crop: len(crop.mask.unique()))


def agreement(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Of log-marginals: the part of pixels with the same label, and the mean absolute difference of marginals."""
    return float((a.argmax(dim=1) == b.argmax(dim=1)).float().mean()), float((a.exp() - b.exp()).abs().mean())


def against_exact(root: Path, count: int) -> list[dict[str, Any]]:
    """A row per kind of unaries, over crops of two data sets."""
    random = np.random.default_rng(0)
    crops = [busy_crop(picture, random) for name in ("COCO", "clothing") for picture in pictures(root, name, count)]
    crops = [crop for crop in crops if len(classes_of(crop)[0]) > 1]
    found: dict[str, list[tuple[float, float]]] = {}
    for crop in crops:
        ids, mask = classes_of(crop)
        module = DenseCRF(len(ids))
        kernels = exact_kernels(crop.image, module.widths)
        for step in (4, 8):
            logits = degraded(mask, len(ids), step)
            exact = exact_mean_field(logits, kernels, module.weights)
            found.setdefault(f"labels of every {step}th pixel", []).append(agreement(module(logits, crop.image), exact))
    return [
        {
            "unaries": kind,
            "crops": len(pairs),
            "same_labels": statistics.mean(same for same, _ in pairs),
            "worst_same_labels": min(same for same, _ in pairs),
            "marginals_error": statistics.mean(error for _, error in pairs),
            "worst_marginals_error": max(error for _, error in pairs),
        }
        for kind, pairs in found.items()
    ]


def pydensecrf(module: DenseCRF, logits: Tensor, image: Tensor) -> Callable[[], Tensor] | None:
    """The same inference by pydensecrf2, from arrays to log-marginals; None where it is not installed."""
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError:
        return None
    _, classes, height, width = logits.shape
    xy, rgb, narrow = module.widths
    appearance, smoothness = module.weights.tolist()
    picture = np.ascontiguousarray(image[0].permute(1, 2, 0).byte().numpy())

    def run() -> Tensor:
        other = DenseCRF2D(width, height, classes)
        other.setUnaryEnergy(np.ascontiguousarray(-logits[0].log_softmax(dim=0).flatten(1).numpy()))
        other.addPairwiseGaussian(sxy=narrow, compat=smoothness)
        other.addPairwiseBilateral(sxy=xy, srgb=rgb, rgbim=picture, compat=appearance)
        return torch.from_numpy(np.array(other.inference(module.iterations))).view(logits.shape).log()

    return run


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def against_pydensecrf(picture: Picture, rounds: int) -> list[dict[str, Any]]:
    """A row per kind of unaries and width of the smoothness kernel."""
    rows = []
    _, mask = classes_of(picture)
    kinds = {"vague": vague(CLASSES, *mask.shape), "labels of every 16th pixel": degraded(mask, CLASSES, 16)}
    for kind, width in (("vague", 1.0), ("vague", 3.0), ("labels of every 16th pixel", 1.0)):
        logits = kinds[kind]
        module = DenseCRF(CLASSES, smoothness_xy=width).requires_grad_(False)
        other = pydensecrf(module, logits, picture.image)
        seconds, theirs = [], []
        result, peer = module(logits, picture.image), other() if other else None
        for _ in range(rounds):
            seconds.append(timed(lambda module=module, logits=logits: module(logits, picture.image))[0])
            theirs += [timed(other)[0]] if other else []
        row = {"unaries": kind, "smoothness_xy": width, "seconds": statistics.median(seconds)}
        if peer is not None:
            same, error = agreement(result, peer)
            row |= {"same_labels": same, "marginals_error": error, "pydensecrf_seconds": statistics.median(theirs)}
            row["time_ratio"] = statistics.median(a / b for a, b in zip(seconds, theirs, strict=True))
        rows.append(row)
    return rows


def memory(picture: Picture, scales: tuple[float, ...]) -> list[dict[str, Any]]:
    """A row per size: bytes that the operators really hold at their peak, beside their inputs."""
    rows = []
    for scale in scales:
        image = F.interpolate(picture.image, scale_factor=scale, mode="bilinear", antialias=True).clamp(0, 255)
        logits = vague(CLASSES, *image.shape[-2:])
        module = DenseCRF(CLASSES).requires_grad_(False)
        fixed = (logits, image, module.weights, None, module.widths, module.iterations, True)
        with ut.LiveBytes() as inference:
            mean_field.forward(*fixed, 0)
        with ut.LiveBytes() as training:
            result, kept = mean_field.forward(*fixed, 4)
        with ut.LiveBytes() as back:
            mean_field.backward(result, result, kept, *fixed, 4)
        pixels = image.shape[-2] * image.shape[-1]
        rows.append({
            "size": f"{image.shape[-1]}x{image.shape[-2]}x{CLASSES}",
            "logits_bytes": logits.nbytes,
            "inference_bytes": inference.peak,
            "inference_bytes_per_pixel": inference.peak / pixels,
            "training_forward_bytes": training.peak,
            "kept_bytes": kept.nbytes,
            "backward_bytes": back.peak,
        })  # fmt: skip
    return rows


def improvement(root: Path, count: int) -> tuple[list[dict[str, Any]], list[tuple[Picture, Tensor, Tensor]]]:
    """A row per data set and step, and pictures with their labels before and after."""
    rows, shown = [], []
    for name in folders(root):
        chosen = list(pictures(root, name, count))
        for step in (8, 16, 32):
            results = [(picture, *sharpened(picture, step)) for picture in chosen]
            before, after = (mean_iou((result[0].mask, result[which]) for result in results) for which in (1, 2))
            rows.append({"data": name, "images": len(chosen), "step": step, "before": before, "after": after})
            shown += results[:1] if step == 16 else []
    return rows, shown


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    """A column per key: bytes as MiB, other numbers with digits enough."""
    made = Table(title=title)
    for key in rows[0]:
        made.add_column(
            key.replace("_", " ").replace("bytes", "MiB") if key.endswith("_bytes") else key.replace("_", " "), justify="right"
        )
    for row in rows:
        made.add_row(*(mib(value) if key.endswith("_bytes") else f"{value:.4g}" if isinstance(value, float) else str(value)
                       for key, value in row.items()))  # fmt: skip
    return made


def main() -> None:
    """Measure, print, and write crf.json, crf.png and crf-pictures.png."""
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(1)
    count, rounds = (1, 1) if arguments.quick else (10, 5)
    root = Path(os.environ["UBERTRAIN_DATA"]) if os.environ.get("UBERTRAIN_DATA") else None
    picture = rendered(60, 80) if arguments.quick else rendered()
    results: dict[str, list[dict[str, Any]]] = {}
    if root and not arguments.quick:
        picture = next(found for found in pictures(root, "VOC 2012", 100) if found.mask.shape == (375, 500))
    size = f"{picture.mask.shape[1]}x{picture.mask.shape[0]}x{CLASSES}"
    with torch.no_grad():
        results[f"pydensecrf2, {picture.name}, {size}"] = against_pydensecrf(picture, rounds)
        results[f"bytes, {picture.name}"] = memory(picture, (0.25, 0.5, 1.0) if arguments.quick else (0.25, 0.5, 1.0, 2.0))
        if root:
            results["exact form, 64x64"] = against_exact(root, count)
            results["mIoU of degraded masks"], shown = improvement(root, max(1, count * 6 // 10))
            arguments.out.mkdir(parents=True, exist_ok=True)
            gains(arguments.out / "crf.png", results["mIoU of degraded masks"])
            masks(arguments.out / "crf-pictures.png", shown)
    report = save(arguments.out, "crf", {key: {"rows": rows} for key, rows in results.items()})
    show(report, [table(key, rows) for key, rows in results.items()], as_json=arguments.json)


if __name__ == "__main__":
    main()
