"""Parts in left and right pairs."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ubertrain.annotation import ClassMap, Parts, Warp
from ubertrain.annotation.parts import left_and_right, parts_kind

CIHP = (
    "background", "hat", "hair", "gloves", "sunglasses", "upper clothes", "dress", "coat", "socks", "pants", "torso skin",
    "scarf", "skirt", "face", "left arm", "right arm", "left leg", "right leg", "left shoe", "right shoe",
)  # fmt: skip


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (CIHP, ((14, 15), (16, 17), (18, 19))),
        (["left_eye", "none", "right_eye"], ((0, 2),)),
        (["background", "Right-Arm", "Left-Arm", "bright", "leftover"], ((1, 2),)),
        (["background", "head"], ()),
    ],
)
def test_pairs_are_found_by_name(names: list[str], pairs: tuple[tuple[int, int], ...]) -> None:
    """Names that differ in left and right alone are pairs, however they are spaced; words that contain them are not."""
    assert left_and_right(names) == pairs


def test_half_a_pair_is_refused() -> None:
    """A mirrored image would show a part that has no name."""
    with pytest.raises(ValueError, match="there is a class 'left arm' but none called 'right arm'"):
        left_and_right(["background", "left arm"])


def test_a_flip_is_what_the_authors_of_cihp_published(data_root: Path) -> None:
    """The kind made of CIHP's names mirrors each label map to the one that CIHP has for the mirrored image."""
    kind = parts_kind(left_and_right(CIHP))
    for file in sorted((data_root / "CIHP" / "labels").glob("*.png")):
        value, published = (
            torch.from_numpy(np.array(Image.open(data_root / "CIHP" / folder / file.name))).long()
            for folder in ("labels", "labels_rev")
        )
        size = (value.shape[0], value.shape[1])
        assert torch.equal(kind.warp(value, Warp.about(size, size, flip=True)), published)
        assert not torch.equal(Parts.warp(value, Warp.about(size, size, flip=True)), published)


def test_kinds_cross_processes() -> None:
    """A kind that was made is pickled as its pairs, one that has a name by that; both come back as the same class."""
    made = parts_kind([(1, 2)])
    assert issubclass(made, Parts) and issubclass(made, ClassMap)
    assert pickle.loads(pickle.dumps(made)) is made
    assert pickle.loads(pickle.dumps(Parts)) is Parts
    assert pickle.loads(pickle.dumps(Named)) is Named


def test_nothing_in_pairs_is_plain() -> None:
    """No class of its own is made."""
    assert parts_kind([]) is Parts


class Named(Parts):
    """A kind that a reader defines."""

    mirrored = ((1, 2),)
