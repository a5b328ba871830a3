"""Folders of runs that never ran."""

from collections.abc import Mapping
from pathlib import Path

from tests.rooms import write_config
from ubertrain.training.config import load
from ubertrain.training.run_folder import RunFolder

METRICS = {"depth": ("AbsRel", False), "normals": ("mean", False), "segmentation": ("mIoU", True), "boundaries": ("F", True)}


def write_run(path: Path, scores: Mapping[str, float], *overrides: str, metrics: Mapping[str, str] | None = None,
              sets: tuple[str, ...] = ("rooms",)) -> Path:  # fmt: skip
    """A folder as a run leaves it that has ended with these primary scores of its tasks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    folder.begin(load(write_config(path.parent, path.parent), overrides))
    results = {}
    for task, score in scores.items():
        name, higher = METRICS[task]
        values = {"before": float("nan"), "after": score, "constant": 0.0}
        results[task] = {"metric": (metrics or {}).get(task, name), "higher_is_better": higher, **values}
    by_set = {name: {task: {} for task in scores} for name in sets}
    folder.write_report({"steps": 4, "results": results, "by_set": by_set})
    return path
