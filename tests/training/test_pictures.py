"""Which samples are drawn, and how."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.stubs import KINDS, Listed, blank
from tests.rooms import write_config, write_rooms
from ubertrain.annotation.picture import Tile, contact_sheet
from ubertrain.data.reader import Reader
from ubertrain.data.sample import Sample
from ubertrain.training.build import make_model, make_readers, prepare
from ubertrain.training.config import load
from ubertrain.training.pictures import draw_pictures, spread


class Counted(Listed):
    """Counts what is read."""

    reads = 0

    def read(self, index: int) -> Sample:
        self.reads += 1
        return super().read(index)


def test_rare_labels_are_found() -> None:
    """Every label is shown as often as asked for, wherever its samples stand."""
    samples = spread(Listed([["depth"]] * 20 + [["edges"]] * 2), 2)
    assert [set(sample.annotations) for sample in samples].count({"edges"}) == 2


def test_a_label_that_nobody_carries_is_not_searched_for_without_end() -> None:
    """A set of many images is not read through for the sake of a picture."""
    reader = Counted([["depth"]] * 250)
    assert len(spread(reader, 2)) == 2
    assert reader.reads <= 100


class Upright(Reader):
    """One white image, higher than wide and larger than a sheet shows, without a label pixel of anything."""

    kinds = KINDS
    size = (900, 600)

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> Sample:
        labels = {label: blank(label, self.size, 0) for label in KINDS}
        return Sample("upright", torch.full((3, *self.size), 255, dtype=torch.uint8), labels, "memory")


def test_upright_images_are_shown_without_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image, truth and prediction of every task have the shape of the photograph, though the input is wider than high."""
    config = load(write_config(tmp_path, write_rooms(tmp_path / "data")))
    prepare(config)
    model = make_model(config, make_readers(config, "train"))
    tiles: list[Tile] = []

    def noted(rows: Sequence[Sequence[Tile]]) -> np.ndarray:
        tiles.extend(tile for row in rows for tile in row)
        return contact_sheet(rows)

    monkeypatch.setattr("ubertrain.training.pictures.contact_sheet", noted)
    files = draw_pictures(model.graph, model.tasks, model.config, {"upright": Upright()}, tmp_path / "pictures")
    assert len(files) == len(model.tasks) and len(tiles) == 3 * len(model.tasks)
    assert {tile.picture.shape for tile in tiles if tile.picture is not None} == {(400, 267, 3)}
    assert all((tile.picture == 255).all() for tile in tiles[::3] if tile.picture is not None)
