"""Classes found by name: ours, third parties', and by import path."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ubertrain.data.readers import READERS
from ubertrain.errors import ConfigError, DataError, UbertrainError
from ubertrain.registry import TASKS, TRUNKS, Registry, register_task
from ubertrain.task import Task

WriteModule = Callable[[str, str], None]

SHAPE = """
class Shape:
    pass

class Square(Shape):
    def __init__(self, *, side: int, colour: str = "red", corners: tuple[int, ...] = (), scale: float = 1.0):
        self.side, self.colour, self.corners, self.scale = side, colour, corners, scale

class Outer:
    class Dot(Shape):
        pass

def circle():
    pass
"""


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Write a module or a package's entry_points.txt that can be imported, until the test ends, by its dotted name."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def shapes(write_module: WriteModule) -> "Registry[Any]":
    """A registry of two built-in names in a module of their own."""
    write_module("shapes_ours.py", SHAPE)
    builtin = {"square": "shapes_ours:Square", "circle": "shapes_ours:circle"}
    return Registry("shape", builtin, group="tests.shapes", base="shapes_ours:Shape")


def announce(write_module: WriteModule, package: str, line: str) -> None:
    """Install a package of which the registry learns one entry point."""
    write_module(f"{package}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    write_module(f"{package}-1.0.dist-info/entry_points.txt", f"[tests.shapes]\n{line}\n")


def test_a_name_is_imported_when_it_is_asked_for(shapes: "Registry[Any]") -> None:
    """Listing names imports nothing; getting one imports its module."""
    assert shapes.names() == ["square", "circle"]
    assert "shapes_ours" not in sys.modules
    assert shapes.get("square") is sys.modules["shapes_ours"].Square


def test_an_unknown_name_is_answered_with_the_nearest_and_all(shapes: "Registry[Any]") -> None:
    """The message says what is unknown, where it stands, the near match and every known name."""
    expected = r"unknown shape 'sqare' in x\.yaml: shapes\.sqare; did you mean 'square\'\? known: square, circle"
    with pytest.raises(ConfigError, match=expected):
        shapes.get("sqare", "x.yaml: shapes.sqare")


def test_a_name_far_from_all_is_answered_without_a_guess(shapes: "Registry[Any]") -> None:
    """Where nothing is near there is no "did you mean"."""
    with pytest.raises(ConfigError, match=r"^unknown shape 'zzz'; known: square, circle;"):
        shapes.get("zzz")


@pytest.mark.parametrize(("path", "name"), [("shapes_ours:Square", "Square"), ("shapes_ours:Outer.Dot", "Dot")])
def test_an_import_path_is_a_name(shapes: "Registry[Any]", path: str, name: str) -> None:
    """A class that nobody registered is found by "package.module:Class", nested classes included."""
    assert shapes.get(path).__name__ == name


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("shapes_ours:", 'written "package.module:Class"'),
        (":Square", 'written "package.module:Class"'),
        (".shapes:Square", 'written "package.module:Class"'),
        ("no_such_module:Square", "No module named 'no_such_module'"),
        ("shapes_ours:Sqare", "shapes_ours has no 'Sqare'; did you mean 'Square'?"),
        ("shapes_ours:Outer.Dit", "shapes_ours has no 'Outer.Dit'"),
        ("shapes_ours:circle", "expected a class that derives from shapes_ours:Shape"),
        ("shapes_ours:Outer", "expected a class that derives from shapes_ours:Shape"),
        ("circle", "expected a class that derives from shapes_ours:Shape"),
    ],
)
def test_a_path_that_leads_nowhere_says_why(shapes: "Registry[Any]", path: str, problem: str) -> None:
    """A malformed path, a missing module or class, and what is no class of the kind are errors that name path and place."""
    with pytest.raises(ConfigError) as caught:
        shapes.get(path, "x.yaml: shapes")
    assert problem in str(caught.value)
    assert "in x.yaml: shapes" in str(caught.value)


def test_a_module_that_fails_to_import_shows_its_own_error(shapes: "Registry[Any]", write_module: WriteModule) -> None:
    """An error inside a module, other than a missing import, is its author's and stays what it is."""
    write_module("broken_shape.py", "import sys\nsys.no_such_thing\n")
    with pytest.raises(AttributeError, match="no_such_thing"):
        shapes.get("broken_shape:Square")


def test_installed_packages_add_names(shapes: "Registry[Any]", write_module: WriteModule) -> None:
    """An entry point of the group is a name, after ours, and is imported when it is asked for."""
    write_module("shapes_theirs.py", "import shapes_ours\nclass Star(shapes_ours.Shape): pass\n")
    announce(write_module, "shapes_theirs", "star = shapes_theirs:Star")
    assert shapes.names() == ["square", "circle", "star"]
    assert "shapes_theirs" not in sys.modules
    assert shapes.get("star").__name__ == "Star"


