"""Choosing and grouping classes by name."""

import pytest

from ubertrain.data.class_names import group, pick
from ubertrain.errors import ConfigError

KNOWN = ["person", "bicycle", "car", "sky"]


def test_names_are_picked_in_the_order_given() -> None:
    """The user's order is the order of the ids."""
    assert pick(["sky", "person"], KNOWN, "coco, classes") == ("sky", "person")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["persn"], "coco, classes: no class 'persn'; did you mean 'person'"),
        (["zebra"], "no class 'zebra'; it has person, bicycle, car, sky"),
        (["car", "car"], "class 'car' is given twice"),
        ([], "the list of classes is empty"),
    ],
)
def test_wrong_names_are_explained(names: list[str], message: str) -> None:
    """An unknown, repeated or missing name says where it stands and what there is."""
    with pytest.raises(ConfigError, match=message):
        pick(names, KNOWN, "coco, classes")


@pytest.mark.parametrize(
    ("wanted", "rest", "names", "ids"),
    [
        (["sky", "car"], "ignore", ("sky", "car"), [255, 255, 1, 0]),
        (["sky", "car"], "other", ("other", "sky", "car"), [0, 0, 2, 1]),
        ({"vehicle": ["bicycle", "car"], "human": ["person"]}, "ignore", ("vehicle", "human"), [1, 0, 0, 255]),
        ({"vehicle": ["bicycle"], "stuff": ["sky"]}, "stuff", ("vehicle", "stuff"), [1, 0, 1, 1]),
    ],
)
def test_groups_give_every_known_class_an_id(wanted: object, rest: str, names: tuple[str, ...], ids: list[int]) -> None:
    """Lists and groups number the new classes; the rest is ignored, a class of its own (id 0), or joins one that exists."""
    got_names, got_ids = group(wanted, KNOWN, rest, "coco, class_map")
    assert (got_names, list(got_ids.values())) == (names, ids)
    assert list(got_ids) == KNOWN


def test_a_class_belongs_to_one_group() -> None:
    """A known class in two groups is an error."""
    with pytest.raises(ConfigError, match="class 'car' is given twice"):
        group({"a": ["car"], "b": ["sky", "car"]}, KNOWN, "ignore", "coco, class_map")
