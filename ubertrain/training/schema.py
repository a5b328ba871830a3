"""The JSON schema of a configuration's file, for editors that complete and check YAML."""

from collections.abc import Mapping
from typing import Any

from ubertrain.training.config import Config

_BASE = {
    "base": {
        "title": "Base",
        "type": "string",
        "description": "Another configuration that this one stands on, beside it unless the path is absolute: mappings are "
        "joined key by key, anything else replaces what the base has.",
    },
    "only": {
        "$ref": "#/$defs/Only",
        "description": "Which keys of the base's mappings stay, such as {tasks: [depth], data: {train: [rooms]}}; mappings "
        "that it does not name stay whole.",
    },
}
_ONLY = {
    "title": "Only",
    "description": "A list of the keys that stay, or a mapping that goes deeper.",
    "anyOf": [
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "additionalProperties": {"$ref": "#/$defs/Only"}},
    ],
}


def schema() -> dict[str, Any]:
    """That of what `load` reads: the keys of `Config`, and `base` and `only`, which are resolved before.

    A file with a base says what is different; so the keys that a configuration must have are demanded of a file without one.
    """
    found = Config.model_json_schema()
    demands = _demands(found, found["$defs"])
    for part in (found, *found["$defs"].values()):
        part.pop("required", None)
    return {
        **found,
        "properties": {**_BASE, **found["properties"]},
        "dependentRequired": {"only": ["base"]},
        "if": {"not": {"required": ["base"]}},
        "then": demands,
        "$defs": {**found["$defs"], "Only": _ONLY},
    }


def _demands(part: Any, defs: Mapping[str, Any]) -> dict[str, Any]:
    """What of a schema says which keys must be there, on every level."""
    if not isinstance(part, Mapping):
        return {}
    if "$ref" in part:
        part = defs[part["$ref"].rpartition("/")[2]]
    found = {"required": part["required"]} if "required" in part else {}
    inner = {name: deeper for name, item in part.get("properties", {}).items() if (deeper := _demands(item, defs))}
    others = _demands(part.get("additionalProperties"), defs)
    return found | ({"properties": inner} if inner else {}) | ({"additionalProperties": others} if others else {})