def test_an_installed_package_cannot_take_a_name(shapes: "Registry[Any]", write_module: WriteModule) -> None:
    """An entry point under a built-in name is an error at the first look-up, and at every later one."""
    announce(write_module, "shapes_theirs", "square = shapes_theirs:Square")
    for _ in range(2):
        with pytest.raises(ConfigError, match="already registered by shapes_ours:Square; refusing shapes_theirs:Square"):
            shapes.get("square")


def test_an_installed_package_may_register_what_it_announces(shapes: "Registry[Any]", write_module: WriteModule) -> None:
    """A class that is both an entry point and decorated with the same name is one class, not a conflict."""
    write_module("shapes_theirs.py", "import shapes_ours\nclass Star(shapes_ours.Shape): pass\n")
    announce(write_module, "shapes_theirs", "star = shapes_theirs:Star")
    star = importlib.import_module("shapes_theirs").Star
    assert shapes.register("star")(star) is star
    assert shapes.get("star") is star


def test_a_name_has_one_class(shapes: "Registry[Any]") -> None:
    """Registering a second class under a name is an error that names both."""
    shapes.register("disc")(shapes.get("shapes_ours:Outer.Dot"))
    with pytest.raises(ConfigError, match="'disc' is already registered by shapes_ours:Outer.Dot; refusing shapes_ours:Square"):
        shapes.register("disc")(shapes.get("square"))


def test_a_reloaded_class_takes_its_own_place(shapes: "Registry[Any]") -> None:
    """A class that comes again under the same import path, from a reload or a notebook cell, replaces itself."""
    first = shapes.get("square")
    second = importlib.reload(sys.modules["shapes_ours"]).Square
    assert shapes.register("square")(second) is second is not first
    assert shapes.get("square") is second


def test_values_arrive_as_the_constructor_wants_them(shapes: "Registry[Any]") -> None:
    """Keywords reach the constructor, what YAML cannot write converted to the annotated types, the rest by default."""
    square = shapes.make("square", "x.yaml: shapes.square", side=3, corners=[1, 2], scale="1e-3")
    assert (square.side, square.corners, square.scale, square.colour) == (3, (1, 2), 0.001, "red")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"sid": 3},
            "unknown key 'sid' for shape 'square' in x.yaml: a; did you mean 'side'? allowed: side, colour, corners, scale",
        ),
        ({"side": 3, "zzz": 1}, "unknown key 'zzz' for shape 'square' in x.yaml: a; allowed: side, colour, corners, scale"),
        ({}, "shape 'square' in x.yaml: a needs the key 'side'; allowed: side, colour, corners, scale"),
        ({"side": "wide"}, "shape 'square' in x.yaml: a: key 'side': Input should be a valid integer"),
        ({"side": 3, "corners": [1, "b"]}, "shape 'square' in x.yaml: a: key 'corners'[1]: Input should be a valid integer"),
    ],
)
def test_a_wrong_key_or_value_is_named(shapes: "Registry[Any]", keywords: dict[str, Any], message: str) -> None:
    """Unknown, missing and ill-typed keys are told by name, with where they stand and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        shapes.make("square", "x.yaml: a", **keywords)
    assert str(caught.value).startswith(message)


def test_keys_are_checked_without_making(shapes: "Registry[Any]") -> None:
    """What is wrong is told as `make` tells it; a key that is missing may yet come."""
    shapes.check("square", "x.yaml: a", corners=[1, 2])
    for keywords, message in (({"sid": 3}, "did you mean 'side'"), ({"side": "wide"}, "key 'side': Input should be")):
        with pytest.raises(ConfigError, match=message):
            shapes.check("square", "x.yaml: a", **keywords)


def test_a_class_without_keys_says_so(shapes: "Registry[Any]") -> None:
    """A key for a class that has none is answered with "allowed: none"."""
    with pytest.raises(ConfigError, match=r"unknown key 'side' for shape 'shapes_ours:Outer.Dot' in x.yaml; allowed: none"):
        shapes.make("shapes_ours:Outer.Dot", "x.yaml", side=1)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(ValueError, ConfigError), (TypeError, ConfigError), (ConfigError, ConfigError), (DataError, DataError)],
)
def test_a_constructor_that_refuses_is_told_with_its_place(raised: type[Exception], expected: type[UbertrainError]) -> None:
    """Plain errors of a constructor become configuration errors, ours keep their type; all name class and place."""
    registry: Registry[Any] = Registry("shape", {}, group="tests.shapes")

    @registry.register("line")
    class Line:
        def __init__(self, length: int) -> None:
            raise raised("too long")

    with pytest.raises(expected, match=r"^shape 'line' in x.yaml: b: too long$") as caught:
        registry.make("line", "x.yaml: b", length=9)
    assert type(caught.value) is expected


def test_an_error_that_no_value_explains_stays_what_it_is() -> None:
    """What is neither a TypeError nor a ValueError is a bug of the class, not of the configuration."""
    registry: Registry[Any] = Registry("shape", {}, group="tests.shapes")

    @registry.register("line")
    class Line:
        def __init__(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        registry.make("line", "x.yaml")


def test_a_constructor_that_takes_anything_gets_it() -> None:
    """With `**keywords` every key is allowed, those included that `make` itself uses."""
    registry: Registry[Any] = Registry("shape", {}, group="tests.shapes")

    @registry.register("any")
    class Anything:
        def __init__(self, *values: int, **keywords: Any) -> None:
            self.keywords = keywords

    assert registry.make("any", "x.yaml", name="n", where="w").keywords == {"name": "n", "where": "w"}
    assert registry.keywords("any") == {}


def test_values_of_types_beyond_yaml_pass_unchecked() -> None:
    """A parameter that asks for a class of Python's own world takes what a Python caller gives it, the very object."""
    registry: Registry[Any] = Registry("shape", {}, group="tests.shapes")

    @registry.register("holder")
    class Holder:
        def __init__(self, shape: Path | Registry[Any], bare=None) -> None:  # type: ignore[no-untyped-def]
            self.shape, self.bare = shape, bare

    held, bare = Registry[Any]("inner", {}, group="tests.shapes"), object()
    made = registry.make("holder", "x.yaml", shape=held, bare=bare)
    assert made.shape is held
    assert made.bare is bare


