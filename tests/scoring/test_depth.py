"""Scores of depth maps on disk."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.scoring.files import write_npy, write_png
from ubertrain.errors import ConfigError, DataError
from ubertrain.scoring.depth import score_depth


def test_millimetres_and_metres_meet(tmp_path: Path) -> None:
    """PNGs are divided by their scale, which may differ from that of the truth; arrays are metres."""
    write_png(tmp_path / "t" / "a.png", [[1000, 2000, 0, 65535]], np.uint16)
    write_png(tmp_path / "t" / "b.png", [[4000, 4000, 4000, 4000]], np.uint16)
    write_npy(tmp_path / "p" / "a.npy", np.array([[1.5, 2.0, 9.0, 9.0]]))
    write_png(tmp_path / "p" / "b.png", np.full((1, 4), 256 * 4), np.uint16)
    score = score_depth(tmp_path / "p", tmp_path / "t", scale=256, truth_scale=1000)
    assert score.scores["AbsRel"] == pytest.approx(0.5 / 6)
    assert score.scores["AbsRel_image"] == pytest.approx((0.25 + 0) / 2)
    assert score.per_image["a"]["RMSE"] == pytest.approx(math.sqrt(0.25 / 2))
    assert "AbsRel_image" not in score.per_image["a"]


def test_a_prediction_of_nothing_is_counted(tmp_path: Path) -> None:
    """0 is no depth: the share is told, and the error is that of the nearest depth."""
    write_npy(tmp_path / "p" / "a.npy", np.array([[0.0, 2.0]]))
    write_npy(tmp_path / "t" / "a.npy", np.array([[2.0, 2.0]]))
    score = score_depth(tmp_path / "p", tmp_path / "t", valid=(1.0, 10.0))
    assert (score.scores["missing"], score.scores["AbsRel"]) == (0.5, 0.25)


def test_range_and_median_are_those_of_the_metric(tmp_path: Path) -> None:
    """Truth out of range does not count, and half the depth is right once medians agree."""
    truth = np.random.default_rng(0).uniform(1, 100, (20, 30))
    write_npy(tmp_path / "p" / "a.npy", truth / 2)
    write_npy(tmp_path / "t" / "a.npy", truth)
    assert score_depth(tmp_path / "p", tmp_path / "t", align="median").scores["AbsRel"] == pytest.approx(0, abs=1e-6)
    near = score_depth(tmp_path / "p", tmp_path / "t", valid=(1e-3, 50))
    assert near.scores["RMSE"] == pytest.approx(np.sqrt(np.mean((truth[truth < 50] / 2) ** 2)), rel=1e-5)


def test_an_image_without_readings_is_left_out(tmp_path: Path) -> None:
    """Also one whose readings are all out of range."""
    for name, depth in (("a", 1.0), ("b", 0.0), ("c", 200.0), ("d", np.nan)):
        write_npy(tmp_path / "p" / f"{name}.npy", np.ones((2, 2)))
        write_npy(tmp_path / "t" / f"{name}.npy", np.full((2, 2), depth))
    score = score_depth(tmp_path / "p", tmp_path / "t", valid=(1e-3, 80))
    assert set(score.skipped) == {"b", "c", "d"}
    assert score.images == 1


def test_what_is_predicted_where_nothing_counts_does_not_matter(tmp_path: Path) -> None:
    """Be it nan or infinity: in a sky of infinite truth, and beyond the range."""
    write_npy(tmp_path / "t" / "a.npy", np.array([[1.0, 2.0, np.inf, np.inf, 100.0]]))
    write_npy(tmp_path / "p" / "a.npy", np.array([[1.0, 2.0, np.inf, np.nan, np.nan]]))
    score = score_depth(tmp_path / "p", tmp_path / "t", valid=(1e-3, 80))
    assert (score.scores["RMSE"], score.scores["missing"]) == (0, 0)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.array([[1.0, np.nan, np.nan]]), r"p/a.npy: is nan or infinite at 1 of 2 known pixels; write 0"),
        (np.ones((1, 4)), r"p/a.npy: is 4 wide and 1 high, its truth .*t/a.npy is 3 wide"),
        (np.array([[1, 2, 0]], np.uint16), r"p/a.npy: holds uint16; a .npy is of metres, as fractions"),
        (np.ones((1, 3), complex), r"p/a.npy: holds complex128, where real numbers are expected"),
        (np.array([["1", "2", "0"]]), r"p/a.npy: holds <U1, where real numbers are expected"),
        (np.ones((2, 3, 4)), r"p/a.npy: has shape \(2, 3, 4\); expected \(any, any\)"),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, prediction: np.ndarray, message: str) -> None:
    """What is not a number where the truth is known, another size, another form; nan elsewhere does not matter."""
    write_npy(tmp_path / "t" / "a.npy", np.array([[1.0, 2.0, 0.0]]))
    write_npy(tmp_path / "p" / "a.npy", prediction)
    with pytest.raises(DataError, match=message):
        score_depth(tmp_path / "p", tmp_path / "t")


def test_8_bit_depth_is_refused(tmp_path: Path) -> None:
    """A picture of depth is no depth."""
    write_png(tmp_path / "p" / "a.png", [[1, 2]])
    write_png(tmp_path / "t" / "a.png", [[1, 2]], np.uint16)
    with pytest.raises(DataError, match=r"p/a.png: pixels of type L, where a 16-bit grey depth map is expected"):
        score_depth(tmp_path / "p", tmp_path / "t")


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_is_above_0(tmp_path: Path, scale: float) -> None:
    """Anything else would turn depth around or into nothing."""
    write_npy(tmp_path / "a.npy", np.ones((1, 1)))
    with pytest.raises(ConfigError, match="scale"):
        score_depth(tmp_path / "a.npy", tmp_path / "a.npy", scale=scale)
