"""Scores of maps of parts on disk."""

from pathlib import Path

from tests.scoring.files import write_png
from ubertrain.scoring.parts import score_parts


def test_images_without_parts_are_left_out(tmp_path: Path) -> None:
    """What is predicted on an image of background costs nothing, and the image is told."""
    for name, truth in (("person", [[0, 1, 2]]), ("street", [[0, 0, 255]])):
        write_png(tmp_path / "t" / f"{name}.png", truth)
        write_png(tmp_path / "p" / f"{name}.png", [[0, 1, 2]])
    score = score_parts(tmp_path / "p", tmp_path / "t")
    assert score.scores["mIoU"] == 1
    assert score.skipped == {"street": "its truth shows no part"}
    assert list(score.classes)[:3] == ["background", "head", "torso"]


def test_the_background_may_have_another_id(tmp_path: Path) -> None:
    """An image is judged by the id that is no part, which is scored as a class."""
    for name, truth in (("person", [[2, 2, 1]]), ("street", [[2, 2, 2]])):
        write_png(tmp_path / "t" / f"{name}.png", truth)
        write_png(tmp_path / "p" / f"{name}.png", [[2, 1, 1]])
    score = score_parts(tmp_path / "p", tmp_path / "t", classes=("leg", "arm", "rest"), background=2)
    assert score.images == 1
    assert {name: scores["IoU"] for name, scores in score.classes.items() if name != "leg"} == {"arm": 0.5, "rest": 0.5}
