"""The public names, and what importing them costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ubertrain as ut

ROOT = Path(__file__).parent.parent


def facade(part: str) -> dict[str, str]:
    """Public name -> where it is imported from, as the statements in one part of the facade's source say.

    Args:
        part: "body" for what is imported at once, "checkers" for what type checkers see.
    """
    tree = ast.parse((ROOT / "ubertrain" / "__init__.py").read_text())
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in (tree.body if part == "body" else branch.body) if isinstance(node, ast.ImportFrom)]
    return {
        name.name: f"ubertrain.{name.name}" if node.module == "ubertrain" else f"{node.module}:{name.name}"
        for node in imports
        for name in node.names
        if name.asname == name.name
    }


def test_type_checkers_see_what_there_is() -> None:
    """The imports for type checkers and the table that serves at run time name the same things in the same places."""
    assert facade("checkers") == ut._HOMES


@pytest.mark.parametrize("name", sorted({**facade("body"), **facade("checkers")}))
def test_every_public_name_is_there(name: str) -> None:
    """Each name leads to an object, is listed by `dir`, and is the same object every time."""
    assert getattr(ut, name) is getattr(ut, name)
    assert name in dir(ut)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The facade answers a misspelt name as any module does."""
    with pytest.raises(AttributeError, match="module 'ubertrain' has no attribute 'Grpah'"):
        ut.Grpah  # noqa: B018


@pytest.mark.parametrize("module", ["ubertrain", "ubertrain.registry", "ubertrain.cli.main", "ubertrain.planning"])
def test_what_needs_no_torch_imports_none(module: str) -> None:
    """The facade, the registry, the command line and the whole planner, file by file, are imported without torch."""
    names = [module]
    if module == "ubertrain.planning":
        names += [f"{module}.{file.stem}" for file in (ROOT / "ubertrain" / "planning").glob("[a-z]*.py")]
    program = f"import importlib, sys; [importlib.import_module(name) for name in {names}]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
