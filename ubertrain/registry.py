"""Names for classes: what YAML and the command line call a task or a trunk."""

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from importlib import import_module, metadata
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from ubertrain.errors import ConfigError, UbertrainError

if TYPE_CHECKING:  # a registry holds import paths, so that listing names imports no class
    from ubertrain.task import Task
    from ubertrain.trunks.trunk import Trunk

T = TypeVar("T")
TaskClass = TypeVar("TaskClass", bound="type[Task]")

_PATH = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


class Registry(Generic[T]):
    """Finds classes of one kind by name and constructs them from the keys of a YAML mapping.

    A name is one of ours (the table `builtin`), one that an installed package announces under the entry-point group `group`,
    one that was registered in this process, or the import path "package.module:Class" of a class that nobody registered.
    Modules are imported when a name is asked for, not before.

    A name belongs to one class, known by its import path; a second claim is an error that names both. A class that claims its
    name again under the same path takes its own place, as happens when a module is reloaded or a notebook cell is run again.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str], group: str, base: str = "") -> None:
        """An open registry.

        Args:
            kind: what the classes are, in one word, for messages.
            builtin: name -> import path "package.module:Class".
            group: the entry-point group of installed packages.
            base: import path of the class that all of them derive from; "" accepts any class.
        """
        self.kind, self._group, self._base = kind, group, base
        self._paths = dict(builtin)
        self._classes: dict[str, type[T]] = {}
        self._searched = False

    def names(self) -> list[str]:
        """Every registered name, ours first.

        Raises:
            ConfigError: an installed package announces a name that belongs to another class.
        """
        return list(self._known())

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """A class decorator that gives the class its name.

        Raises:
            ConfigError: the name belongs to another class, or to this one imported under another module name.
        """

        def add(cls: type[T]) -> type[T]:
            self._claim(name, f"{cls.__module__}:{cls.__qualname__}")
            self._classes[name] = cls
            return cls

        return add

    def get(self, name: str, where: str = "") -> type[T]:
        """The class called `name`, or at the import path `name`.

        Args:
            name: a registered name, or "package.module:Class".
            where: file and key that ask for it, for messages.

        Raises:
            ConfigError: nothing has that name, or what has it cannot be imported or is of another kind.
        """
        if ":" in name:
            return self._load(name, where)
        known = self._known()
        if name not in known:
            raise ConfigError(
                f"unknown {self.kind} {name!r}{_in(where)};{_near(name, known)} known: {', '.join(known)}; "
                'another class goes by its import path "package.module:Class"'
            )
        if name not in self._classes:
            self._classes[name] = self._load(known[name], where)
        return self._classes[name]

    def keywords(self, name: str, where: str = "") -> dict[str, inspect.Parameter]:
        """The keys that `make` accepts for `name`, with their annotations and defaults, in the constructor's order.

        Raises:
            ConfigError: as for `get`.
        """
        return _keywords(self.get(name, where))

    def make(self, name: str, where: str, /, **keywords: Any) -> T:
        """An instance of the class called `name`.

        Values are checked against the annotations of the constructor and converted to them as pydantic does it: a list from
        YAML becomes a tuple, "1e-3" a float.

        Args:
            name: as for `get`.
            where: file and key that ask for it, for messages.
            keywords: the arguments of the constructor.

        Raises:
            ConfigError: as for `get`; a key is unknown, missing or of another type; the constructor refuses a value with a
                `TypeError` or `ValueError`.
            UbertrainError: what else the constructor raises of ours, e.g. `DataError`, with `where` put in front.
        """
        cls = self.get(name, where)
        what = f"{self.kind} {name!r}{_in(where)}"
        values = _checked(cls, keywords, what)
        try:
            return cls(**values)
        except UbertrainError as error:
            raise type(error)(f"{what}: {error}") from error
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{what}: {error}") from error

    def check(self, name: str, where: str, /, **keywords: Any) -> None:
        """Raise as `make` would for a key that is unknown or of another type; what is missing may yet come. Nothing is made."""
        cls = self.get(name, where)
        _converted_all(cls, keywords, f"{self.kind} {name!r}{_in(where)}")

    def _known(self) -> dict[str, str]:
        """Name -> import path; installed packages are searched at the first need."""
        if not self._searched:
            for point in metadata.entry_points(group=self._group):
                self._claim(point.name, f"{point.module}:{point.attr}")
            self._searched = True
        return self._paths

    def _claim(self, name: str, path: str) -> None:
        owner = self._paths.setdefault(name, path)
        if owner != path:
            raise ConfigError(f"{self.kind} {name!r} is already registered by {owner}; refusing {path}: a name has one class")

    def _load(self, path: str, where: str) -> type[T]:
        """The class at an import path, which need not be registered."""
        what = f"{self.kind} {path!r}{_in(where)}"
        try:
            found = _imported(path)
        except ImportError as error:
            raise ConfigError(
                f"{what} cannot be imported: {error}; modules are looked for in the folder you work in, on "
                "PYTHONPATH and among installed packages"
            ) from error
        base: type = _imported(self._base) if self._base else object
        if not (isinstance(found, type) and issubclass(found, base)):
            raise ConfigError(f"{what} is {found!r}; expected a class that derives from {self._base or 'object'}")
        return cast("type[T]", found)


TASKS: "Registry[Task]" = Registry(
    kind="task",
    builtin={
        "boxes": "ubertrain.tasks.boxes:Boxes",
        "segmentation": "ubertrain.tasks.segmentation:Segmentation",
        "depth": "ubertrain.tasks.depth:Depth",
        "normals": "ubertrain.tasks.normals:Normals",
        "stereo_depth": "ubertrain.tasks.stereo_depth:StereoDepth",
        "boundaries": "ubertrain.tasks.boundaries:Boundaries",
        "semantic_boundaries": "ubertrain.tasks.semantic_boundaries:SemanticBoundaries",
        "saliency": "ubertrain.tasks.saliency:Saliency",
        "parts": "ubertrain.tasks.parts:Parts",
    },
    group="ubertrain.tasks",
    base="ubertrain.task:Task",
)
"""Every task by name. A new file in tasks/ gets its line here."""

TRUNKS: "Registry[Trunk]" = Registry(
    kind="trunk",
    builtin={
        "vgg16": "ubertrain.trunks.vgg:VGG16",
        "resnet18": "ubertrain.trunks.resnet:ResNet18",
        "resnet34": "ubertrain.trunks.resnet:ResNet34",
        "resnet50": "ubertrain.trunks.resnet:ResNet50",
        "efficientnet_lite0": "ubertrain.trunks.efficientnet_lite:EfficientNetLite0",
    },
    group="ubertrain.trunks",
    base="ubertrain.trunks.trunk:Trunk",
)
"""Every trunk by name."""


def register_task(name: str) -> Callable[[TaskClass], TaskClass]:
    """A class decorator that makes a `Task` known as `name` and sets its `name`.

    Raises:
        ConfigError: the name belongs to another task, or the class already has another name.
    """

    def add(cls: TaskClass) -> TaskClass:
        own = vars(cls).get("name") or name
        if own != name:
            raise ConfigError(f"{cls.__module__}:{cls.__qualname__} is already called {own!r}; derive a class to call {name!r}")
        TASKS.register(name)(cls)
        cls.name = name
        return cls

    return add


def _imported(path: str) -> Any:
    """What stands at the import path `path`."""
    if not _PATH.fullmatch(path):
        raise ImportError('an import path is written "package.module:Class"')
    module_name, _, qualname = path.partition(":")
    module = import_module(module_name)
    try:
        return attrgetter(qualname)(module)
    except AttributeError as error:
        raise ImportError(f"{module_name} has no {qualname!r};{_near(qualname, dir(module))}".rstrip(";")) from error


def _keywords(cls: type) -> dict[str, inspect.Parameter]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: key for name, key in inspect.signature(cls).parameters.items() if key.kind not in variadic}


def _checked(cls: type, keywords: Mapping[str, Any], what: str) -> dict[str, Any]:
    """`keywords`, none missing, as the constructor of `cls` wants them; `what` begins the message if it does not."""
    values, keys = _converted_all(cls, keywords, what), _keywords(cls)
    missing = [name for name, key in keys.items() if key.default is key.empty and name not in keywords]
    if missing:
        raise ConfigError(f"{what} needs the key {missing[0]!r}; allowed: {', '.join(keys)}")
    return values


def _converted_all(cls: type, keywords: Mapping[str, Any], what: str) -> dict[str, Any]:
    """`keywords`, each known and of the type that the constructor of `cls` wants."""
    keys = _keywords(cls)
    takes_any = any(key.kind is inspect.Parameter.VAR_KEYWORD for key in inspect.signature(cls).parameters.values())
    for name in keywords:
        if name not in keys and not takes_any:
            raise ConfigError(f"unknown key {name!r} for {what};{_near(name, keys)} allowed: {', '.join(keys) or 'none'}")
    hints = _hints(cls)
    return {name: _converted(value, hints.get(name, Any), f"{what}: key {name!r}") for name, value in keywords.items()}


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.getattr_static(cls, "__init__"))
    except NameError:  # annotations that exist for type checkers only
        return {}


def _converted(value: Any, hint: Any, what: str) -> Any:
    """`value` as the type `hint`."""
    try:
        adapter = TypeAdapter(hint)
    except PydanticUserError:  # a class unknown to pydantic: no YAML value, so the caller is Python and means it
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"[{part!r}]" for part in problem["loc"])
        raise ConfigError(f"{what}{place}: {problem['msg']}; got {problem['input']!r}") from error


def _in(where: str) -> str:
    return f" in {where}" if where else ""


def _near(name: str, known: Collection[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1)
    return f" did you mean {match[0]!r}?" if match else ""
