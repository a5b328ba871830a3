"""Names of classes: lists that are known, and lists in files."""

from pathlib import Path

from ubertrain.data.voc import CLASSES
from ubertrain.errors import ConfigError
from ubertrain.scoring.id_maps import CITYSCAPES

KNOWN_CLASSES = {
    "voc": ("background", *CLASSES),
    "sbd": CLASSES,
    "cityscapes": CITYSCAPES,
    "person_part": ("background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs"),
}
"""Lists of classes that have a name."""


def object_names(text: str) -> tuple[str, ...]:
    """As `class_names`, for what has no background: a list of `KNOWN_CLASSES` is without it, so that its first object is 0."""
    names = class_names(text)
    return names[1:] if text in KNOWN_CLASSES and names[0] == "background" else names


def class_names(text: str) -> tuple[str, ...]:
    """The classes that `text` stands for: a number of them, a list of `KNOWN_CLASSES`, or a file with a name in every line.

    Raises:
        ConfigError: it is none of these, or the file holds no or the same name twice.
    """
    if text in KNOWN_CLASSES:
        return KNOWN_CLASSES[text]
    if text.isdecimal() and int(text) > 0:
        return tuple(map(str, range(int(text))))
    file = Path(text)
    if not file.is_file():
        raise ConfigError(
            f"classes: {text!r} is neither a number of classes, nor a file with a name in every line, nor one of "
            f"{', '.join(KNOWN_CLASSES)}"
        )
    names = tuple(line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"classes: {file} must hold different names, one in every line; it has {len(names)}")
    return names
