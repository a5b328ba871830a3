"""Parts of a score as files."""

from pathlib import Path

import pytest

from ubertrain.errors import ConfigError
from ubertrain.scoring.export import write_curve, write_per_image
from ubertrain.scoring.score import Score

BARE = Score("a sentence", {"F": 0.5}, 1)


def test_what_is_not_there_is_not_written(tmp_path: Path) -> None:
    """A score without single images, or without a curve, says so instead of leaving an empty file."""
    with pytest.raises(ConfigError, match="there are no scores of single images"):
        write_per_image(BARE, tmp_path / "each.csv")
    with pytest.raises(ConfigError, match="this protocol has no curve"):
        write_curve(BARE, tmp_path / "curve.csv")
    assert list(tmp_path.iterdir()) == []


def test_tables_are_plain_text(tmp_path: Path) -> None:
    """A header, then a line for each image or point."""
    score = Score("", {"F": 0.5}, 1, per_image={"a": {"F": 0.5}}, curve=({"recall": 0.25, "precision": 1.0},))
    assert write_per_image(score, tmp_path / "each.csv").read_text() == "image,F\na,0.5\n"
    assert write_curve(score, tmp_path / "curve.csv").read_text() == "recall,precision\n0.25,1.0\n"
