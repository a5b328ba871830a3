"""The picture of a plan."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.rooms_model import DENSE, config_of
from ubertrain.errors import ConfigError
from ubertrain.training.plan import make_plan
from ubertrain.training.plan_picture import draw_plan, require_matplotlib


def test_a_plan_is_drawn(tmp_path: Path) -> None:
    """Folders are made; where the budget lies changes the picture, and so does a plan without one."""
    pytest.importorskip("matplotlib")
    plan = make_plan(config_of(tmp_path, DENSE, "memory.budget=1MiB"))
    files = [
        draw_plan(one, tmp_path / "pictures" / f"{number}.png")
        for number, one in enumerate((plan, replace(plan, budget=10**6), replace(plan, budget=None), replace(plan, usage=None)))
    ]
    pictures = [np.asarray(Image.open(file)) for file in files]
    assert all(picture.shape[1] > 1000 and picture.std() > 10 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """So is an ending that no picture has."""
    pytest.importorskip("matplotlib")
    plan = make_plan(config_of(tmp_path, DENSE))
    with pytest.raises(ConfigError, match=r"cannot draw the plan in .*plan\.abc"):
        draw_plan(plan, tmp_path / "plan.abc")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install, before anything is planned."""
    monkeypatch.setattr("ubertrain.training.plan_picture.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'ubertrain\[plot\]'"):
        require_matplotlib()
