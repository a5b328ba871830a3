"""The configuration: what it accepts, and what it says about mistakes."""

from pathlib import Path

import pytest

from ubertrain.errors import ConfigError
from ubertrain.training.config import Config, load

GOOD = """\
steps: 10
trunk: {name: resnet18, width: 0.25}
tasks:
  depth: {weight: 2}
  segmentation: {classes: 5}
optimizer:
  lr: 1e-2
data:
  size: [64, 64]
  train:
    rooms: {type: scenes, count: 8, warp: {flip: 0.5}}
"""


def loaded(folder: Path, text: str = GOOD, *overrides: str) -> Config:
    """The configuration in `text`."""
    file = folder / "demo.yaml"
    file.write_text(text)
    return load(file, overrides)


def complaint(folder: Path, text: str = GOOD, *overrides: str) -> str:
    """What loading `text` says is wrong."""
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, *overrides)
    return str(caught.value).replace(f"{folder}/", "")


def test_keys_that_are_not_the_configurations_own_are_keywords(tmp_path: Path) -> None:
    """Further keys of a trunk, a task or a set reach what they name."""
    config = loaded(tmp_path)
    assert config.trunk.keywords == {"width": 0.25}
    assert config.tasks["segmentation"].keywords == {"classes": 5}
    assert config.data.train["rooms"].keywords == {"count": 8}


def test_short_exponents_are_numbers(tmp_path: Path) -> None:
    """1e-2 is a number, which YAML 1.1 takes for a string, also where no type is declared."""
    config = loaded(tmp_path, GOOD.replace("width: 0.25", "width: 25e-2"))
    assert config.optimizer.lr == 0.01
    assert config.trunk.keywords == {"width": 0.25}


def test_a_dump_loads_back(tmp_path: Path) -> None:
    """What `dump` prints is read back to the same configuration."""
    config = loaded(tmp_path)
    assert loaded(tmp_path, config.dump()).model_dump() == config.model_dump()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("optimizer:", "optimzer:", "demo.yaml:6: unknown key 'optimzer'; did you mean 'optimizer'? known: seed, threads,"),
        ("flip:", "flipp:", "demo.yaml:11: unknown key 'flipp'; did you mean 'flip'? known: scale, degrees, flip, base"),
        ("steps: 10", "steps: ten", 'demo.yaml:1: steps: should be a valid integer, got "ten"'),
        ("steps: 10", "steps: true", "demo.yaml:1: steps: should be a valid integer, got true"),
        ("steps: 10", "steps: 0", "demo.yaml:1: steps: should be greater than 0, got 0"),
        ("steps: 10\n", "", "demo.yaml: the key 'steps' is missing"),
        ("type: scenes, ", "", "demo.yaml:11: the key 'data.train.rooms.type' is missing"),
        ("[64, 64]", "[64, big]", 'demo.yaml:9: data.size.1: should be a valid integer, got "big"'),
        ("{flip: 0.5}", "{scale: [2, 1]}", "demo.yaml:11: data.train.rooms.warp: scale must be [smallest, largest]"),
        ("steps: 10", "steps: 10\nsteps: 20", "demo.yaml:1: the key 'steps' stands 2 times here; keep one"),
        ("[64, 64]", "[64, 64", "demo.yaml:10: not valid YAML"),
        (
            "steps: 10",
            "memory: {budget: 6 apples}",
            "demo.yaml:1: memory.budget: '6 apples' is not a number of bytes; write it like 6GiB, 800MB or 1073741824, auto or",
        ),
        ("steps: 10", "memory: {cost: h10}", "demo.yaml:1: memory.cost: unknown device 'h10'; did you mean 'h100'? known:"),
        (
            "steps: 10",
            "memory: {budget: 1GiB, schedule: keep_all}",
            "demo.yaml:1: memory: give a schedule or a budget, not both",
        ),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Each mistake is reported with its file, its line and what would be right."""
    assert old in GOOD
    assert message in complaint(tmp_path, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "budget", "cost"),
    [("", None, "auto"), ("budget: none", None, "auto"), ("budget: null", None, "auto"), ("budget: auto", "auto", "auto"),
     ("budget: 6GiB, cost: flops", "6GiB", "flops"), ("budget: 1000, cost: RTX 4090", "1000", "RTX 4090")],
)  # fmt: skip
def test_a_budget_may_be_left_to_the_device(tmp_path: Path, text: str, budget: str | None, cost: str) -> None:
    """Bytes, what is free, or none at all; what is saved is time here, FLOPs or time on a device of the table."""
    memory = loaded(tmp_path, GOOD + f"memory: {{{text}}}\n").memory
    assert (memory.budget, memory.cost) == (budget, cost)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    """Two mistakes give two lines."""
    text = GOOD.replace("steps: 10", "steps: ten").replace("flip:", "flipp:")
    assert len(complaint(tmp_path, text).splitlines()) == 2


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    """A file that does not exist is named."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot read the configuration: No such file"):
        load(tmp_path / "nowhere.yaml")


