"""Which prediction belongs to which truth: files that share a name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ubertrain.errors import DataError


@dataclass(frozen=True)
class Naming:
    """How file names tell which image they are about.

    Attributes:
        prediction: what follows the image's id in the names of predictions, e.g. "_leftImg8bit.png"; None: the suffix of any
            format that can be read.
        truth: the same of the truth, e.g. "_gtFine_labelIds.png".
        missing: what to do about a truth without a prediction: "error", or "skip" to score the others.
        only: a file that lists the ids to score, a line each (what follows the first blank is ignored); None: every truth.
    """

    prediction: str | None = None
    truth: str | None = None
    missing: Literal["error", "skip"] = "error"
    only: Path | None = None


PLAIN = Naming()
"""Files are called after their image and nothing else, and every truth needs a prediction."""


class Pair(NamedTuple):
    """The files about one image."""

    id: str
    prediction: Path
    truth: Path


class Pairs(NamedTuple):
    """What is to be scored, in the order of the ids, and id -> why not for the rest."""

    pairs: tuple[Pair, ...]
    skipped: dict[str, str]


def pairs(
    predictions: Path,
    truth: Path,
    endings: Sequence[str],
    truth_endings: Sequence[str] | None = None,
    naming: Naming = PLAIN,
) -> Pairs:
    """Pair the files of two folders, and of the folders in them, by what their names begin with.

    Folders do not matter unless two files in one of the trees have the same name; then the paths must agree.

    Args:
        predictions: a folder, or the only file.
        truth: a folder, or the only file; two files belong together whatever their names.
        endings: which files count as predictions, e.g. (".png", ".npy"), unless `naming` says.
        truth_endings: which as truth; None: the same.
        naming: see there.

    Raises:
        DataError: a folder that does not exist or holds no such file, two files about one image, a truth without a prediction
            (unless `naming.missing` is "skip"), an id of `naming.only` without truth, or nothing to score. Each names the file.
    """
    truth_endings = (naming.truth,) if naming.truth is not None else truth_endings or endings
    endings = (naming.prediction,) if naming.prediction is not None else endings
    if predictions.is_file() and truth.is_file():
        name = _id(truth, truth_endings) or truth.stem
        return Pairs((Pair(name, predictions, truth),), {})
    predicted = _files(predictions, endings, "predictions", "--pred-ending")
    true = _files(truth, truth_endings, "truth", "--truth-ending")
    names = _by_name(predicted), _by_name(true)
    if names[0] is not None and names[1] is not None:
        predicted, true = names[0], names[1]
    return match(predicted, true, predictions, truth, naming)


def match(predicted: Mapping[str, Path], true: Mapping[str, Path], predictions: Path, truth: Path, naming: Naming) -> Pairs:
    """Pair files by their ids; see `pairs`, whose second half this is.

    Args:
        predicted: id -> file.
        true: id -> file.
        predictions: where the predictions were looked for.
        truth: where the truth was looked for.
        naming: see there.
    """
    wanted = listed(naming.only, true, truth) if naming.only is not None else sorted(true)
    absent = [name for name in wanted if name not in predicted]
    if len(absent) == len(wanted):
        raise DataError(
            f"{predictions}: none of the predictions ({_few(predicted)}) has the name of a truth ({_few(wanted)}) in {truth}; "
            "names must agree up to their endings, which --pred-ending and --truth-ending can set"
        )
    if absent and naming.missing == "error":
        raise DataError(
            f"{predictions}: no prediction for {absent[0]!r} ({true[absent[0]]}); {len(absent)} of {len(wanted)} are missing. "
            "Predict them too, list the ids to score with --list, or leave such images out with --skip-missing"
        )
    skipped = dict.fromkeys(absent, "no prediction")
    skipped |= dict.fromkeys(sorted(set(predicted) - set(true)), "no truth")
    return Pairs(tuple(Pair(name, predicted[name], true[name]) for name in wanted if name in predicted), skipped)


def listed(only: Path, true: Mapping[str, Path], truth: Path) -> list[str]:
    """The ids in the file `only`, in its order.

    Raises:
        DataError: the file cannot be read or lists nothing, or an id is not among those of `true`.
    """
    try:
        names = [line.split()[0] for line in only.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{only}: cannot be read as a list of ids ({error})") from error
    if not names:
        raise DataError(f"{only}: lists no ids; expected one a line")
    if unknown := [name for name in names if name not in true]:
        raise DataError(
            f"{only}: {unknown[0]!r} has no truth in {truth} (which has {_few(true)}); {len(unknown)} ids have none"
        )
    return list(dict.fromkeys(names))


def by_id(folder: Path, endings: Sequence[str], what: str) -> dict[str, Path]:
    """The files in and under `folder` by what stands before their ending: names, or, should two be the same, paths.

    Raises:
        DataError: there is no such folder, no such file, or two files with one id; the message calls them `what`.
    """
    files = _files(folder, endings, what)
    names = _by_name(files)
    return files if names is None else names


def _files(folder: Path, endings: Sequence[str], what: str, option: str | None = None) -> dict[str, Path]:
    """As `by_id`, by paths relative to the folder; messages name the `option` that sets the ending."""
    if not folder.exists():
        raise DataError(f"{folder}: there is no such file or folder; it should hold the {what}")
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        name = _id(file, endings)
        if name is None or file.name.startswith(".") or not file.is_file():
            continue
        path = (file.relative_to(folder).parent / name).as_posix()
        if path in found:
            hint = f"say which with {option}, e.g. {file.suffix}" if option else "keep one"
            raise DataError(f"{found[path]} and {file} are both {what} of {name!r}; {hint}")
        found[path] = file
    if not found:
        hint = f" ({option} can set another)" if option else ""
        raise DataError(f"{folder}: no {what}; expected files that end in {', '.join(endings)}{hint}")
    return found


def _by_name(files: Mapping[str, Path]) -> dict[str, Path] | None:
    """The files by the last part of their paths, or None if two have the same."""
    names = {path.rpartition("/")[2]: file for path, file in files.items()}
    return names if len(names) == len(files) else None


def _id(file: Path, endings: Sequence[str]) -> str | None:
    """The name without its ending; None if it has none of these. The suffix counts in capitals, too: .PNG is .png."""
    name = file.stem + file.suffix.lower()
    for ending in endings:
        stem, dot, suffix = ending.rpartition(".")
        if name.endswith(stem + dot + (suffix.lower() if dot else suffix)) and len(name) > len(ending):
            return file.name[: len(name) - len(ending)]
    return None


def _few(names: Mapping[str, object] | Sequence[str]) -> str:
    """The first of the names, and that there are more."""
    shown = ", ".join(repr(name) for name in sorted(names)[:3])
    return f"{shown}, ..." if len(names) > 3 else shown