def test_annotations_for_type_checkers_only_are_passed_over(shapes: "Registry[Any]", write_module: WriteModule) -> None:
    """A constructor whose annotations cannot be resolved at run time still gets its keys."""
    source = "import shapes_ours\nclass Late(shapes_ours.Shape):\n    def __init__(self, x: 'Missing'): self.x = x\n"
    write_module("shapes_late.py", source)
    assert shapes.make("shapes_late:Late", "x.yaml", x=4).x == 4


def test_keys_are_listed_as_the_constructor_writes_them(shapes: "Registry[Any]") -> None:
    """`keywords` gives names, annotations and defaults in order."""
    assert [str(key) for key in shapes.keywords("square").values()] == [
        "side: int",
        "colour: str = 'red'",
        "corners: tuple[int, ...] = ()",
        "scale: float = 1.0",
    ]


def test_the_same_task_from_two_modules_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of tasks/ imported as `tasks.x`, beside ubertrain.tasks.x, cannot register its task a second time."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    monkeypatch.setitem(sys.modules, "tasks", importlib.import_module("tasks"))
    with pytest.raises(ConfigError, match="already registered by ubertrain.tasks.boxes:Boxes; refusing tasks.boxes:Boxes"):
        importlib.import_module("tasks.boxes")
    assert TASKS.get("boxes").__module__ == "ubertrain.tasks.boxes"


@pytest.mark.parametrize(("registry", "name"), [(kind, name) for kind in (TASKS, TRUNKS, READERS) for name in kind.names()])
def test_every_built_in_name_leads_to_its_class(registry: "Registry[Any]", name: str) -> None:
    """Every line of the tables can be imported, and a task is called what its line says."""
    found = registry.get(name)
    assert registry is not TASKS or found.name == name


def test_a_registered_task_knows_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`register_task` sets the class's name; a class derived from it can be registered under another."""
    monkeypatch.setattr(TASKS, "_paths", dict(TASKS._paths))
    monkeypatch.setattr(TASKS, "_classes", dict(TASKS._classes))

    @register_task("shade")
    class Shade(Task): ...  # type: ignore[misc]

    @register_task("shadow")
    class Shadow(Shade): ...

    assert (Shade.name, Shadow.name, Task.name) == ("shade", "shadow", "")
    assert TASKS.get("shade") is Shade


def test_a_task_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that is registered under two names is an error, since it could answer to one only."""
    monkeypatch.setattr(TASKS, "_paths", dict(TASKS._paths))
    monkeypatch.setattr(TASKS, "_classes", dict(TASKS._classes))

    class Shade(Task): ...

    register_task("shade")(Shade)
    with pytest.raises(ConfigError, match="is already called 'shade'; derive a class to call 'shadow'"):
        register_task("shadow")(Shade)
