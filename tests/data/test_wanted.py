"""Tasks against data sets, before anything is read."""

import pytest

from tests.data.stubs import KINDS, Listed, Wants, tasks
from ubertrain.annotation import ClassMap, Depth
from ubertrain.data.wanted import wanted_labels
from ubertrain.errors import ConfigError


def a_set(*labels: str, **classes: list[str]) -> Listed:
    """A set that carries `labels`, some of them with classes."""
    reader = Listed([[]], {label: KINDS[label] for label in labels})
    reader.classes = classes
    return reader


def test_labels_are_those_that_both_have() -> None:
    """Of every set the labels that some task uses, no others."""
    sets = {"rooms": a_set("depth", "normals"), "streets": a_set("boxes", "depth", "edges")}
    assert wanted_labels(sets, tasks("depth", "boxes")) == {"rooms": {"depth"}, "streets": {"boxes", "depth"}}


@pytest.mark.parametrize(
    ("sets", "names", "message"),
    [
        (
            {"rooms": a_set("depth")},
            ("depth", "edges"),
            "no data set carries 'edges', which task 'edges' needs; .* carries depth",
        ),
        (
            {"rooms": a_set("depth"), "streets": a_set("boxes")},
            ("depth",),
            "no task uses a label of data set 'streets'; .*boxes",
        ),
        (
            {"a": a_set("boxes", boxes=["cat", "dog"]), "b": a_set("boxes", boxes=["dog", "cat"])},
            ("boxes",),
            r"'boxes' has 2 classes \(cat, dog\) in data set 'a' and 2 classes \(dog, cat\) in data set 'b'; one",
        ),
    ],
)
def test_misfits_are_explained(sets: dict[str, Listed], names: tuple[str, ...], message: str) -> None:
    """A task without data, data without a task, and one task with two lists of classes name both sides."""
    with pytest.raises(ConfigError, match=message):
        wanted_labels(sets, tasks(*names))


def test_a_label_of_another_kind_is_refused() -> None:
    """A task that wants depth cannot take a class map that goes by its name."""
    reader = Listed([[]], {"depth": ClassMap})
    with pytest.raises(ConfigError, match="'depth' of data set 'rooms' is ClassMap, but task 'near' needs Depth"):
        wanted_labels({"rooms": reader}, {"near": Wants(Depth)})
