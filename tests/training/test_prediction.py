"""Answers for images of any size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.rooms import write_config, write_rooms
from ubertrain.annotation.class_map import ClassMap
from ubertrain.errors import DataError
from ubertrain.training.build import Model, make_model, make_readers, prepare
from ubertrain.training.config import load
from ubertrain.training.prediction import predict, write_predictions


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The room experiment's model; its input is 48 high and 64 wide."""
    config = load(write_config(tmp_path, write_rooms(tmp_path / "data")))
    prepare(config)
    return make_model(config, make_readers(config, "train"))


class LeftHalf(nn.Module):
    """A head of boxes that finds the left half of the input, and nothing else."""

    def forward(self, levels: Any) -> dict[str, torch.Tensor]:
        box = torch.tensor([[[0.0, 0.0, 32.0, 48.0], [0.0, 0.0, 0.0, 0.0]]])
        return {"boxes": box, "scores": torch.tensor([[0.75, 0.0]]), "classes": torch.tensor([[0, -1]])}


class Everywhere(nn.Module):
    """A head of classes that finds the second one on the photograph, and the first one beside it."""

    def forward(self, levels: Any) -> torch.Tensor:
        scores = torch.zeros(1, 2, 48, 64)
        scores[:, 1, :, 16:48] = 10
        return scores


def photo(folder: Path, height: int, width: int) -> Path:
    """An image file of this size."""
    file = folder / f"photo{height}x{width}.png"
    Image.fromarray(np.full((height, width, 3), 128, np.uint8)).save(file)
    return file


@pytest.mark.parametrize(
    ("size", "box"),
    [((96, 128), [0, 0, 64, 96]), ((48, 32), [0, 0, 16, 48]), ((24, 64), [0, 0, 32, 24])],
    ids=["twice as large", "upright: grey bars left and right", "flat: bars above and below"],
)
def test_boxes_are_in_the_coordinates_of_the_image(tmp_path: Path, model: Model, size: Any, box: list[float]) -> None:
    """A box of the input is mapped back to the image and cut to it, whatever was padded; padding rows are left out."""
    model.graph.heads["boxes"] = LeftHalf()
    found = predict(model.graph, model.tasks, model.config, photo(tmp_path, *size))
    (entry,) = found.boxes["boxes"]
    assert entry["box"] == pytest.approx(box)
    assert (entry["score"], entry["class"], entry["name"]) == (0.75, 0, "box")
    framed = (found.pictures["boxes"] != 128).any(axis=-1)
    assert framed.any(axis=1).all() and framed[:, : int(box[2])].any(axis=0).all()
    assert framed[size[0] - 1, : int(box[2])].all() and not framed[size[0] - 1, int(box[2]) :].any()


def test_an_upright_photo_keeps_its_legend_and_its_pixels(tmp_path: Path, model: Model) -> None:
    """The picture of a photo that fills half of the input is the one that is drawn on the photo itself, without bars."""
    model.graph.heads["segmentation"] = Everywhere()
    pixels = np.random.default_rng(0).integers(0, 256, (240, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "upright.png")
    found = predict(model.graph, model.tasks, model.config, tmp_path / "upright.png")
    named = ClassMap.draw_named(pixels, np.ones((240, 160), np.int64), ["wall", "box"])
    assert np.array_equal(found.pictures["segmentation"], named)
    assert (named[-20:, :20] != ClassMap.draw(pixels, np.ones((240, 160), np.int64))[-20:, :20]).any()


def test_every_task_draws_a_picture_of_the_images_size(tmp_path: Path, model: Model) -> None:
    """Pictures of all tasks, a sheet and the boxes are written; files of one name are kept apart."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = [photo(tmp_path / "a", 50, 70), photo(tmp_path / "b", 50, 70)]
    predicted = [predict(model.graph, model.tasks, model.config, file) for file in files]
    written = write_predictions(predicted, tmp_path / "out")
    assert len(written) == 2 * 5 + 2
    assert {path.name for path in written} >= {"photo50x70-1_depth.png", "photo50x70-2_boxes.png", "sheet.png", "boxes.json"}
    for path in written[:-2]:
        with Image.open(path) as picture:
            assert picture.size == (70, 50)
    assert json.loads((tmp_path / "out" / "boxes.json").read_text()).keys() == set(map(str, files))


def test_the_sheet_of_large_photos_is_small(tmp_path: Path, model: Model) -> None:
    """Pictures keep the photo's size, the sheet of all of them does not multiply it."""
    predicted = predict(model.graph, model.tasks, model.config, photo(tmp_path, 1200, 1600))
    written = {path.name: path for path in write_predictions([predicted], tmp_path / "out")}
    with Image.open(written["photo1200x1600_depth.png"]) as picture, Image.open(written["sheet.png"]) as sheet:
        assert picture.size == (1600, 1200)
        assert sheet.size[0] <= 6 * 500


def test_a_phones_photo_is_seen_upright(tmp_path: Path, model: Model) -> None:
    """A photo that is stored lying down is answered as it is displayed."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(tmp_path / "phone.jpg", exif=exif)
    predicted = predict(model.graph, model.tasks, model.config, tmp_path / "phone.jpg")
    assert {picture.shape for picture in predicted.pictures.values()} == {(64, 48, 3)}


def test_what_is_no_image_is_named(tmp_path: Path, model: Model) -> None:
    """A file that cannot be read is an error with its name."""
    (tmp_path / "notes.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"notes\.jpg"):
        predict(model.graph, model.tasks, model.config, tmp_path / "notes.jpg")
