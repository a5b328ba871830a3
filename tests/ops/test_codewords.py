"""Codebooks of normals: spread evenly, clustered, read from files."""

from pathlib import Path

import numpy as np
import pytest

from ubertrain.errors import ConfigError, DataError
from ubertrain.ops.codewords import clustered_codewords, even_codewords, read_codewords


def _directions(count: int, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize("count", [20, 40, 100])
def test_even_codewords_are_unit_vectors_far_from_each_other(count: int) -> None:
    """No two are nearer than half the distance of as many discs that would fill the area."""
    words = even_codewords(count)
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1)
    cosines = words @ words.T - 2 * np.eye(count)
    ideal = np.sqrt(4 * np.pi * 0.6 / count)  # the side of a square of one codeword's area
    assert np.arccos(cosines.max()) > 0.5 * ideal
    assert (words[:, 2] < 0.2).all()


def test_clusters_are_found() -> None:
    """Normals scattered about six directions give back those directions."""
    centres = np.concatenate([np.eye(3), -np.eye(3)])
    scattered = centres.repeat(200, axis=0) + 0.1 * _directions(1200)
    words = clustered_codewords(scattered / np.linalg.norm(scattered, axis=1, keepdims=True), 6)
    assert ((words @ centres.T).max(axis=0) > 0.995).all()


def test_every_step_ends_where_lloyds_condition_holds() -> None:
    """Each codeword is the direction of the sum of the normals that are nearest to it."""
    points = _directions(500)
    words = clustered_codewords(points, 12, rounds=500)
    nearest = (points @ words.T).argmax(axis=1)
    for index, word in enumerate(words):
        total = points[nearest == index].sum(axis=0)
        np.testing.assert_allclose(word, total / np.linalg.norm(total), atol=1e-9)


def test_clusters_fit_better_than_even_codewords() -> None:
    """For normals that are not spread evenly: half the mean angle to the nearest one, or less."""
    rng = np.random.default_rng(0)
    points = rng.normal([0.0, -1.0, -1.0], [1.0, 0.2, 0.2], size=(2000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)

    def mean_angle(words: np.ndarray) -> float:
        return float(np.arccos((points @ words.T).max(axis=1).clip(-1, 1)).mean())

    assert mean_angle(clustered_codewords(points, 20)) < 0.5 * mean_angle(even_codewords(20))


def test_the_same_seed_gives_the_same_codewords() -> None:
    """Bit for bit; another seed need not."""
    points = _directions(300)
    assert np.array_equal(clustered_codewords(points, 9, seed=3), clustered_codewords(points, 9, seed=3))


@pytest.mark.parametrize("points", [_directions(5), _directions(5).repeat(10, axis=0), np.zeros((0, 3))])
def test_too_few_different_normals_are_refused(points: np.ndarray) -> None:
    """With how many there are."""
    with pytest.raises(ConfigError, match=r"6 codewords need as many different normals; there are [05]"):
        clustered_codewords(points, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones((4, 2)), r"a table \(n, 3\) of numbers; this is \(4, 2\)"),
        (np.ones((4, 3), dtype=int), r"this is \(4, 3\) of int"),
        (np.ones((4, 3)), "are unit vectors"),
        (np.full((4, 3), np.nan), "are unit vectors"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, content: np.ndarray, message: str) -> None:
    """The error names the file."""
    np.save(tmp_path / "words.npy", content)
    with pytest.raises(DataError, match=f"words.npy: codewords are.*{message}|words.npy: codewords {message}"):
        read_codewords(tmp_path / "words.npy")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Rather than a traceback of numpy's."""
    (tmp_path / "words.npy").write_bytes(b"no numpy")
    with pytest.raises(DataError, match="words.npy: cannot be read"):
        read_codewords(tmp_path / "words.npy")
