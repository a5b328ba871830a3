"""Reading weights, and what is said about files that do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ubertrain.errors import ConfigError
from ubertrain.trunks.resnet import ResNet18
from ubertrain.trunks.weights import read_weights


class Mischief:
    """Something that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("mischief"),)


def published() -> dict[str, torch.Tensor]:
    """An old file in torchvision's naming, of a narrow ResNet-18: with classifier, without counters of batches."""
    state = ResNet18(width=0.125).state_dict() | {"fc.weight": torch.randn(10, 64), "fc.bias": torch.randn(10)}
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("old.pth", torch.save),
        ("weights.safetensors", save_file),
        ("nested.pt", lambda state, file: torch.save({"state_dict": state, "epoch": 3}, file)),
        ("legacy.pth", lambda state, file: torch.save(state, file, _use_new_zipfile_serialization=False)),
    ],
)
def test_file_loads(name: str, save: Callable[..., None], tmp_path: Path) -> None:
    """A file in torchvision's naming loads in every format, and its classifier is left behind."""
    state = published()
    save(state, tmp_path / name)
    trunk = ResNet18(width=0.125, weights=str(tmp_path / name)).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in trunk.items() if not key.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer1.0.conv1.weight": None}, r"it lacks layer1\.0\.conv1\.weight;"),
        ({"layer9.0.conv1.weight": torch.zeros(1)}, r"it has the unknown layer9\.0\.conv1\.weight;"),
        ({"bn1.bias": torch.zeros(9)}, r"it has other shapes: bn1\.bias \(9,\) instead of \(8,\);"),
        ({"conv1.weight": None, "head.0": torch.zeros(1)}, r"it lacks conv1\.weight; it has the unknown head\.0;"),
    ],
)
def test_file_that_does_not_fit(change: dict[str, torch.Tensor | None], message: str, tmp_path: Path) -> None:
    """The message names the file, the trunk, and every key that is missing, unknown or of another shape."""
    state = {key: value for key, value in (published() | change).items() if value is not None}
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(ConfigError, match=r"weights: .*bad\.pth does not fit ResNet18: " + message):
        ResNet18(width=0.125, weights=str(tmp_path / "bad.pth"))


def test_many_faults_are_counted(tmp_path: Path) -> None:
    """A file of another architecture gives a message one can read: a few keys and how many more."""
    torch.save({f"block{index}.weight": torch.zeros(1) for index in range(50)}, tmp_path / "vit.pth")
    with pytest.raises(ConfigError, match=r"block5\.weight and 44 more"):
        ResNet18(width=0.125, weights=str(tmp_path / "vit.pth"))


def test_refused_file_changes_nothing(tmp_path: Path) -> None:
    """A trunk that refuses a file is as it was before."""
    torch.save(published() | {"bn1.bias": torch.zeros(9)}, tmp_path / "bad.pth")
    trunk = ResNet18(width=0.125)
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    with pytest.raises(ConfigError):
        trunk.load(str(tmp_path / "bad.pth"))
    assert all(torch.equal(value, before[key]) for key, value in trunk.state_dict().items())


@pytest.mark.parametrize("name", ["garbage.pth", "garbage.safetensors", "empty.pth", "cut.pth"])
def test_unreadable_file(name: str, tmp_path: Path) -> None:
    """What is no file of tensors is refused by name."""
    torch.save(published(), tmp_path / "whole.pth")
    contents = {"garbage": b"no tensors at all", "empty": b"", "cut": (tmp_path / "whole.pth").read_bytes()[:5000]}
    (tmp_path / name).write_bytes(contents[name.split(".")[0]])
    with pytest.raises(ConfigError, match=rf"{name} is no readable file of tensors"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "found"),
    [({"epoch": 3, "lr": 0.1}, "a mapping with the keys epoch, lr"), ([1, 2], "list"), ({}, "a mapping with the keys")],
)
def test_file_without_tensors(content: object, found: str, tmp_path: Path) -> None:
    """A readable file that is no state is refused with what it holds."""
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=rf"must hold tensors by name, .* but holds {found}"):
        read_weights(tmp_path / "other.pth")


def test_missing_file(tmp_path: Path) -> None:
    """A path where nothing is, is named."""
    with pytest.raises(ConfigError, match=r"there is no file .*nowhere\.pth"):
        read_weights(tmp_path / "nowhere.pth")


def test_no_code_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that carries code is refused, and the code does not run."""
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Mischief()}, "evil.pth")
    with pytest.raises(ConfigError, match=r"evil\.pth is no readable file of tensors"):
        read_weights(Path("evil.pth"))
    assert not Path("mischief").exists()
