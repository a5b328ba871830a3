"""Scores of boundary maps on disk."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ubertrain.errors import DataError
from ubertrain.scoring.boundaries import score_boundaries
from ubertrain.scoring.export import write_curve
from ubertrain.scoring.pairs import Naming
from ubertrain.scoring.strength_maps import read_strength

_LINE = np.zeros((24, 32), np.uint8)
_LINE[10] = 255


def _write(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        pytest.importorskip("scipy.io", reason="the extra `mat` is not installed").savemat(path, {"pb": values})
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


def test_the_benchmarks_figures_come_from_its_files(data_root: Path) -> None:
    """BSDS500's fixture, files as they are: ODS, OIS and AP within 0.001 of those of its MATLAB code, and each image's F."""
    pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")
    folder = data_root / "bench" / "BSDS500_bench"
    score = score_boundaries(folder / "png", folder / "groundTruth", thresholds=5)
    assert list(score.scores.items())[:3] == [
        ("ODS", pytest.approx(0.704628, abs=1e-3)),
        ("OIS", pytest.approx(0.708698, abs=1e-3)),
        ("AP", pytest.approx(0.307627, abs=1e-3)),
    ]
    wanted = np.loadtxt(folder / "test_2" / "eval_bdry_img.txt")[:, 4]
    assert [values["ODS"] for values in score.per_image.values()] == pytest.approx(wanted.tolist(), abs=2e-3)
    assert score.curve is not None and len(score.curve) == 5 and score.images == 5


@pytest.mark.parametrize("ending", [".png", ".bmp", ".npy", ".mat"])
def test_predictions_come_in_the_usual_formats(tmp_path: Path, ending: str) -> None:
    """Grey pictures, arrays, and MATLAB's; all say the same."""
    values = _LINE if ending in (".png", ".bmp") else _LINE / 255
    pred, truth = _write(tmp_path / f"pred/a{ending}", values), _write(tmp_path / "truth/a.png", _LINE)
    assert np.array_equal(read_strength(pred).numpy(), _LINE / 255)
    assert score_boundaries(pred.parent, truth.parent).scores["ODS"] == 1


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_values_are_exact_shares(tmp_path: Path, bits: int) -> None:
    """The nearest float64 of value / maximum, so that a value on a threshold is at it, not beside it."""
    most = 2**bits - 1
    values = np.arange(0, most + 1, most // 255, dtype=np.uint8 if bits == 8 else np.uint16).reshape(16, 16)
    assert np.array_equal(read_strength(_write(tmp_path / "a.png", values)).numpy(), values / most)


def test_an_ultrametric_map_is_read_at_its_odd_pixels(tmp_path: Path) -> None:
    """As the benchmark reads `ucm2`: every second value from the third on."""
    io = pytest.importorskip("scipy.io", reason="the extra `mat` is not installed")
    values = np.random.default_rng(0).random((9, 13))
    io.savemat(tmp_path / "a.mat", {"ucm2": values})
    assert np.array_equal(read_strength(tmp_path / "a.mat").numpy(), values[2::2, 2::2])


def test_planes_of_annotators_may_leave_pixels_unknown(tmp_path: Path) -> None:
    """An array of 0, 1 and 255: predictions where nobody knows count neither way."""
    truth = np.stack([_LINE // 255, _LINE // 255])
    truth[:, :5] = 255
    pred = _LINE / 255
    pred[2] = 1
    score = score_boundaries(_write(tmp_path / "pred.npy", pred), _write(tmp_path / "truth.npy", truth))
    assert score.scores["ODS"] == 1


def test_thick_answers_need_their_ridges(tmp_path: Path) -> None:
    """Of a blurred line, half of its height is six pixels wide: its ridge is right, or its middle, but not all of it."""
    y = np.arange(64)[:, None] - 32 + np.zeros((1, 64))
    pred, line = np.exp(-((y / 4) ** 2)), (y == 0).astype(np.uint8) * 255
    files = _write(tmp_path / "pred.npy", pred), _write(tmp_path / "truth.png", line)

    def precision(nms: bool, thin: bool) -> float:
        curve = score_boundaries(*files, nms=nms, thin=thin, tolerance=0.03, thresholds=9).curve
        assert curve is not None
        return curve[4]["precision"]

    assert (precision(True, True), precision(True, False), precision(False, True)) == (1, 1, 1)
    assert precision(False, False) < 0.2


def test_empty_predictions_and_empty_truth_are_defined(tmp_path: Path) -> None:
    """Nothing found scores 0, nothing to find nan; an image without known pixels is left out and told."""
    nothing, line = _write(tmp_path / "nothing.png", 0 * _LINE), _write(tmp_path / "line.png", _LINE)
    assert score_boundaries(nothing, line).scores["ODS"] == 0
    assert math.isnan(score_boundaries(line, nothing).scores["ODS"])
    for name in "ab":
        _write(tmp_path / f"pred/{name}.png", _LINE)
    _write(tmp_path / "truth/a.npy", np.full(_LINE.shape, 255, np.uint8))
    _write(tmp_path / "truth/b.npy", _LINE // 255)
    score = score_boundaries(tmp_path / "pred", tmp_path / "truth")
    assert (score.images, list(score.skipped)) == (1, ["a"])


@pytest.mark.parametrize("value", [-1, 0.9, 257, np.nan])
def test_labels_are_neither_rounded_nor_wrapped(tmp_path: Path, value: float) -> None:
    """As bytes -1 would be unknown, 0.9 no boundary and 257 a boundary."""
    truth = np.where(_LINE > 0, 1.0, 0.0)
    truth[3, 3] = value
    with pytest.raises(DataError, match=rf"truth.npy: holds {value:g}, which is no label; expected whole numbers"):
        score_boundaries(_write(tmp_path / "pred.png", _LINE), _write(tmp_path / "truth.npy", truth))


def test_masks_of_0_and_1_do_not_score_0(tmp_path: Path) -> None:
    """MATLAB's truth values are what they say; in a picture 1 of 255 is below any threshold, which is an error."""
    truth = _write(tmp_path / "truth.png", _LINE)
    assert score_boundaries(_write(tmp_path / "pred.mat", _LINE > 0), truth).scores["ODS"] == 1
    with pytest.raises(DataError, match="pred.png: no pixel is brighter than 1 of 255"):
        score_boundaries(_write(tmp_path / "pred.png", _LINE // 255), truth)
    weak = np.where(_LINE > 0, 0.005, 0.0)
    assert score_boundaries(_write(tmp_path / "weak.npy", weak), truth, thresholds=9).scores["ODS"] == 0


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (np.full((24, 32), np.nan), _LINE, "pred.npy: is nan or infinite at 768 of 768"),
        (np.full((24, 32), 7.0), _LINE, r"pred.npy: boundary probabilities must be from 0 to 1; 768 of 768 are not, such as 7"),
        (np.zeros((24, 30)), _LINE, "pred.npy: is 30 wide and 24 high, its truth .*truth.png is 32 wide and 24 high"),
        (np.zeros((2, 24, 32)), _LINE, r"pred.npy: has shape \(2, 24, 32\); expected 2 dimensions"),
        (np.zeros((24, 32)), 255 - _LINE, "truth.png: more than half of it is a boundary; expected white lines on black"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path: Path, pred: np.ndarray, truth: np.ndarray, message: str) -> None:
    """The file, and what is wrong with it."""
    with pytest.raises(DataError, match=message):
        score_boundaries(_write(tmp_path / "pred.npy", pred), _write(tmp_path / "truth.png", truth))


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    """To the last bit."""
    random = np.random.default_rng(0)
    for name in "abc":
        _write(tmp_path / f"pred/{name}_edge.npy", random.random((20, 24)))
        _write(tmp_path / f"truth/{name}.png", (random.random((20, 24)) < 0.1).astype(np.uint8))
    run = [score_boundaries(tmp_path / "pred", tmp_path / "truth", naming=Naming("_edge.npy"), workers=n) for n in (1, 2)]
    assert run[0] == run[1] and run[0].images == 3


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    """Precision over recall with the lines of equal F, as a picture."""
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    score = score_boundaries(_write(tmp_path / "pred.png", _LINE), _write(tmp_path / "truth.png", _LINE))
    with Image.open(write_curve(score, tmp_path / "curve.png")) as picture:
        assert picture.size[0] > 300
