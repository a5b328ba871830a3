"""What is installed is what stands in the tree."""

import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from ubertrain.data.readers import READERS
from ubertrain.registry import TASKS, TRUNKS

ROOT = Path(__file__).parent.parent
# one process builds the wheel for all tests below
pytestmark = pytest.mark.xdist_group("wheel")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree, so that nothing is left in the tree and nothing old in it is packed."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("ubertrain", "tasks"):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / file).exists():
            shutil.copy(ROOT / file, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", str(source), cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(target),
        str(wheel),
        cwd=target,
    )
    return target


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    """What `command` prints in the folder `cwd`, with `path` as PYTHONPATH; its errors if it fails."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(path or ""),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_module_of_the_tree(wheel: Path) -> None:
    """The explicit list of packages in setup.cfg leaves out no file that the checkout has, and adds none."""
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = ROOT / "ubertrain"
    # two walks, because before Python 3.13 a pattern does not go through the link
    tree = {f"ubertrain/{file.relative_to(package)}" for file in package.rglob("*.py")}
    tree |= {f"ubertrain/tasks/{file.name}" for file in (ROOT / "tasks").glob("*.py")}
    assert packed == tree | {"ubertrain/py.typed", "ubertrain/measuring/devices.yaml"}


def test_the_licence_is_in_the_wheel(wheel: Path) -> None:
    """The licence text comes with the package."""
    assert any(name.endswith("licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


def test_every_name_of_the_tables_is_importable_once_installed(installed: Path, tmp_path: Path) -> None:
    """From another folder, all tasks, trunks and readers come from the installed files, not from the checkout."""
    program = (
        "import inspect; from ubertrain.data.readers import READERS; from ubertrain.registry import TASKS, TRUNKS\n"
        "for table in (TASKS, TRUNKS, READERS):\n"
        "    for name in table.names(): print(inspect.getfile(table.get(name)))"
    )
    files = run(sys.executable, "-c", program, cwd=tmp_path, path=installed).splitlines()
    assert len(files) == sum(len(table.names()) for table in (TASKS, TRUNKS, READERS))
    assert all(Path(file).is_relative_to(installed) for file in files), files


def test_the_command_runs_once_installed(installed: Path, tmp_path: Path) -> None:
    """`python -m ubertrain --help` answers from the installed package, in another folder."""
    assert "train" in run(sys.executable, "-m", "ubertrain", "--help", cwd=tmp_path, path=installed)


def test_every_requirement_has_a_version_for_ci() -> None:
    """Whatever setup.cfg may ask for is pinned in constraints.txt, so that no install of `make` floats."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    lines = [line for text in lists for line in text.splitlines() if line and not line.startswith("#")]
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert {_project(line) for line in lines} <= {_project(pin) for pin in pins if "==" in pin}


def _project(requirement: str) -> str:
    """The name of the project in a requirement, spelled as the index does."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~; ]", requirement)[0]).lower()
