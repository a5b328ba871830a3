"""MATLAB files, real and damaged."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.stubs import cut_short
from ubertrain.data.mat import read_mat
from ubertrain.errors import ConfigError, DataError

io = pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")


def test_a_variable_is_found_by_name(tmp_path: Path) -> None:
    """What was saved under a name comes back."""
    io.savemat(tmp_path / "a.mat", {"x": np.eye(2), "y": np.ones(3)})
    assert read_mat(tmp_path / "a.mat", "x").tolist() == [[1, 0], [0, 1]]


def test_an_absent_variable_is_named(tmp_path: Path) -> None:
    """A file without the variable names the file and the variable."""
    io.savemat(tmp_path / "a.mat", {"x": 1})
    with pytest.raises(DataError, match=r"a.mat: has no variable 'z'"):
        read_mat(tmp_path / "a.mat", "z")


@pytest.mark.parametrize("part", [0.0, 0.005, 0.3, 0.9, 0.999])
def test_truncated_files_name_themselves(data_root: Path, tmp_path: Path, part: float) -> None:
    """A file that was cut short, anywhere, is an error that names it."""
    whole = next((data_root / "BSDS500" / "data" / "groundTruth" / "train").glob("*.mat"))
    path = cut_short(whole, tmp_path / "cut.mat", part)
    with pytest.raises(DataError, match=r"cut.mat: cannot be read as a MATLAB file"):
        read_mat(path, "groundTruth")


def test_the_newest_format_is_refused_with_advice(tmp_path: Path) -> None:
    """A MATLAB 7.3 file, which is HDF5, says how to save it again."""
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x00" * 512
    (tmp_path / "new.mat").write_bytes(header)
    with pytest.raises(DataError, match=r"new.mat: MATLAB 7.3 files .* save it again with -v7"):
        read_mat(tmp_path / "new.mat", "x")


def test_a_missing_scipy_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scipy the message says what to install, and it is no error of the data that could be skipped."""
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ConfigError, match=r"pip install 'ubertrain\[mat\]'"):
        read_mat(tmp_path / "a.mat", "x")
