"""Scores over validation sets."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rooms import write_config, write_rooms
from ubertrain.data.batch import Batch
from ubertrain.training.build import make_model, make_readers, prepare
from ubertrain.training.config import load
from ubertrain.training.evaluation import answers_of, answers_of_constants, evaluate, fit_constants


def perfect(batch: Batch) -> dict[str, Any]:
    """The labels themselves, in the form of predictions."""
    answers: dict[str, Any] = {}
    for task, labels in batch.targets.items():
        value = labels.value
        if task == "boxes":
            answers[task] = {"boxes": value["boxes"], "scores": torch.ones(value["classes"].shape), "classes": value["classes"]}
        elif task == "segmentation":
            answers[task] = torch.nn.functional.one_hot(value, 2).permute(0, 3, 1, 2).float()
        else:
            answers[task] = value[:, 0].float() if task == "boundaries" else value
    return answers


@pytest.fixture
def rooms(tmp_path: Path) -> Any:
    """The room experiment with two validation sets, one of which knows depth alone."""
    root = write_rooms(tmp_path / "data")
    config = load(write_config(tmp_path, root), [f"data.val.far={{type: folder, root: {root}, labels: [depth]}}"])
    prepare(config)
    sets = make_readers(config, "val")
    return make_model(config, make_readers(config, "train"), sets), sets


def test_perfect_answers_score_perfectly(rooms: Any) -> None:
    """Every task's labels, given back as predictions, get the best score of its metric (thinning costs boundaries a corner)."""
    model, sets = rooms
    found = evaluate(perfect, model.tasks, model.config, sets)
    first = {task: next(iter(scores.items())) for task, scores in found.scores.items()}
    assert first == {"boxes": ("AP50", 1.0), "segmentation": ("mIoU", 1.0), "depth": ("AbsRel", 0.0),
                     "normals": ("mean", 0.0), "boundaries": ("ODS", pytest.approx(1, abs=0.02))}  # fmt: skip
    assert list(found.by_set) == ["rooms", "far"]
    assert list(found.by_set["far"]) == ["depth"]


def test_the_graph_answers_for_labelled_rows(rooms: Any) -> None:
    """A prediction has one row for each labelled image of the batch, that image's own."""
    model, sets = rooms
    seen: list[Batch] = []
    answer = answers_of(model.graph)

    def check(batch: Batch) -> Any:
        predictions = answer(batch)
        with torch.no_grad():
            everything = model.graph(batch.images)
        for task, labels in batch.targets.items():
            rows = labels.positions(len(batch.ids), task)
            expected = everything[task]["boxes"] if task == "boxes" else everything[task]
            given = predictions[task]["boxes"] if task == "boxes" else predictions[task]
            assert torch.equal(given, expected[rows])
        seen.append(batch)
        return predictions

    evaluate(check, model.tasks, model.config, sets)
    assert sum(len(batch.ids) for batch in seen) == 8 + 4


def test_constants_know_the_training_labels_alone(rooms: Any) -> None:
    """The constant depth is that of the training set, and its score is that of this one answer everywhere."""
    model, sets = rooms
    constants = fit_constants(model.tasks, model.config, make_readers(model.config, "train"))
    assert set(constants) == set(model.tasks)
    found = evaluate(answers_of_constants(constants), model.tasks, model.config, sets)
    assert found.scores["boxes"]["AP50"] == 0
    assert found.scores["segmentation"]["mIoU"] == pytest.approx(found.scores["segmentation"]["pixel_accuracy"] / 2)
    assert 0 < found.scores["depth"]["AbsRel"] < 1
