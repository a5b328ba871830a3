"""What `ubertrain data` counts."""

from pathlib import Path

from tests.data.stubs import Listed, cut_short, picture
from ubertrain.data.folder import Folder
from ubertrain.data.inventory import Inventory, count


def test_labels_and_gaps_are_counted() -> None:
    """Images, labels, images without any label, and unreadable ones each have their number."""
    reader = Listed([["depth"], [], None, ["depth", "edges"]])
    labels = {"boxes": 0, "class_map": 0, "depth": 2, "edges": 1, "normals": 0}
    assert count(reader) == Inventory(3, labels, ("1",), ("sample 2 is broken",))


def test_unreadable_files_are_listed_by_name(tmp_path: Path) -> None:
    """A damaged image does not end the count; it is listed with its file and the reason."""
    whole = picture(tmp_path / "images/good.jpg", (60, 80))
    cut_short(whole, tmp_path / "images/bad.jpg", 0.6)
    found = count(Folder(str(tmp_path)))
    assert (found.images, found.unlabelled) == (1, ("good",))
    assert len(found.faults) == 1
    assert "sample 'bad'" in found.faults[0]
    assert "images/bad.jpg: cannot be decoded as an image (" in found.faults[0]
