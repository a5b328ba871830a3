"""Readers by name, as YAML asks for them."""

import inspect
import pickle
from pathlib import Path

import pytest

from tests.data.stubs import picture
from ubertrain.data.files import FileReader
from ubertrain.data.readers import READERS
from ubertrain.errors import ConfigError, DataError

ON_DISK = {
    "bsds500": {"root": "BSDS500"},
    "coco": {"root": "coco"},
    "voc": {"root": "VOCdevkit/VOC2012"},
    "seven_scenes": {"root": "7scenes-redkitchen"},
    "ecssd": {"root": "ECSSD"},
    "clothing_co_parsing": {"root": "clothing-co-parsing"},
}


@pytest.mark.parametrize("name", ON_DISK)
def test_a_name_and_keys_make_a_reader(data_root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each set on disk is made from its name and the keys of YAML, with $VARIABLES in its root; the list is cut as asked."""
    monkeypatch.setenv("PHOTOS", str(data_root))
    reader = READERS.make(name, "a.yaml:3", root="$PHOTOS/" + ON_DISK[name]["root"], take="2:5")
    assert len(reader) == 3
    assert reader.read(2).image.ndim == 3


@pytest.mark.parametrize("name", ON_DISK)
def test_readers_cross_processes(data_root: Path, name: str) -> None:
    """A pickled reader reads the same samples."""
    reader = READERS.make(name, "", root=str(data_root / ON_DISK[name]["root"]), take=":3")
    copy = pickle.loads(pickle.dumps(reader))
    assert [copy.read(index).id for index in range(3)] == [reader.read(index).id for index in range(3)]


@pytest.mark.parametrize("name", [*ON_DISK, "sbd", "folder"])
def test_common_keys_are_common(name: str) -> None:
    """Every set of files takes root, labels, take and drop, and calls itself by its registered name."""
    reader = READERS.get(name)
    assert issubclass(reader, FileReader)
    assert reader.name == name
    assert {"root", "labels", "take", "drop"} <= set(inspect.signature(reader).parameters)


def test_a_wrong_key_gets_a_near_match(tmp_path: Path) -> None:
    """A misspelt key names the data set, the place and what was probably meant; so does a misspelt set."""
    with pytest.raises(ConfigError, match=r"unknown key 'lables' for data set 'folder' in a.yaml:7; did you mean 'labels'"):
        READERS.make("folder", "a.yaml:7", root=str(tmp_path), lables=["boxes"])
    with pytest.raises(ConfigError, match=r"unknown data set 'cocoo' in a.yaml:7; did you mean 'coco'"):
        READERS.make("cocoo", "a.yaml:7", root=str(tmp_path))


def test_an_unquoted_range_says_what_yaml_made_of_it(tmp_path: Path) -> None:
    """YAML reads 1:30 without quotes as the number 90; the message shows it."""
    picture(tmp_path / "images/a.jpg")
    with pytest.raises(ConfigError, match=r"key 'take'.*string.*got 90"):
        READERS.make("folder", "a.yaml:7", root=str(tmp_path), take=90)


def test_a_missing_folder_names_the_place_in_the_file(tmp_path: Path) -> None:
    """What a constructor finds wrong keeps its kind and gets the place in the file."""
    with pytest.raises(DataError, match=r"a.yaml:7.*there is no folder .*/nowhere; it should hold"):
        READERS.make("voc", "a.yaml:7", root=str(tmp_path / "nowhere"))