def test_a_file_that_is_no_text_is_a_config_error(tmp_path: Path) -> None:
    """A picture given in place of a configuration is named."""
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigError, match=r"photo\.jpg: cannot read the configuration: it is not UTF-8 text"):
        load(tmp_path / "photo.jpg")


def test_overrides_replace_and_add(tmp_path: Path) -> None:
    """`--set` reads its value as YAML, replaces what is there and adds what is not."""
    config = loaded(tmp_path, GOOD, "data.size=[32, 48]", "lr_schedule.type=cosine", "tasks.depth.width=16", "clip=1e1")
    assert config.data.size == (32, 48)
    assert config.lr_schedule.type == "cosine"
    assert config.tasks["depth"].keywords == {"width": 16}
    assert config.clip == 10


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "--set steps: expected key=value"),
        ("optimizer.lr.x=1", "--set optimizer.lr.x=1: optimizer.lr is 0.01, which has no keys to set"),
        ("stepz=4", "--set stepz=4: unknown key 'stepz'; did you mean 'steps'?"),
        ("steps=[", "--set steps=[: not valid YAML"),
        ("data.size=[1]", "--set data.size=[1]: the key 'data.size.1' is missing"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, override: str, message: str) -> None:
    """A mistake in `--set` names the option, not a line of the file."""
    assert message in complaint(tmp_path, GOOD, override)


def test_variables_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`${NAME}` is replaced within a text, and alone it takes the type of what it holds."""
    monkeypatch.setenv("ROOM_ROOT", "/data")
    monkeypatch.setenv("ROOM_STEPS", "7")
    text = GOOD.replace("count: 8", 'root: "${ROOM_ROOT}/a"').replace("steps: 10", "steps: ${ROOM_STEPS}")
    config = loaded(tmp_path, text)
    assert config.data.train["rooms"].keywords == {"root": "/data/a"}
    assert config.steps == 7


def test_an_unset_variable_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set is an error, never an empty text."""
    monkeypatch.delenv("ROOM_ROOT", raising=False)
    message = complaint(tmp_path, GOOD.replace("count: 8", 'root: "${ROOM_ROOT}/a"'))
    assert message.startswith("demo.yaml:11: ${ROOM_ROOT} is used, but ROOM_ROOT is not set in the environment; set it")


def test_where_names_the_nearest_written_key(tmp_path: Path) -> None:
    """The place of a key that was left out is that of the mapping around it."""
    config = loaded(tmp_path, GOOD, "memory.budget=1GiB")
    assert config.where("tasks", "depth", "taps").endswith("demo.yaml:4")
    assert config.where("memory", "budget") == "--set memory.budget=1GiB"
    assert config.where("clip").endswith("demo.yaml")


def test_aliases_merge(tmp_path: Path) -> None:
    """YAML's anchors and merge keys work, so that two sets may share their warp."""
    text = GOOD.replace("rooms: {", "rooms: &rooms {") + "    halls: {<<: *rooms, count: 4}\n"
    sets = loaded(tmp_path, text).data.train
    assert sets["halls"].keywords == {"count": 4}
    assert sets["halls"].warp == sets["rooms"].warp
