"""Codebooks made from the training sets of a configuration."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.rooms import write_config, write_rooms
from ubertrain.cli.main import app
from ubertrain.errors import ConfigError
from ubertrain.ops.codewords import read_codewords
from ubertrain.ops.triangular_code import TriangularCode
from ubertrain.training.codebook import make_codebook, write_codebook
from ubertrain.training.config import load

SCENES = """
steps: 1
tasks: {normals: {taps: [res2], width: 8}}
trunk: {name: "tests.rooms:TinyTrunk"}
data: {size: [48, 64], batch: 2, train: {rooms: {type: scenes, images: 12, size: [48, 64], keep: [normals], warp: {}}}}
"""


def _scenes(tmp_path: Path) -> Path:
    file = tmp_path / "scenes.yaml"
    file.write_text(SCENES)
    return file


def test_codewords_are_unit_vectors_that_a_code_can_be_made_of(tmp_path: Path) -> None:
    """Of visible surfaces, hence towards the viewer or nearly so, and the same ones every time."""
    pytest.importorskip("scipy")
    config = load(_scenes(tmp_path), ())
    words = make_codebook(config, 20)
    assert words.shape == (20, 3)
    assert (words[:, 2] < 0.6).all()
    assert len(TriangularCode(words).triangles) > 10
    assert np.array_equal(words, make_codebook(config, 20))


def test_the_command_writes_what_a_task_reads(tmp_path: Path) -> None:
    """As many codewords as were asked for."""
    result = CliRunner().invoke(
        app, ["codebook", str(_scenes(tmp_path)), "--out", str(tmp_path / "a" / "words"), "--codewords", "8"]
    )
    assert result.exit_code == 0, result.output
    assert read_codewords(tmp_path / "a" / "words").shape == (8, 3)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """To 32 bits."""
    words = np.eye(3)
    np.testing.assert_allclose(read_codewords(write_codebook(words, tmp_path / "w.npy")), words)


def test_sets_without_normals_are_refused(tmp_path: Path) -> None:
    """And so is a label that none has."""
    config = load(_scenes(tmp_path), ())
    with pytest.raises(ConfigError, match="no training set carries 'directions'"):
        make_codebook(config, 20, label="directions")


def test_too_few_different_normals_are_refused(tmp_path: Path) -> None:
    """The rooms on disk have two."""
    config = load(write_config(tmp_path, write_rooms(tmp_path / "rooms")), ())
    with pytest.raises(ConfigError, match="20 codewords need as many different normals; there are"):
        make_codebook(config, 20)
