"""YAML that remembers the line of every value and fills in `${NAME}` from the environment."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ubertrain.errors import ConfigError
from ubertrain.training.yaml_base import Places, forget, keep, lay_over

KeyPath = tuple[str | int, ...]
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Origin:
    """Where the values of a configuration were written.

    Attributes:
        file: the file, as the user named it.
        places: key path -> "file:line", or the `--set` option that gave the value.
    """

    file: str = "configuration"
    places: Mapping[KeyPath, str] = field(default_factory=dict)

    def where(self, *path: str | int) -> str:
        """The "file:line" of the value at `path`, or of the nearest mapping around it that was written down."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.file


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number too: YAML 1.1 wants 1.0e-4 and takes anything shorter for a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


def read_yaml(path: str | Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Origin]:
    """The mapping in a YAML file after `overrides` ("a.b=value"), and where each value came from.

    A file may stand on another: `base: OTHER.yaml`, beside it unless the path is absolute. It has the base's values and its
    own; mappings are joined key by key, anything else replaces what the base has. `only` says which keys of the base's mappings
    stay, e.g. `only: {tasks: [depth], data: {train: [rooms]}}`. A base may have a base.

    Raises:
        ConfigError: the file is missing or is not a YAML mapping, a key stands twice, a variable of the environment is not
            set, a base leads back to the file, or an override does not parse. Names file and line.
    """
    values, places = _read(Path(path), ())
    for override in overrides:
        _override(values, override, places)
    return values, Origin(str(path), places)


def _read(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], Places]:
    """The values of a file and of its bases, and their places; `above` are the files that stand on it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot read the configuration: it is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror or error}") from error
    places: Places = {}
    values = _parse(text, str(path), None, (), places)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of keys (tasks, data, steps, ...), got {type(values).__name__}")
    return _on_base(path, values, places, (*above, path.resolve()))


def _on_base(path: Path, values: dict[str, Any], places: Places, above: tuple[Path, ...]) -> tuple[dict[str, Any], Places]:
    """`values` of the file `path` on top of those of its base, if it has one."""
    origin = Origin(str(path), places)
    name, only = values.pop("base", None), values.pop("only", None)
    if name is None:
        if only is not None:
            raise ConfigError(f"{origin.where('only')}: only says what stays of a base; name one (base: OTHER.yaml)")
        return values, places
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{origin.where('base')}: base must be the path of another configuration, got {name!r}")
    file = Path(os.path.normpath(path.parent / name))
    if file.resolve() in above:
        raise ConfigError(f"{origin.where('base')}: base: {name} leads back to this file")
    if not file.is_file():
        raise ConfigError(f"{origin.where('base')}: base: there is no file {file}")
    merged, merged_places = _read(file, above)
    if only is not None:
        keep(merged, merged_places, only, origin.where("only"))
    lay_over(merged, merged_places, values, places)
    return merged, merged_places


def _parse(text: str, file: str, place: str | None, path: KeyPath, places: Places) -> Any:
    """The value that `text` holds; fills `places`. `place` replaces "file:line" where there is no file."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _Reader(loader, file, place, places).value(node, path)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{place or file + line}: not valid YAML: {error.problem or error.context}") from error
    finally:
        loader.dispose()


@dataclass
class _Reader:
    """Turns YAML nodes into values and notes their places."""

    loader: _Loader
    file: str
    place: str | None
    places: Places

    def where(self, node: yaml.Node) -> str:
        return self.place or f"{self.file}:{node.start_mark.line + 1}"

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.places.setdefault(path, self.where(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self.scalar(node)

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        written = [key.value for key, _ in node.value]
        for (key, _), name in zip(node.value, written, strict=True):
            if written.count(name) > 1 and name != "<<":
                raise ConfigError(f"{self.where(key)}: the key {name!r} stands {written.count(name)} times here; keep one")
        self.loader.flatten_mapping(node)
        result = {}
        for key, item in node.value:
            self.places[*path, str(key.value)] = self.where(key)
            result[str(key.value)] = self.value(item, (*path, str(key.value)))
        return result

    def scalar(self, node: yaml.ScalarNode) -> Any:
        text = _VARIABLE.sub(lambda match: self.variable(match[1], node), node.value)
        if text != node.value:
            plain = node.style is None
            tag = self.loader.resolve(yaml.ScalarNode, text, (True, False)) if plain else node.tag
            node = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark, node.style)
        return self.loader.construct_object(node)

    def variable(self, name: str, node: yaml.Node) -> str:
        if name not in os.environ:
            raise ConfigError(
                f"{self.where(node)}: ${{{name}}} is used, but {name} is not set in the environment; "
                f"set it (export {name}=...) or write the value instead"
            )
        return os.environ[name]


def _override(values: dict[str, Any], override: str, places: Places) -> None:
    """Apply one "a.b=value"; the value is read as YAML."""
    name, equals, text = override.partition("=")
    path = tuple(name.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {override}: expected key=value with dots between keys, such as optimizer.lr=0.01")
    place = f"--set {override}"
    for depth, key in enumerate(path[:-1]):
        values = values.setdefault(key, {})
        places.setdefault(path[: depth + 1], place)
        if not isinstance(values, dict):
            raise ConfigError(f"{place}: {'.'.join(path[: depth + 1])} is {values!r}, which has no keys to set")
    forget(places, path)
    values[path[-1]] = _parse(text, place, place, path, places)
    places[path] = place
