"""Triangular coding against brute force: all triangles, tried one by one in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ubertrain.errors import ConfigError
from ubertrain.ops.codewords import clustered_codewords, even_codewords
from ubertrain.ops.triangular_code import TriangularCode

pytest.importorskip("scipy")


def _visible(count: int) -> Tensor:
    """Unit vectors (1, 3, 1, count) with z <= 0."""
    x, y, z = torch.randn(3, count, dtype=torch.float64)
    return F.normalize(torch.stack([x, y, -z.abs()]), dim=0)[None, :, None]


def _degrees(a: Tensor, b: Tensor) -> Tensor:
    apart, together = (a - b).norm(dim=1), (a + b).norm(dim=1)
    return torch.rad2deg(2 * torch.atan2(apart, together))


def _shares(code: TriangularCode, words: Tensor, weights: Tensor) -> Tensor:
    """The weights as a table over all codewords."""
    rows, _, height, width = weights.shape
    return torch.zeros(rows, len(code.words), height, width, dtype=weights.dtype).scatter(1, words, weights)


def test_triangles_are_delaunay() -> None:
    """No codeword lies within the circle through the corners of any triangle."""
    code = TriangularCode(even_codewords(40))
    for triangle in code.triangles:
        a, b, c = code.words[triangle]
        normal = np.cross(b - a, c - a)
        sides = (code.words - a) @ normal
        assert (np.delete(sides, triangle) < 0).all() or (np.delete(sides, triangle) > 0).all()


@pytest.mark.parametrize("count", [20, 40])
def test_codes_equal_the_weights_of_the_triangle_that_holds_the_direction(count: int) -> None:
    """Found by solving for the weights of every triangle; exactly one has none that is negative."""
    code, normals = TriangularCode(even_codewords(count)), _visible(60)
    words, weights = code.encode(normals)
    for place, normal in enumerate(normals[0, :, 0].T.numpy()):
        solved = np.linalg.solve(
            code.words[code.triangles].transpose(0, 2, 1), np.broadcast_to(normal[:, None], (len(code.triangles), 3, 1))
        )
        inside = np.flatnonzero((solved[..., 0] > 1e-9).all(axis=1))
        if len(inside) != 1:  # on an edge, or on the rim
            continue
        expected = solved[inside[0], :, 0] / solved[inside[0]].sum()
        assert words[0, :, 0, place].tolist() == code.triangles[inside[0]].tolist()
        np.testing.assert_allclose(weights[0, :, 0, place], expected, atol=1e-9)


@pytest.mark.parametrize(("count", "coded"), [(20, 0.98), (40, 1.0)])
def test_visible_directions_come_back(count: int, coded: float) -> None:
    """With the default codewords; at the very outline of a sphere 20 leave a few to the rim."""
    code, normals = TriangularCode(even_codewords(count)), _visible(20000)
    errors = _degrees(code.decode(_shares(code, *code.encode(normals))), normals)
    assert (errors < 1e-4).double().mean() >= coded
    assert errors.max() < 15


def test_codewords_of_a_few_surfaces_code_what_lies_between_and_the_nearest_otherwise() -> None:
    """Clustered codewords leave most of the sphere open: a direction outside is coded by the rim, never across the opening."""
    normals = _visible(5000)[..., :2500]
    words = clustered_codewords(normals[0, :, 0].T.numpy(), 20)
    code = TriangularCode(words)
    corners = code.words[code.triangles]
    assert (np.einsum("tci,tdi->tcd", corners, corners) > math.cos(math.radians(140))).all()
    errors = _degrees(code.decode(_shares(code, *code.encode(normals))), normals)
    nearest = torch.rad2deg(torch.acos((normals[0, :, 0].T @ torch.tensor(words).T).max(dim=1).values.clamp(-1, 1)))
    assert errors.median() < 1e-3
    assert errors.mean() < 0.5 * nearest.mean()


def test_a_codeword_is_its_own_code() -> None:
    """Weight 1, and decoded exactly."""
    code = TriangularCode(even_codewords(20))
    words, weights = code.encode(torch.tensor(code.words).T[None, :, None])
    assert weights.max(dim=1).values.min() > 1 - 1e-9
    assert words.gather(1, weights.argmax(dim=1, keepdim=True)).flatten().tolist() == list(range(20))


def test_the_triangle_with_the_largest_share_is_decoded() -> None:
    """Against trying all of them; what other codewords have does not bend the answer."""
    code, shares = TriangularCode(even_codewords(20)), torch.rand(2, 20, 5, 6, dtype=torch.float64)
    decoded = code.decode(shares)
    for row in range(2):
        for y in range(5):
            for x in range(6):
                share = shares[row, :, y, x].numpy()
                best = max(code.triangles.tolist(), key=lambda corners: share[corners].sum())
                mixed = share[best] @ code.words[best]
                np.testing.assert_allclose(decoded[row, :, y, x], mixed / np.linalg.norm(mixed), atol=1e-9)


@pytest.mark.parametrize("nothing", [torch.zeros(1, 20, 2, 2), torch.full((1, 20, 2, 2), 1 / 20)])
def test_no_opinion_is_some_direction(nothing: Tensor) -> None:
    """Of length 1, not nan."""
    answer = TriangularCode(even_codewords(20)).decode(nothing)
    torch.testing.assert_close(answer.norm(dim=1), torch.ones(1, 2, 2))


def test_no_direction_has_some_code() -> None:
    """Finite, so that what is unknown can be left out afterwards."""
    _, weights = TriangularCode(even_codewords(20)).encode(torch.zeros(1, 3, 2, 2))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 2, 2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (even_codewords(0), "at least four unit vectors"),
        (even_codewords(3), "at least four unit vectors"),
        (2 * even_codewords(8), "with lengths from 2 to 2"),
        (np.zeros((5, 2)), r"a table \(codewords, 3\)"),
        (np.stack([np.cos(np.arange(6)), np.sin(np.arange(6)), np.zeros(6)], axis=1), "no triangles between the codewords"),
    ],
)
def test_what_is_no_codebook_is_refused(words: np.ndarray, message: str) -> None:
    """Too few, not of length 1, of other dimensions, or in one plane."""
    with pytest.raises(ConfigError, match=message):
        TriangularCode(words)


def test_codes_are_no_coarser_in_autocast() -> None:
    """Labels and answers are geometry: 16 bits would be a third of a degree."""
    code, normals = TriangularCode(even_codewords(40)), _visible(2000).float()
    words, weights = code.encode(normals)
    decoded = code.decode(_shares(code, words, weights))
    with torch.autocast("cpu", torch.bfloat16):
        again = code.encode(normals)
        assert torch.equal(again[0], words) and torch.equal(again[1], weights)
        assert torch.equal(code.decode(_shares(code, words, weights)), decoded)
