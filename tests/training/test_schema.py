"""The schema of configurations."""

from ubertrain.training.config import Config
from ubertrain.training.schema import schema


def test_it_knows_the_keys_of_a_file() -> None:
    """Those of a configuration, and the two that say what it stands on; each of these is described."""
    properties = schema()["properties"]
    assert list(properties) == ["base", "only", *Config.model_fields]
    assert all(properties[key]["description"] for key in ("base", "only"))


def test_only_goes_as_deep_as_the_mappings() -> None:
    """A list of keys, or a mapping of the same."""
    only = schema()["$defs"]["Only"]
    assert schema()["properties"]["only"]["$ref"] == "#/$defs/Only"
    kinds = [kind["type"] for kind in only["anyOf"]]
    assert kinds == ["array", "object"]
    assert only["anyOf"][1]["additionalProperties"] == {"$ref": "#/$defs/Only"}


def test_a_file_with_a_base_need_not_be_whole() -> None:
    """What a configuration must have, on every level, is demanded of a file without a base alone."""
    found = schema()
    assert "required" not in found
    assert not any("required" in part for part in found["$defs"].values())
    assert found["if"] == {"not": {"required": ["base"]}}
    sets = {"additionalProperties": {"required": ["type"]}}
    assert found["then"] == {
        "required": ["steps", "trunk", "tasks", "data"],
        "properties": {
            "trunk": {"required": ["name"]},
            "data": {"required": ["size", "train"], "properties": {"train": sets, "val": sets}},
        },
    }
    assert found["dependentRequired"] == {"only": ["base"]}
