"""Weights from files: read them, and put them into a module or say exactly what does not fit."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ubertrain.errors import ConfigError


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors in `file`, by name, on the CPU: safetensors by suffix, else what `torch.save` wrote.

    A state that is nested under "state_dict", as training programs save it, is taken out. Nothing but tensors is unpickled.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it holds no tensors by name.
    """
    if not file.is_file():
        raise ConfigError(f"weights: there is no file {file}")
    try:
        state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what an unpickler raises on foreign bytes has no common type
        raise ConfigError(f"weights: {file} is no readable file of tensors: {error}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        found = f"a mapping with the keys {_some(map(str, state))}" if isinstance(state, Mapping) else type(state).__name__
        raise ConfigError(f"weights: {file} must hold tensors by name, as state_dict() gives them, but holds {found}")
    return dict(state)


def load_weights(module: nn.Module, state: Mapping[str, Tensor], file: Path) -> None:
    """Copy `state` into `module`: every parameter and buffer, nothing else, shapes equal.

    Only `num_batches_tracked` may be absent, as it is in files from before it existed.

    Raises:
        ConfigError: names `file`, the missing and unexpected keys, and the shapes that differ; `module` is as it was.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    differing = [key for key in own if key in state and state[key].shape != own[key].shape]
    shapes = (f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}" for key in differing)
    faults = [
        *([f"it lacks {_some(missing)}"] if missing else []),
        *([f"it has the unknown {_some(unexpected)}"] if unexpected else []),
        *([f"it has other shapes: {_some(shapes)}"] if differing else []),
    ]
    if faults:
        raise ConfigError(
            f"weights: {file} does not fit {type(module).__name__}: {'; '.join(faults)}; "
            "give the file of this architecture, or set the trunk's type, width and norm to those of the file"
        )
    module.load_state_dict(dict(state), strict=False)


def _some(names: Iterable[str], most: int = 6) -> str:
    """The first `most` of `names`, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
