"""The table of devices, the files that extend it, and what is refused in them."""

from pathlib import Path

import pytest

from ubertrain.errors import ConfigError
from ubertrain.measuring.devices import BANDWIDTH_REACHED, COMPUTE_REACHED, USER_FILE, device_memory, find_device

NVIDIA = (
    "a100-40gb", "a100-80gb", "h100", "h100-pcie", "h200", "b200", "l4", "l40s", "a10", "a40", "v100-16gb", "v100-32gb", "t4",
    "p100", "rtx-2080ti", "rtx-3090", "rtx-4090", "rtx-5090", "rtx-a6000",
)  # fmt: skip
NAMES = (*NVIDIA, "mi250x", "mi300x", "cpu")
TOY = "toy: {tflops: {float32: 2, bfloat16: 8}, gb_per_s: 100, memory: 3GiB}\n"


@pytest.fixture(autouse=True)
def only_what_comes_with_ubertrain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of whoever runs the tests has no say."""
    monkeypatch.delenv(USER_FILE, raising=False)


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    """A file that holds `text`."""
    file = folder / name
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_of_a_plausible_size(name: str) -> None:
    """A slip of the unit, or of a factor of a thousand, would be outside of these bounds."""
    row = find_device(name)
    assert 1 <= row.tflops.float32 <= 200
    assert 1e2 <= row.gb_per_s <= 1e4
    assert 8 * 2**30 <= row.memory <= 300 * 2**30
    assert 1 <= row.overhead_us <= 20


@pytest.mark.parametrize("name", NAMES)
def test_fewer_bits_are_never_slower(name: str) -> None:
    """float32 <= tf32 <= bfloat16 and float16, where a row has them: tensor cores are what they are for."""
    peaks = find_device(name).tflops
    tf32 = peaks.tf32 or peaks.float32
    assert peaks.float32 <= tf32 <= min(peaks.bfloat16 or tf32, peaks.float16 or tf32)


@pytest.mark.parametrize("name", [name for name in NAMES if find_device(name).tflops.tf32])
def test_peaks_are_dense(name: str) -> None:
    """The tensor cores of every card take TF32 at half the rate of bfloat16; a sparse figure in one of the places shows."""
    peaks = find_device(name).tflops
    assert peaks.tf32 and peaks.bfloat16
    assert peaks.bfloat16 / peaks.tf32 == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize(
    ("name", "row"),
    [("a100", "a100-80gb"), ("H100", "h100"), ("RTX 4090", "rtx-4090"), ("rtx_2080_ti", "rtx-2080ti"), (" v100 ", "v100-32gb")],
)
def test_names_are_taken_as_people_write_them(name: str, row: str) -> None:
    """Aliases, capitals, blanks and underscores."""
    assert find_device(name) == find_device(row)


def test_an_estimate_takes_the_documented_fraction_of_the_peaks(tmp_path: Path) -> None:
    """FLOP/s, bytes/s and seconds, in base units; a dtype without a figure has none."""
    speed = find_device("toy", written(tmp_path, TOY)).speed()
    assert speed.flops == pytest.approx({"float32": COMPUTE_REACHED * 2e12, "bfloat16": COMPUTE_REACHED * 8e12})
    assert speed.bytes_per_second == pytest.approx(BANDWIDTH_REACHED * 100e9)
    assert speed.overhead == pytest.approx(5e-6)


def test_memory_is_in_bytes(tmp_path: Path) -> None:
    """3GiB are 3 * 2**30."""
    assert device_memory("toy", written(tmp_path, TOY)) == 3 * 2**30


def test_a_users_file_adds_rows_and_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variable names it."""
    before = find_device("h100")
    monkeypatch.setenv(USER_FILE, str(written(tmp_path, TOY)))
    assert find_device("toy").gb_per_s == 100
    assert find_device("h100") == before


def test_a_users_row_wins_also_under_its_old_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever corrects a100-80gb means a100 too."""
    monkeypatch.setenv(USER_FILE, str(written(tmp_path, TOY.replace("toy", "A100-80GB"))))
    assert find_device("a100").gb_per_s == 100


def test_a_users_alias_wins_over_a_row(tmp_path: Path) -> None:
    """Even over one that comes with ubertrain."""
    assert find_device("h100", written(tmp_path, TOY.replace("memory", "aliases: [H100], memory"))).gb_per_s == 100


def test_the_argument_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is nearer counts; rows that only the farther file has are still found."""
    other = TOY.replace("100", "200") + TOY.replace("toy", "tic")
    monkeypatch.setenv(USER_FILE, str(written(tmp_path, other, "environment.yaml")))
    nearer = written(tmp_path, TOY)
    assert find_device("toy", nearer).gb_per_s == 100
    assert find_device("tic", nearer).gb_per_s == 100
    assert find_device("toy").gb_per_s == 200


@pytest.mark.parametrize(("name", "near"), [("h10O", "h100"), ("rtx4090", "rtx-4090"), ("a6001", "a6000")])
def test_an_unknown_name_is_refused_with_the_nearest_and_all_known(name: str, near: str) -> None:
    """Aliases are near matches too, and the message says how to add a device."""
    with pytest.raises(
        ConfigError, match=f"unknown device '{name}'; did you mean '{near}'.*known: a100-40gb.*cpu.*{USER_FILE}"
    ):
        find_device(name)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("toy: {tflops: {float32: 2}, memory: 3GiB}", "the key 'toy.gb_per_s' is missing"),
        (TOY.replace("gb_per_s", "gb_per_sec"), "toy.gb_per_sec: unknown key 'gb_per_sec'; did you mean 'gb_per_s'"),
        (TOY.replace("bfloat16", "bfloat"), "toy.tflops.bfloat: unknown key 'bfloat'; did you mean 'bfloat16'"),
        (TOY.replace("100", "-1"), "toy.gb_per_s: should be greater than 0, got -1"),
        (TOY.replace("100", "fast"), "toy.gb_per_s: should be a valid number.*got 'fast'"),
        (TOY.replace("100", ".inf"), "toy.gb_per_s: should be a finite number"),
        (TOY.replace("3GiB", "3 bytes a day"), "toy.memory: '3 bytes a day' is not a number of bytes"),
        (TOY.replace("memory", "aliases: [t, toy], memory"), "the name 'toy' stands for two devices"),
        (TOY + TOY.replace("toy", "Toy"), "two devices"),
        (TOY.replace("toy", "auto"), "auto: no device can have this name"),
        ("- toy", "expected a mapping of device names to figures, got list"),
        ("", "expected a mapping of device names to figures, got NoneType"),
        ("toy: {", "not valid YAML"),
    ],
)
def test_a_malformed_file_is_refused_with_file_and_key(text: str, complaint: str, tmp_path: Path) -> None:
    """What is wrong, where, and what would be right."""
    with pytest.raises(ConfigError, match=rf"(?s)mine\.yaml: .*{complaint}"):
        find_device("toy", written(tmp_path, text))


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    """One line each."""
    with pytest.raises(ConfigError) as error:
        find_device("toy", written(tmp_path, TOY.replace("100", "0").replace("3GiB", "0")))
    assert len(str(error.value).splitlines()) == 2


def test_a_missing_file_is_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the name asked for is one that comes with ubertrain: the user's wish cannot be honoured."""
    monkeypatch.setenv(USER_FILE, str(tmp_path / "gone.yaml"))
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot read the devices: No such file"):
        find_device("h100")
