"""What the pages of docs/ show, run as it stands there.

Python blocks of a page run one after another in an empty folder and share their names; a block that begins with the docstring
`"nearby.py: ..."` is a file that later blocks import. A YAML block is an experiment, in the file that its first line names. A
command must exist, with its options and with the configurations it names.
"""

import configparser
import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from typer.testing import CliRunner

from ubertrain.cli.main import app
from ubertrain.engine.engine import Engine
from ubertrain.registry import TASKS
from ubertrain.training.build import make_model, make_readers
from ubertrain.training.config import Config, TaskConfig, TrunkConfig, load
from ubertrain.training.fullest import full_batch
from ubertrain.training.planner import make_planner

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
_BLOCK = re.compile(r"^(<!-- not run -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LANGUAGES = {"python", "yaml", "sh", "ini", "text"}


@dataclass(frozen=True)
class Block:
    """A block of code and where it stands."""

    language: str
    text: str
    exempt: bool
    line: int

    @property
    def file(self) -> str | None:
        """The file it stands for, if it says so."""
        match = re.match(r'"""(\w+\.py):|# (\w+\.yaml)\n', self.text)
        return match and (match[1] or match[2])


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(match[2], match[3], match[1] is not None, text.count("\n", 0, match.start(3)) + 1)
        for match in _BLOCK.finditer(text)
    ]


def pages_with(language: str) -> list[Any]:
    """The pages that hold such blocks, as parameters."""
    return [pytest.param(page, id=page.stem) for page in PAGES if any(block.language == language for block in blocks(page))]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, whose modules can be imported; they and their tasks are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(TASKS, "_paths", dict(TASKS._paths))
    monkeypatch.setattr(TASKS, "_classes", dict(TASKS._classes))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def run_python(page: Path, folder: Path, *, files_alone: bool = False) -> None:
    """Write the page's files into the folder and import them, and run its other blocks between."""
    names: dict[str, Any] = {"__name__": "docs"}
    for block in blocks(page):
        if block.language != "python" or block.exempt:
            continue
        if block.file:
            (folder / block.file).write_text(block.text)
            importlib.invalidate_caches()
            importlib.import_module(Path(block.file).stem)
        elif not files_alone:
            # Lines in tracebacks are those of the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_blocks_are_told_apart(page: Path) -> None:
    """Every fence opens or closes a block of a known language, and none escapes the tests below."""
    found = blocks(page)
    assert page.read_text().count("```") == 2 * len(found)
    assert {block.language for block in found} <= _LANGUAGES


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_code_runs(page: Path, folder: Path) -> None:
    """The Python runs from top to bottom; then every experiment can be built: its keys, its data and its schedule fit."""
    run_python(page, folder)
    for block in blocks(page):
        if block.language == "yaml" and not block.exempt:
            assert block.file, f"line {block.line}: begin the experiment with the name of its file, like # my.yaml"
            (folder / block.file).write_text(block.text)
            build(folder / block.file)


def build(file: Path) -> None:
    """Do with a configuration what training does before its first step."""
    config = load(file)
    sets = make_readers(config, "train")
    model = make_model(config, sets, make_readers(config, "val"))
    batch = full_batch(config, model.tasks, sets) if config.memory.budget else None
    Engine(model.graph, make_planner(config, model.graph, batch).schedule)


@pytest.mark.parametrize("page", pages_with("sh"))
def test_commands_exist(page: Path) -> None:
    """Every command takes the arguments and options it is shown with, and its configuration is on the page or with us."""
    shown = {block.file for block in blocks(page)}
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    commands = [line for line in lines if line.startswith("ubertrain ")]
    assert commands
    for line in commands:
        words = shlex.split(line)[1:]
        parse(words)
        assert all(word in shown or (ROOT / word).is_file() for word in words if word.endswith(".yaml")), line


@pytest.mark.parametrize("page", [page for page in pages_with("sh") if "ubertrain score" in page.values[0].read_text()])
def test_scores_are_computed(page: Path, folder: Path) -> None:
    """What a page scores is made by its Python, and every such command ends well and prints a score."""
    pytest.importorskip("faster_coco_eval")
    run_python(page, folder)
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    for line in (line for line in lines if line.startswith("ubertrain score")):
        result = CliRunner().invoke(app, [*shlex.split(line)[1:], "--json"])
        assert result.exit_code == 0, (line, result.stderr)
        assert '"scores"' in result.stdout


def parse(words: list[str]) -> None:
    """Raise unless the command line understands these words; nothing is run."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("ubertrain", list(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, list(rest), parent=context)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    """The check of commands can fail."""
    parse(["train", "my.yaml", "--resume"])
    for words in (["trane", "my.yaml"], ["train", "my.yaml", "--rezume"], ["train"]):
        with pytest.raises(Exception, match=r"No such|Missing"):
            parse(words)


@pytest.mark.parametrize("page", pages_with("ini"))
def test_announced_classes_exist(page: Path, folder: Path) -> None:
    """What a setup.cfg on the page announces is a class of the page, registered under that very name."""
    run_python(page, folder, files_alone=True)
    for block in blocks(page):
        if block.language == "ini":
            parser = configparser.ConfigParser()
            parser.read_string(block.text)
            points = parser["options.entry_points"]["ubertrain.tasks"].split("\n")
            for name, path in (map(str.strip, point.split("=")) for point in points if point):
                module, _, cls = path.partition(":")
                assert getattr(importlib.import_module(module), cls).name == name


def keys(model: type[BaseModel]) -> set[str]:
    """Every key of a part of the configuration and of the parts in it."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= keys(part)
    return found


def test_every_key_is_explained() -> None:
    """The experiment of the first page says every key that configurations have."""
    (text,) = [block.text for block in blocks(ROOT / "docs" / "getting-started.md") if block.file == "experiment.yaml"]
    expected = keys(Config) | keys(TrunkConfig) | keys(TaskConfig)
    assert {"weight", "head_lr", "on_error"} < expected
    assert {key for key in expected if not re.search(rf"\b{key}:", text)} == set()


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in [*PAGES, ROOT / "README.md"]])
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file of the repository."""
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    assert [link for link in links if not (page.parent / link).exists()] == []
