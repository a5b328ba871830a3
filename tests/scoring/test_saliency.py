"""Scores of saliency maps on disk."""

from pathlib import Path

import numpy as np
import pytest

from tests.scoring.files import write_npy, write_png
from ubertrain.errors import DataError
from ubertrain.scoring.saliency import score_saliency

MASK = np.zeros((12, 10), np.uint8)
MASK[3:9, 2:7] = 255


def slow_max_f(maps: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """F with beta^2 = 0.3 of the averages over images of precision and recall, threshold by threshold."""
    best = 0.0
    for threshold in range(256):
        precisions, recalls = [], []
        for values, mask in zip(maps, masks, strict=True):
            marked, salient = values >= threshold, mask > 127
            hits = (marked & salient).sum()
            precisions.append(hits / marked.sum() if marked.any() else 0.0)
            recalls.append(hits / salient.sum())
        p, r = np.mean(precisions), np.mean(recalls)
        best = max(best, 1.3 * p * r / (0.3 * p + r) if p + r else 0.0)
    return best


def test_scores_are_those_of_a_slow_computation(tmp_path: Path) -> None:
    """Noise over two masks, as pictures."""
    rng = np.random.default_rng(0)
    masks = [MASK, np.roll(MASK, 2, axis=1)]
    maps = [np.clip(mask * 0.5 + rng.integers(0, 140, mask.shape), 0, 255).astype(np.uint8) for mask in masks]
    for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        write_png(tmp_path / "p" / f"{index}.png", values)
        write_png(tmp_path / "t" / f"{index}.png", mask)
    score = score_saliency(tmp_path / "p", tmp_path / "t")
    assert score.scores["maxF"] == pytest.approx(slow_max_f(maps, masks))
    errors = [np.abs(values / 255 - (mask > 127)).mean() for values, mask in zip(maps, masks, strict=True)]
    assert score.scores["MAE"] == pytest.approx(np.mean(errors))
    assert score.curve is not None
    assert [score.curve[0][key] for key in ("threshold", "recall")] == [0, 1]
    assert len(score.curve) == 256


def test_arrays_colours_and_masks_of_ones_are_the_same_maps(tmp_path: Path) -> None:
    """A map as .npy, grey or RGB, and a mask of 0 and 1, score alike."""
    values = np.random.default_rng(0).integers(0, 256, MASK.shape).astype(np.uint8)
    write_png(tmp_path / "mask.png", MASK)
    write_png(tmp_path / "ones.png", MASK // 255)
    expected = score_saliency(write_png(tmp_path / "grey.png", values), tmp_path / "mask.png").scores
    for path in (
        write_npy(tmp_path / "map.npy", values / 255),
        write_png(tmp_path / "rgb.png", np.stack([values] * 3, axis=-1)),
    ):
        assert score_saliency(path, tmp_path / "ones.png").scores == pytest.approx(expected)


def test_stretching_uses_the_whole_range(tmp_path: Path) -> None:
    """A faint map becomes a full one; a constant one stays."""
    write_png(tmp_path / "t.png", MASK)
    write_png(tmp_path / "p.png", MASK // 5 + 10)
    assert score_saliency(tmp_path / "p.png", tmp_path / "t.png").scores["MAE"] > 0.2
    assert score_saliency(tmp_path / "p.png", tmp_path / "t.png", stretch=True).scores["MAE"] == 0
    write_png(tmp_path / "p.png", np.full_like(MASK, 51))
    scores = score_saliency(tmp_path / "p.png", tmp_path / "t.png", stretch=True).scores
    assert scores["MAE"] == pytest.approx(0.2 + 0.6 * 0.25)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full(MASK.shape, np.nan), r"p.npy: is nan or infinite at 120 of 120"),
        (np.full(MASK.shape, 7.0), r"p.npy: .*numbers from 0 to 1.* holds 7"),
        (np.zeros((3, 4)), r"p.npy: is 4 wide and 3 high"),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, values: np.ndarray, message: str) -> None:
    """What is no number, logits instead of probabilities, another size."""
    write_png(tmp_path / "t.png", MASK)
    with pytest.raises(DataError, match=message):
        score_saliency(write_npy(tmp_path / "p.npy", values), tmp_path / "t.png")


def test_masks_of_ones_are_no_maps(tmp_path: Path) -> None:
    """Predictions of 0 and 1 in 8 bits are all but black; that is told instead of scored, unless maps are stretched."""
    write_png(tmp_path / "t.png", MASK)
    write_png(tmp_path / "p.png", MASK // 255)
    with pytest.raises(DataError, match=r"p.png: no pixel is brighter than 1 of 255; .*--stretch"):
        score_saliency(tmp_path / "p.png", tmp_path / "t.png")
    assert score_saliency(tmp_path / "p.png", tmp_path / "t.png", stretch=True).scores["MAE"] == 0


def test_a_photo_is_no_map(tmp_path: Path) -> None:
    """Colours are refused on both sides."""
    photo = np.random.default_rng(0).integers(0, 256, (*MASK.shape, 3))
    write_png(tmp_path / "p.png", photo)
    write_png(tmp_path / "t.png", MASK)
    with pytest.raises(DataError, match="p.png: shows colours"):
        score_saliency(tmp_path / "p.png", tmp_path / "t.png")
    with pytest.raises(DataError, match="p.png: has colours"):
        score_saliency(tmp_path / "t.png", tmp_path / "p.png")
