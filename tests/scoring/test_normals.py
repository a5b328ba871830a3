"""Scores of surface normals on disk."""

from pathlib import Path

import numpy as np
import pytest

from tests.scoring.files import write_npy, write_png
from ubertrain.errors import ConfigError, DataError
from ubertrain.scoring.normals import score_normals

TOWARDS, RIGHT, UP = [0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]


def stored(vectors: object, most: int = 255) -> np.ndarray:
    """(n + 1) / 2 of vectors, in steps."""
    return np.round((np.asarray(vectors) + 1) / 2 * most)


def test_angles_are_in_degrees(tmp_path: Path) -> None:
    """Right angles and equal directions, whatever their lengths, as pictures and as arrays with channels first or last."""
    write_npy(tmp_path / "t" / "a.npy", np.array([[TOWARDS, TOWARDS, RIGHT, [0, 0, 0]]]))
    for values in (
        np.array([[TOWARDS, RIGHT, [2, 0, 0], RIGHT]]),
        np.array([[TOWARDS, RIGHT, [2, 0, 0], UP]]).transpose(2, 0, 1),
    ):
        write_npy(tmp_path / "p" / "a.npy", values)
        scores = score_normals(tmp_path / "p", tmp_path / "t").scores
        assert scores["mean"] == pytest.approx(30)
        assert scores["within_11.25"] == pytest.approx(2 / 3)
    (tmp_path / "p" / "a.npy").unlink()
    write_png(tmp_path / "p" / "a.png", stored([[TOWARDS, RIGHT, RIGHT, RIGHT]]))
    assert score_normals(tmp_path / "p", tmp_path / "t").scores["mean"] == pytest.approx(30, abs=0.5)


def test_axes_are_declared_for_each_side(tmp_path: Path) -> None:
    """OpenGL's normals and those of NYUv2 by another name are the same once the words say so."""
    write_npy(tmp_path / "gl.npy", np.array([[[0.6, 0.0, 0.8]]]))
    write_npy(tmp_path / "nyu.npy", np.array([[[0.6, -0.8, 0.0]]]))
    scores = score_normals(
        tmp_path / "gl.npy", tmp_path / "nyu.npy", axes="right up back", truth_axes="right forward up"
    ).scores
    assert scores["mean"] == pytest.approx(0, abs=1e-4)
    assert score_normals(tmp_path / "gl.npy", tmp_path / "nyu.npy").scores["mean"] > 60


def test_unknown_and_missing_are_told_apart(tmp_path: Path) -> None:
    """Black truth counts nothing; a black prediction is off by 90 degrees and counted."""
    write_png(tmp_path / "t" / "a.png", [[[0, 0, 0], *stored([TOWARDS, TOWARDS])]])
    write_png(tmp_path / "t" / "b.png", [[[0, 0, 0]] * 3])
    for name in "ab":
        write_png(tmp_path / "p" / f"{name}.png", [[*stored([TOWARDS, TOWARDS]), [0, 0, 0]]])
    score = score_normals(tmp_path / "p", tmp_path / "t")
    assert score.scores["mean"] == pytest.approx(45)
    assert score.scores["missing"] == 0.5
    assert score.skipped == {"b": "no known pixel in its truth"}


def test_nan_is_an_error_where_the_truth_is_known(tmp_path: Path) -> None:
    """The message names the file and the number of pixels."""
    write_npy(tmp_path / "t" / "a.npy", np.array([[TOWARDS, TOWARDS, [np.nan] * 3]]))
    write_npy(tmp_path / "p" / "a.npy", np.array([[TOWARDS, TOWARDS, [np.nan] * 3]]))
    assert score_normals(tmp_path / "p", tmp_path / "t").scores["mean"] == pytest.approx(0, abs=1e-4)
    write_npy(tmp_path / "p" / "a.npy", np.array([[TOWARDS, [np.inf, -np.inf, 0], TOWARDS]]))
    with pytest.raises(DataError, match=r"p/a.npy: is nan or infinite at 1 of 2 known pixels; write 0 0 0"):
        score_normals(tmp_path / "p", tmp_path / "t")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((1, 1, 3), 128, np.uint8), "holds uint8; a .npy is of the vectors themselves"),
        (np.ones((1, 1, 4)), r"has shape \(1, 1, 4\); expected \(height, width, 3\)"),
        (np.ones((1, 4, 2)), r"has shape \(1, 4, 2\); expected"),
    ],
)
def test_arrays_that_are_no_vectors_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    """Pictures saved as arrays, which would all point the same way, and other numbers of channels, on either side."""
    true = write_npy(tmp_path / "t.npy", np.array([[TOWARDS]]))
    wrong = write_npy(tmp_path / "p.npy", values)
    for files in ((wrong, true), (true, wrong)):
        with pytest.raises(DataError, match=rf"p.npy: {message}"):
            score_normals(*files)


def test_axes_that_are_none_are_an_error(tmp_path: Path) -> None:
    """Before any file is read."""
    with pytest.raises(ConfigError, match="axes of normals are three words"):
        score_normals(tmp_path, tmp_path, axes="x y z")
