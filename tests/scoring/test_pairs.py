"""Which prediction belongs to which truth."""

import re
from pathlib import Path

import pytest

from ubertrain.errors import DataError
from ubertrain.scoring.pairs import Naming, pairs

ENDINGS = (".png", ".npy")


def touch(folder: Path, *names: str) -> Path:
    """A folder of empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_files_are_paired_by_name(tmp_path: Path) -> None:
    """Endings may differ, other files do not matter, and the order is that of the names."""
    predictions = touch(tmp_path / "p", "b.npy", "a.png", "notes.txt", ".hidden.png")
    truth = touch(tmp_path / "t", "a.png", "b.png")
    found = pairs(predictions, truth, ENDINGS)
    assert [(pair.id, pair.prediction.name, pair.truth.name) for pair in found.pairs] == [
        ("a", "a.png", "a.png"), ("b", "b.npy", "b.png")]  # fmt: skip
    assert found.skipped == {}


def test_names_may_end_in_more_than_a_suffix(tmp_path: Path) -> None:
    """What follows the id is set for each side, and folders in the folder count: the layout of Cityscapes."""
    predictions = touch(tmp_path / "p", "bonn_1_leftImg8bit.png", "ulm_2_leftImg8bit.png")
    truth = touch(
        tmp_path / "t", "bonn/bonn_1_gtFine_labelIds.png", "ulm/ulm_2_gtFine_labelIds.png", "ulm/ulm_2_gtFine_color.png"
    )
    found = pairs(predictions, truth, ENDINGS, naming=Naming("_leftImg8bit.png", "_gtFine_labelIds.png"))
    assert [(pair.id, pair.truth.parent.name) for pair in found.pairs] == [("bonn_1", "bonn"), ("ulm_2", "ulm")]


def test_names_that_occur_twice_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    """Where every folder counts from 1, paths make the pairs, on both sides."""
    predictions = touch(tmp_path / "p", "kitchen/1.png", "office/1.png")
    truth = touch(tmp_path / "t", "kitchen/1.png", "office/1.png")
    found = pairs(predictions, truth, ENDINGS)
    assert [(pair.id, pair.prediction.parent.name, pair.truth.parent.name) for pair in found.pairs] == [
        ("kitchen/1", "kitchen", "kitchen"), ("office/1", "office", "office")]  # fmt: skip


def test_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    """No file is passed over because a camera or a program of old wrote .PNG; the rest of an ending is exact."""
    predictions, truth = touch(tmp_path / "p", "a.PNG", "b.npy"), touch(tmp_path / "t", "a.png", "b.Png")
    assert [pair.id for pair in pairs(predictions, truth, ENDINGS).pairs] == ["a", "b"]
    files = touch(tmp_path / "q", "a_L.PNG", "a_l.png")
    assert [pair.prediction.name for pair in pairs(files, truth, ENDINGS, naming=Naming("_L.png", missing="skip")).pairs] == [
        "a_L.PNG"
    ]


def test_two_files_belong_together(tmp_path: Path) -> None:
    """Given as files, a prediction and a truth need no common name."""
    folder = touch(tmp_path, "mine.npy", "theirs.png")
    (pair,) = pairs(folder / "mine.npy", folder / "theirs.png", ENDINGS).pairs
    assert (pair.prediction.name, pair.truth.name) == ("mine.npy", "theirs.png")


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    """A missing prediction, if that is allowed, and a prediction without truth are named with the reason."""
    predictions, truth = touch(tmp_path / "p", "a.png", "x.png"), touch(tmp_path / "t", "a.png", "b.png")
    found = pairs(predictions, truth, ENDINGS, naming=Naming(missing="skip"))
    assert [pair.id for pair in found.pairs] == ["a"]
    assert found.skipped == {"b": "no prediction", "x": "no truth"}


def test_a_list_says_what_is_scored(tmp_path: Path) -> None:
    """Listed ids need predictions, others do not; what follows a blank is ignored."""
    predictions, truth = touch(tmp_path / "p", "a.png"), touch(tmp_path / "t", "a.png", "b.png")
    (tmp_path / "val.txt").write_text("a 1\n\n")
    assert [pair.id for pair in pairs(predictions, truth, ENDINGS, naming=Naming(only=tmp_path / "val.txt")).pairs] == ["a"]


@pytest.mark.parametrize(
    ("predictions", "truth", "listed", "message"),
    [
        (["a.png"], ["a.png", "b.png"], None, r"p: no prediction for 'b' \(.*t/b.png\); 1 of 2 are missing.*--skip-missing"),
        (["c.png"], ["a.png"], None, r"p: none of the predictions \('c'\) has the name of a truth \('a'\) in .*--pred-ending"),
        (["a.txt"], ["a.png"], None, r"p: no predictions; expected files that end in .png, .npy \(--pred-ending"),
        (
            ["a.png", "a.npy"],
            ["a.png"],
            None,
            r"p/a.npy and .*p/a.png are both predictions of 'a'; say which with --pred-ending",
        ),
        (["a.png"], ["a.png", "a.npy"], None, r"t/a.npy and .*t/a.png are both truth of 'a'; say which with --truth-ending"),
        (["a.png"], ["a.png"], "z", r"val.txt: 'z' has no truth in .*t \(which has 'a'\)"),
        (["a.png"], ["a.png"], "", r"val.txt: lists no ids"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, predictions: list[str], truth: list[str], listed: str | None, message: str) -> None:
    """Whatever keeps files from being paired is an error that names them and the option that helps."""
    only = None
    if listed is not None:
        only = tmp_path / "val.txt"
        only.write_text(listed)
    with pytest.raises(DataError, match=message):
        pairs(touch(tmp_path / "p", *predictions), touch(tmp_path / "t", *truth), ENDINGS, naming=Naming(only=only))


@pytest.mark.parametrize("side", [0, 1])
def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, side: int) -> None:
    """Predictions as well as truth."""
    folders = [touch(tmp_path / "p", "a.png"), touch(tmp_path / "t", "a.png")]
    folders[side] = tmp_path / "nowhere"
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'nowhere'}: there is no such file or folder")):
        pairs(*folders, ENDINGS)
