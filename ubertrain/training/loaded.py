"""A run from its folder, ready to answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ubertrain.data.reader import Reader
from ubertrain.training.build import Model, make_model, make_readers, prepare
from ubertrain.training.resume import require_fit
from ubertrain.training.run_folder import RunFolder


@dataclass(frozen=True)
class LoadedRun:
    """What a run has trained.

    Attributes:
        model: with the weights of the newest whole state, in eval mode.
        step: of that state.
        remarks: what is damaged in newer ones.
    """

    model: Model
    step: int
    remarks: Sequence[str]

    def sets(self, part: Literal["train", "val"]) -> dict[str, Reader]:
        """The run's data sets."""
        return make_readers(self.model.config, part)


def load_run(path: Path, overrides: Sequence[str] = ()) -> LoadedRun:
    """The run in the folder `path`. Its data sets need not exist.

    Raises:
        ConfigError: there is no run, or an override does not fit.
        StateError: no saved state is whole, or the newest does not fit the configuration.
    """
    folder = RunFolder(path)
    config = folder.config(overrides)
    prepare(config)
    model = make_model(config, {}, pretrained=False)
    state, damaged = folder.states.load()
    require_fit(state, model.graph, config)
    model.graph.load_state_dict(dict(state.weights))
    model.graph.eval()
    return LoadedRun(model, state.step, damaged)
