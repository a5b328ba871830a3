import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.stubs import picture
from ubertrain.annotation.proposed_boxes import ProposedBoxes
from ubertrain.data.readers import READERS
from ubertrain.data.with_proposals import WithProposals
from ubertrain.errors import ConfigError, DataError


@pytest.fixture
def of(tmp_path: Path) -> dict[str, Any]:
    """A folder with three images of 8 x 6 pixels, two of which have boxes; and a folder for proposals."""
    for name in "abc":
        picture(tmp_path / f"images/{name}.png")
    (tmp_path / "boxes").mkdir()
    for name in "ab":
        (tmp_path / f"boxes/{name}.json").write_text(json.dumps({"boxes": [[1, 1, 4, 5]], "classes": [0]}))
    (tmp_path / "proposals").mkdir()
    return {"type": "folder", "root": str(tmp_path), "classes": {"boxes": ["cup"]}}


def reader(of: dict[str, Any], **keywords: Any) -> WithProposals:
    """The data set with its proposals, as YAML makes it."""
    made = READERS.make("with_proposals", "a.yaml:3", of=of, proposals=of["root"] + "/proposals", **keywords)
    assert isinstance(made, WithProposals)
    return made


def proposals(of: dict[str, Any], text: str = "", **keywords: Any) -> list[list[float]]:
    """What comes of a file for the first image."""
    Path(of["root"], "proposals/a.txt").write_text(text)
    found: list[list[float]] = reader(of, **keywords).read(0).annotations["boxes"]["proposals"].tolist()
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("\n", []),
        ("0 1 2 3\n", [[0, 1, 2, 3]]),
        ("0,1,2,3\n4, 0, 8, 6", [[0, 1, 2, 3], [4, 0, 8, 6]]),
        ("0 1 2 3 0.1\n4 0 8 6 0.9", [[4, 0, 8, 6], [0, 1, 2, 3]]),  # by score
        ("-5 -5 2 3\n0 0 99 99", [[0, 0, 2, 3], [0, 0, 8, 6]]),  # cut at the border
        ("0 1 2 3\n5 5 5 6\n9 0 12 3", [[0, 1, 2, 3]]),  # no area, outside
    ],
)
def test_lines_of_numbers(of: dict[str, Any], text: str, expected: list[list[float]]) -> None:
    """One box a line, best first, within the image; an empty file holds none."""
    assert proposals(of, text) == expected


def test_the_best_are_taken(of: dict[str, Any]) -> None:
    """At most `most` of each image, by score where there are scores."""
    assert proposals(of, "0 0 1 1 0.1\n0 0 2 2 0.3\n0 0 3 3 0.2", most=2) == [[0, 0, 2, 2], [0, 0, 3, 3]]


def test_arrays(of: dict[str, Any]) -> None:
    """A .npy file says the same as lines."""
    np.save(Path(of["root"], "proposals/a.npy"), np.array([[0, 1, 2, 3], [4, 0, 8, 6]], np.int16))
    value = reader(of).read(0).annotations["boxes"]
    assert value["proposals"].tolist() == [[0, 1, 2, 3], [4, 0, 8, 6]] and value["proposals"].dtype == torch.float32
    ProposedBoxes.check(value, (6, 8))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 2", r"has the shape \(1, 3\)"),
        ("0 1 2 3\n0 1 2", "cannot be read as a table of numbers"),
        ("0 1 2 x", "cannot be read as a table of numbers"),
        ("0 1 2 nan", "1 of 1 proposals are not finite"),
        ("0.1 0.1 0.1 0.1", "none of 1 boxes has an area in the image"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(of: dict[str, Any], text: str, message: str) -> None:
    """The message names the sample and the file."""
    with pytest.raises(DataError, match=f"sample 'a': .*a.txt: .*{message}"):
        proposals(of, text)


def test_a_missing_file_is_not_an_empty_one(of: dict[str, Any]) -> None:
    """An image that has boxes needs a file; one that has none does not."""
    with pytest.raises(DataError, match=r"neither .*b.npy nor b.txt exists"):
        reader(of).read(1)
    assert not reader(of).read(2).annotations


def test_the_rest_is_the_other_data_sets(of: dict[str, Any]) -> None:
    """Length, classes, images and other labels are its own; the boxes' kind says that there are proposals."""
    made, plain = reader(of), READERS.make("folder", "", **{key: value for key, value in of.items() if key != "type"})
    proposals(of, "0 1 2 3")
    assert (len(made), made.classes) == (len(plain), plain.classes) and made.kinds == {"boxes": ProposedBoxes}
    assert torch.equal(made.read(0).image, plain.read(0).image)
    assert not made.only([]).read(0).annotations
    assert pickle.loads(pickle.dumps(made)).read(0).id == "a"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"of": {"root": "."}}, "needs the type of a data set"),
        ({"of": {"type": "bsds500"}}, "needs the key 'root'"),
        ({"of": {"type": "scenes", "keep": ["depth"]}}, "carries no boxes under 'boxes', but depth"),
        ({"most": 0}, "most: must be at least 1"),
    ],
)
def test_wrong_keys_are_refused(of: dict[str, Any], change: dict[str, Any], message: str) -> None:
    """The message names the key and the place in the file."""
    with pytest.raises(ConfigError, match=f"a.yaml:3.*{message}"):
        READERS.make("with_proposals", "a.yaml:3", **{"of": of, "proposals": of["root"] + "/proposals", **change})


def test_a_missing_folder_is_named(of: dict[str, Any]) -> None:
    """So is what should be in it."""
    with pytest.raises(DataError, match="there is no folder .*nowhere; it should hold a file ID.npy or ID.txt"):
        WithProposals(of, of["root"] + "/nowhere")
