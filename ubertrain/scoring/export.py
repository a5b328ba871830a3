"""Parts of a score as files: the scores of single images, and a curve."""

import csv
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from ubertrain.errors import ConfigError
from ubertrain.scoring.score import Score

PICTURES = (".png", ".pdf", ".svg")


def write_per_image(score: Score, file: Path) -> Path:
    """Write a table with a line for each image, as .csv.

    Raises:
        ConfigError: single images have no scores by this protocol.
    """
    if not score.per_image:
        raise ConfigError(f"{file}: there are no scores of single images to write; this protocol is about the whole set")
    rows = [{"image": name, **values} for name, values in score.per_image.items()]
    return _write_csv(rows, file)


def write_curve(score: Score, file: Path) -> Path:
    """Write the points of the curve as .csv, or draw precision over recall as .png, .pdf or .svg.

    Raises:
        ConfigError: there is no curve, another ending, or matplotlib is not installed.
    """
    if score.curve is None:
        raise ConfigError(f"{file}: this protocol has no curve")
    if file.suffix == ".csv":
        return _write_csv(score.curve, file)
    if file.suffix not in PICTURES:
        raise ConfigError(f"{file}: a curve is written as .csv, or drawn as {', '.join(PICTURES)}")
    if find_spec("matplotlib") is None:
        raise ConfigError("a picture of a curve needs matplotlib; install it with: pip install 'ubertrain[plot]'")
    return _draw(score, score.curve, file)


def _write_csv(rows: Sequence[Mapping[str, object]], file: Path) -> Path:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file


def _draw(score: Score, curve: Sequence[Mapping[str, float]], file: Path) -> Path:
    """Precision over recall, with the lines along which F is the same."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for f in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        recall = [f / 2 + 1e-3 + (1 - f / 2 - 1e-3) * step / 200 for step in range(201)]
        precision = [f * r / (2 * r - f) for r in recall]
        axes.plot(recall, precision, color="#c9d8c9", linewidth=0.8, zorder=1)
        axes.annotate(f"F = {f:g}", (1.005, f / (2 - f)), fontsize=7, color="#7a947a", annotation_clip=False, va="center")
    axes.plot(
        [point["recall"] for point in curve], [point["precision"] for point in curve], color="#1f5fa8", linewidth=2, marker="."
    )
    (name, value), *_ = score.scores.items()
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title=f"{name} {value:.4f}, {score.images} images")
    figure.savefig(file)
    return file
